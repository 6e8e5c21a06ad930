//! Templates, and sessions made from them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use axum::body::Body;
use common::database::is_postgres;
use common::live::sql;
use common::{Act, Answer, Backend, Server, condition, register};
use http::StatusCode;
use serde_json::{Value, json};

const TEMPLATES: &str = "/api/v1/templates";

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

/// A server with a controller of each type.
async fn start_with(kinds: &[&'static str]) -> (tempfile::TempDir, Vec<Backend>, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(common::config(folder.path()), None).await;
    let mut backends = Vec::new();
    for kind in kinds {
        let backend = Backend::default();
        backend.with(|state| state.controller_type = Some(kind));
        register(server.control(), kind, &backend).await;
        backends.push(backend);
    }
    (folder, backends, server)
}

fn field(answer: &Answer) -> String {
    answer.json()["errors"][0]["field"].as_str().unwrap_or_default().to_owned()
}

async fn put(server: &Server, name: &str, body: &Value) -> Answer {
    server.call(&server.token, "PUT", &format!("{TEMPLATES}/{name}"), Some(body)).await
}

async fn import(server: &Server, query: &str, yaml: &str) -> Answer {
    let request =
        server.request("POST", &format!("{TEMPLATES}{query}")).header("content-type", "application/yaml");
    server.send(request.body(Body::from(yaml.to_owned())).unwrap()).await
}

async fn made(server: &Server, body: &Value) -> Value {
    let answer = server.post("/api/v1/sessions?wait=30s", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.json()["phase"], "Running", "{}", answer.text);
    answer.json()
}

fn desktop() -> Value {
    json!({
        "name": "desktop", "display_name": "Desktop", "category": "Desktops", "tags": ["linux", "Büro"],
        "description": "A whole\ndesktop", "images": {"docker": "desk:1"}, "compatible_controllers": ["docker"],
        "controller_config": {"docker": {"profile": "gpu", "shm": {"size": "1Gi", "mode": "rw"}}},
        "spec": {
            "resources": {"memory": "1Gi", "cpu": "500m"}, "vnc": {"enabled": true, "port": 5901},
            "env": [{"name": "LANG", "value": "C"}, {"name": "PW", "value": "hunter22", "secret": true}],
            "labels": {"kind": "desktop", "team": "none"}, "idle_timeout": "30m", "ports": [{"container_port": 80}],
        },
    })
}

#[tokio::test]
async fn what_is_described_is_wanted() {
    let (folder, _backend, server) = start().await;
    let template = |spec: Value| json!({"name": "app", "spec": spec});
    let spec = json!({"base_image": "i", "webapp": {"port": 3000}, "vnc": {"enabled": false, "port": 5901}});
    let stored = server.post("/api/v1/templates", &template(spec)).await;
    assert_eq!(stored.status, StatusCode::CREATED, "{}", stored.text);
    let stored = stored.json();
    assert_eq!(stored["spec"]["webapp"], json!({"enabled": true, "port": 3000}));
    assert_eq!(stored["app_type"], "webapp");
    for (spec, webapp, vnc) in [
        (json!({}), json!(true), json!(false)),
        (json!({"webapp": {"path": "/x"}}), json!(true), json!(false)),
        (json!({"webapp": {"enabled": false}}), json!(false), json!(false)),
        // The template says that there is none; a part of it does not say otherwise.
        (json!({"vnc": {"port": 5902}}), json!(true), json!(false)),
        (json!({"vnc": {"enabled": true}}), json!(true), json!(true)),
    ] {
        let session = made(&server, &json!({"template": "app", "spec": spec})).await;
        let enabled = (&session["spec"]["webapp"]["enabled"], &session["spec"]["vnc"]["enabled"]);
        assert_eq!(enabled, (&webapp, &vnc), "{spec}");
    }
    for (spec, webapp, vnc) in [
        (json!({"base_image": "i", "webapp": {"port": 3000}}), json!(true), Value::Null),
        (json!({"base_image": "i", "vnc": {}}), Value::Null, json!(true)),
        (json!({"base_image": "i", "webapp": {"enabled": false}, "vnc": null}), json!(false), Value::Null),
    ] {
        let session = made(&server, &json!({"spec": spec})).await;
        let enabled = (&session["spec"]["webapp"]["enabled"], &session["spec"]["vnc"]["enabled"]);
        assert_eq!(enabled, (&webapp, &vnc), "{spec}");
    }
    let refused = server.post("/api/v1/sessions", &json!({"spec": {"base_image": "i", "webapp": {}}})).await;
    assert_eq!(field(&refused), "spec.webapp.port", "{}", refused.text);

    // One that was stored when it had to be said.
    let without = match is_postgres() {
        true => "body #- '{spec,webapp,enabled}'",
        false => "json_remove(body, '$.spec.webapp.enabled')",
    };
    let statement = format!("UPDATE templates SET body = {without} WHERE name = 'app'");
    assert_eq!(sql(folder.path(), &statement).await, 1);
    let old = server.get("/api/v1/templates/app").await.json();
    assert_eq!(old["spec"]["webapp"], json!({"enabled": false, "port": 3000}));
    let session = made(&server, &json!({"template": "app"})).await;
    assert_eq!(session["spec"]["webapp"]["enabled"], false);
    let request = server.request("PATCH", "/api/v1/templates/app");
    let request = request.header("content-type", "application/merge-patch+json");
    let patched = server.send(request.body(r#"{"category": "x"}"#.into()).unwrap()).await.json();
    assert_eq!((&patched["category"], &patched["spec"]["webapp"]["enabled"]), (&json!("x"), &json!(false)));
    server.stop().await;
}

#[tokio::test]
async fn templates_come_change_and_go() {
    let (_folder, _backend, server) = start().await;
    let created = server.post(TEMPLATES, &desktop()).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    assert_eq!(created.header("location"), "/api/v1/templates/desktop");
    assert_eq!((&created.json()["generation"], &created.json()["app_type"]), (&json!(1), &json!("desktop")));
    assert!(!created.text.contains("hunter22"));
    assert_eq!(server.post(TEMPLATES, &desktop()).await.status, StatusCode::CONFLICT);
    let path = format!("{TEMPLATES}/desktop");
    let read = server.get(&path).await;
    assert_eq!((&read.text, read.header("etag")), (&created.text, created.header("etag")));

    // What was read can be written back, and changes nothing; hidden values stay what they are.
    let same = put(&server, "desktop", &read.json()).await;
    assert_eq!((same.status, &same.text), (StatusCode::OK, &read.text));
    let patch =
        json!({"category": "Work", "spec": {"resources": {"cpu": null, "memory": "2Gi"}, "ports": null}});
    let patched = server.call(&server.token, "PATCH", &path, Some(&patch)).await.json();
    assert_eq!((&patched["category"], &patched["generation"]), (&json!("Work"), &json!(2)));
    assert_eq!(patched["spec"]["resources"], json!({"memory": "2Gi"}));
    assert!(patched["spec"].get("ports").is_none());
    for (body, at) in [
        (json!({"name": "other"}), "name"),
        (json!({"spec": {"resources": {"memory": "lots"}}}), "spec.resources.memory"),
        (
            json!({"spec": {"env": [{"name": "NEW", "value": "[redacted]", "secret": true}]}}),
            "spec.env[0].value",
        ),
        (json!({"preferred_controller": "kvm"}), "preferred_controller"),
        (json!({"spec": 7}), "spec"),
        (json!([]), ""),
    ] {
        let refused = server.call(&server.token, "PATCH", &path, Some(&body)).await;
        assert!(refused.status.is_client_error());
        assert_eq!(field(&refused), at, "{body}: {}", refused.text);
    }
    assert_eq!(server.get(&path).await.json(), patched);

    let named = put(&server, "%C3%BC%20x", &json!({"images": {"docker": "i"}})).await;
    assert_eq!(
        (named.status, named.header("location")),
        (StatusCode::CREATED, "/api/v1/templates/%C3%BC%20x")
    );
    assert_eq!((&named.json()["name"], &named.json()["display_name"]), (&json!("ü x"), &json!("ü x")));
    assert_eq!(field(&put(&server, "%07", &json!({})).await), "name");
    assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
    for method in ["GET", "DELETE", "PATCH"] {
        let body = json!({});
        let body = (method == "PATCH").then_some(&body);
        assert_eq!(server.call(&server.token, method, &path, body).await.status, StatusCode::NOT_FOUND);
    }
    server.stop().await;
}

#[tokio::test]
async fn two_editors_do_not_overwrite_each_other() {
    let (_folder, _backend, server) = start().await;
    let path = format!("{TEMPLATES}/desktop");
    let call = async |method: &str, header: (&str, &str), body: Value| {
        let body = (method != "DELETE").then_some(&body);
        server.call_with(&server.token, method, &path, &[header], body).await
    };
    assert_eq!(call("PUT", ("if-match", "*"), json!({})).await.status, StatusCode::NOT_FOUND);
    let first = call("PUT", ("if-none-match", "*"), json!({"category": "a"})).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    assert_eq!(call("PUT", ("if-none-match", "*"), json!({})).await.status, StatusCode::PRECONDITION_FAILED);
    let tag = first.header("etag").to_owned();
    let second = call("PATCH", ("if-match", &tag), json!({"category": "b"})).await;
    assert_eq!(second.status, StatusCode::OK);
    assert_ne!(second.header("etag"), tag);
    for method in ["PUT", "PATCH", "DELETE"] {
        for stale in [tag.as_str(), "\"nonsense\"", "W/\"1-1\""] {
            let refused = call(method, ("if-match", stale), json!({"category": "c"})).await;
            assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED, "{method} {stale}");
        }
        let refused = call(method, ("if-match", "\"1-1\", \"2-2\""), json!({})).await;
        assert_eq!((refused.status, field(&refused).as_str()), (StatusCode::BAD_REQUEST, "if-match"));
    }
    assert_eq!(server.get(&path).await.json()["category"], "b");
    let current = second.header("etag").to_owned();
    assert_eq!(call("DELETE", ("if-match", &current), json!({})).await.status, StatusCode::NO_CONTENT);
    // Made again it counts from one again, and is another one nevertheless.
    let again = call("PUT", ("if-none-match", "*"), json!({"category": "a"})).await;
    assert_eq!(again.json()["generation"], 1);
    assert_eq!(call("PUT", ("if-match", &tag), json!({})).await.status, StatusCode::PRECONDITION_FAILED);

    // Patches of many at once are all there in the end.
    let patches: Vec<_> = (0..6).map(|index| json!({"images": {format!("type{index}"): "i"}})).collect();
    let all = patches.iter().map(|patch| server.call(&server.token, "PATCH", &path, Some(patch)));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
    assert_eq!(server.get(&path).await.json()["images"].as_object().unwrap().len(), 6);
    server.stop().await;
}

#[tokio::test]
async fn templates_are_found() {
    let (_folder, _backend, server) = start().await;
    server.post(TEMPLATES, &desktop()).await;
    for (name, body) in [
        (
            "app",
            json!({"category": "Web", "spec": {"base_image": "i", "webapp": {"enabled": true, "port": 80}}}),
        ),
        ("vm", json!({"category": "Desktops", "images": {"kvm": "disk:x"}})),
        ("zzz", json!({"description": "Über Tische"})),
    ] {
        assert_eq!(put(&server, name, &body).await.status, StatusCode::CREATED);
    }
    for (query, expected) in [
        ("", vec!["app", "desktop", "vm", "zzz"]),
        ("category=Desktops", vec!["desktop", "vm"]),
        ("tag=linux", vec!["desktop"]),
        ("controller_type=docker", vec!["app", "desktop"]),
        ("controller_type=kvm", vec!["app", "vm"]),
        ("app_type=webapp", vec!["app"]),
        ("search=%C3%9CBER", vec!["zzz"]),
        ("search=b%C3%BCro", vec!["desktop"]),
        ("search=desk&category=Desktops", vec!["desktop", "vm"]),
        ("search=nothing", vec![]),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("{TEMPLATES}?limit=1&{query}{cursor}")).await.json();
            let names = page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["name"].as_str().unwrap().to_owned());
            seen.extend(names);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{query}");
        let whole = server.get(&format!("{TEMPLATES}?{query}")).await.json();
        assert_eq!(whole["items"].as_array().unwrap().len(), expected.len());
    }
    for query in ["limit=0", "app_type=x", "cursor=zz", "colour=red"] {
        assert_eq!(
            server.get(&format!("{TEMPLATES}?{query}")).await.status,
            StatusCode::BAD_REQUEST,
            "{query}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_takes_what_the_template_says_unless_told_otherwise() {
    let (_folder, backend, server) = start().await;
    server.post(TEMPLATES, &desktop()).await;
    let plain = made(&server, &json!({"template_id": "desktop"})).await;
    assert_eq!((&plain["template_id"], &plain["spec"]["base_image"]), (&json!("desktop"), &json!("desk:1")));
    assert!(!plain.to_string().contains("hunter22"));
    let asked = backend.with(|state| state.last_create.clone()).unwrap();
    let spec = asked.spec.unwrap();
    assert_eq!((spec.base_image.as_str(), spec.env[1].value.as_str()), ("desk:1", "hunter22"));
    assert_eq!((asked.template_id.as_str(), asked.spec_hash.len()), ("desktop", 64));
    let config: Value = serde_json::from_str(&asked.controller_config).unwrap();
    assert_eq!(config, json!({"profile": "gpu", "shm": {"size": "1Gi", "mode": "rw"}}));

    let body = json!({
        "template": "desktop", "controller_config": {"shm": {"size": "2Gi"}},
        "spec": {
            "base_image": "mine:2", "resources": {"cpu": "2"}, "idle_timeout": "", "ports": [],
            "env": [{"name": "LANG", "value": "de"}, {"name": "X", "value": "1"}],
            "labels": {"team": "a"}, "vnc": {"port": 5902},
        },
    });
    let own = made(&server, &body).await;
    let spec = &own["spec"];
    for (pointer, expected) in [
        ("/base_image", json!("mine:2")),
        ("/resources", json!({"memory": "1Gi", "cpu": "2", "storage": ""})),
        ("/idle_timeout", json!("")),
        ("/ports", json!([])),
        ("/labels", json!({"kind": "desktop", "team": "a"})),
        ("/vnc", json!({"enabled": true, "port": 5902, "protocol": "rfb"})),
        ("/env/0", json!({"name": "LANG", "value": "de"})),
        ("/env/1", json!({"name": "PW", "value": "[redacted]", "secret": true})),
        ("/env/2", json!({"name": "X", "value": "1"})),
    ] {
        assert_eq!(spec.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(own["controller_config"], json!({"profile": "gpu", "shm": {"size": "2Gi", "mode": "rw"}}));

    // Faults are named by their places in the request.
    for (body, at) in [
        (json!({"template": "desktop", "spec": {"env": [{"name": "A"}, {"name": "A"}]}}), "spec.env[1].name"),
        (json!({"template": "desktop", "spec": {"resources": {"memory": "x"}}}), "spec.resources.memory"),
        (json!({"template": "desktop", "spec": {"webapp": {"enabled": true}}}), "spec.webapp.port"),
        (json!({"template": "nothing"}), "template_id"),
        (json!({"template": "desktop", "template_id": "desktop"}), ""),
    ] {
        let refused = server.post("/api/v1/sessions", &body).await;
        assert!(refused.status.is_client_error());
        assert_eq!(field(&refused), at, "{}", refused.text);
    }
    let listed = server.get("/api/v1/sessions?template_id=desktop").await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert_eq!(server.get("/api/v1/sessions?template_id=other").await.json()["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_session_does_not_change_with_its_template() {
    let (folder, backend, server) = start().await;
    server.post(TEMPLATES, &desktop()).await;
    let running = made(&server, &json!({"template": "desktop"})).await;
    // One that waits for room has its template's version as well.
    backend.with(|state| state.max_sessions = 1);
    common::eventually("full", async || {
        server.get("/api/v1/admin/controllers").await.json()[0]["capabilities"]["capacity"]["max_sessions"]
            == 1
    })
    .await;
    let waiting = server.post("/api/v1/sessions", &json!({"template": "desktop"})).await;
    assert_eq!(condition(&waiting.json(), "Scheduled")["reason"], "Unschedulable", "{}", waiting.text);

    let mut other = desktop();
    other["images"]["docker"] = json!("desk:2");
    other["spec"]["resources"]["memory"] = json!("9Gi");
    assert_eq!(put(&server, "desktop", &other).await.status, StatusCode::OK);
    assert_eq!(server.delete(&format!("{TEMPLATES}/desktop")).await.status, StatusCode::NO_CONTENT);
    server.stop().await;
    let server = Server::start(folder.path(), &backend).await;

    let running_id = running["id"].as_str().unwrap();
    let still = server.session(running_id).await;
    assert_eq!((&still["spec"], &still["template_id"]), (&running["spec"], &json!("desktop")));
    server.delete(&format!("/api/v1/sessions/{running_id}?wait=30s")).await;
    let placed = server.phase(&waiting.id(), "Running").await;
    assert_eq!(
        (&placed["spec"], &placed["controller_config"]),
        (&running["spec"], &running["controller_config"])
    );
    let asked = backend.with(|state| state.last_create.clone()).unwrap();
    assert_eq!(asked.spec.unwrap().base_image, "desk:1");
    server.stop().await;
}

#[tokio::test]
async fn the_hash_is_of_what_was_resolved() {
    let (_folder, backend, server) = start().await;
    server.post(TEMPLATES, &desktop()).await;
    let hash = || backend.with(|state| state.last_create.clone()).unwrap().spec_hash;
    made(&server, &json!({"template": "desktop"})).await;
    let first = hash();
    made(&server, &json!({"template": "desktop"})).await;
    assert_eq!(hash(), first);
    put(&server, "desktop", &json!({"images": {"docker": "desk:2"}})).await;
    made(&server, &json!({"template": "desktop"})).await;
    assert_ne!(hash(), first);
    server.stop().await;
}

#[tokio::test]
async fn placement_by_template() {
    let (_folder, backends, server) = start_with(&["kubernetes", "docker", "kvm"]).await;
    let images = json!({"docker": "d:1", "kvm": "disk:1"});
    put(&server, "multi", &json!({"images": images})).await;
    put(&server, "prefers", &json!({"images": images, "preferred_controller": "kvm"})).await;
    put(&server, "shared", &json!({"spec": {"base_image": "s:1"}, "images": {"kvm": "disk:1"}})).await;
    put(&server, "closed", &json!({"compatible_controllers": ["docker"], "images": {"docker": "d:1"}})).await;
    put(&server, "esxi", &json!({"images": {"esxi": "vm:1"}})).await;
    put(&server, "bare", &json!({"category": "x"})).await;

    for (body, kind, image) in [
        (json!({"template": "multi", "controller_type": "kvm"}), "kvm", "disk:1"),
        (json!({"template": "prefers"}), "kvm", "disk:1"),
        (json!({"template": "prefers", "controller_type": "docker"}), "docker", "d:1"),
        (json!({"template": "shared"}), "kubernetes", "s:1"),
        (json!({"template": "shared", "controller_type": "kvm"}), "kvm", "disk:1"),
        (
            json!({"template": "multi", "spec": {"base_image": "own"}, "controller_type": "kubernetes"}),
            "kubernetes",
            "own",
        ),
        (json!({"template": "closed", "spec": {"base_image": "own"}}), "docker", "own"),
        (json!({"template": "bare", "spec": {"base_image": "own"}}), "kubernetes", "own"),
    ] {
        let session = made(&server, &body).await;
        assert_eq!(
            (&session["controller_type"], &session["spec"]["base_image"]),
            (&json!(kind), &json!(image)),
            "{body}"
        );
        server.delete(&format!("/api/v1/sessions/{}?wait=30s", session["id"].as_str().unwrap())).await;
    }

    // Two that are as good as each other, and each gets its own image; never the default type, which has none.
    let session = made(&server, &json!({"template": "multi"})).await;
    let placed =
        (session["controller_type"].as_str().unwrap(), session["spec"]["base_image"].as_str().unwrap());
    assert!([("docker", "d:1"), ("kvm", "disk:1")].contains(&placed), "{placed:?}");
    let why =
        server.get(&format!("/api/v1/sessions/{}/explain", session["id"].as_str().unwrap())).await.json();
    let verdicts = why["placement"]["controllers"].as_array().unwrap();
    let other = verdicts.iter().find(|one| one["type"] == "kubernetes").unwrap();
    assert_eq!(
        (&other["obstacle"], &other["reason"]),
        (&json!("template"), &json!("cannot: the template has no image for type kubernetes"))
    );
    server.delete(&format!("/api/v1/sessions/{}?wait=30s", session["id"].as_str().unwrap())).await;

    let controllers = server.get("/api/v1/admin/controllers").await.json();
    let of_kind = |kind: &str| {
        let all = controllers.as_array().unwrap();
        all.iter().find(|one| one["type"] == kind).unwrap()["id"].clone()
    };
    for (body, status, at, why) in [
        (
            json!({"template": "closed", "controller_type": "kvm"}),
            422,
            "controller_type",
            "is not for type kvm",
        ),
        (
            json!({"template": "multi", "controller_type": "kubernetes"}),
            422,
            "controller_type",
            "has no image for type kubernetes",
        ),
        (
            json!({"template": "multi", "controller_id": of_kind("kubernetes")}),
            422,
            "controller_id",
            "has no image for type kubernetes",
        ),
        (
            json!({"template": "closed", "controller_id": of_kind("kvm"), "spec": {"base_image": "own"}}),
            422,
            "controller_id",
            "is not for type kvm",
        ),
        (json!({"template": "esxi"}), 503, "", "the template has no image for type kvm"),
        (json!({"template": "bare"}), 422, "spec.base_image", "is required"),
    ] {
        let refused = server.post("/api/v1/sessions", &body).await;
        assert_eq!(
            (refused.status.as_u16(), field(&refused).as_str()),
            (status, at),
            "{body}: {}",
            refused.text
        );
        assert!(refused.json()["detail"].as_str().unwrap().contains(why), "{}", refused.text);
    }
    // What is preferred and down is not silently replaced.
    backends[2].with(|state| state.health = Some(tonic::Status::unavailable("gone")));
    common::eventually("down", async || {
        let all = server.get("/api/v1/admin/controllers").await.json();
        all.as_array().unwrap().iter().any(|one| one["type"] == "kvm" && one["status"] != "healthy")
    })
    .await;
    let refused = server.post("/api/v1/sessions", &json!({"template": "prefers"})).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_request_gets_its_answer_though_the_template_is_gone() {
    let (_folder, backend, server) = start().await;
    server.post(TEMPLATES, &desktop()).await;
    let key = [("idempotency-key", "k")];
    let body = json!({"template_id": "desktop"}).to_string();
    let first = server.post_with("/api/v1/sessions", &key, body.clone()).await;
    assert_eq!(first.status, StatusCode::CREATED);
    server.phase(&first.id(), "Running").await;
    put(&server, "desktop", &json!({"category": "no image any more"})).await;
    let again = server.post_with("/api/v1/sessions", &key, body.clone()).await;
    assert_eq!((again.status, &again.text), (StatusCode::CREATED, &first.text));
    server.delete(&format!("{TEMPLATES}/desktop")).await;
    let again = server.post_with("/api/v1/sessions?wait=30s", &key, body.clone()).await;
    assert_eq!((again.status, again.id()), (StatusCode::CREATED, first.id()));
    let other = server.post_with("/api/v1/sessions", &[("idempotency-key", "l")], body).await;
    assert_eq!((other.status.as_u16(), field(&other).as_str()), (422, "template_id"));
    assert_eq!(backend.with(|state| state.made), 1);
    server.stop().await;
}

#[tokio::test]
async fn secrets_of_a_template_stay_hidden() {
    let (_folder, backend, server) = start().await;
    server.post(TEMPLATES, &desktop()).await;
    backend.script("create", [Act::Fail(tonic::Status::internal("bad password hunter22"))]);
    let session = made(&server, &json!({"template": "desktop"})).await;
    for path in [TEMPLATES.to_owned(), format!("{TEMPLATES}/desktop"), "/api/v1/sessions".to_owned()] {
        assert!(!server.get(&path).await.text.contains("hunter22"), "{path}");
    }
    assert!(!session.to_string().contains("hunter22"));
    // An editor who never saw the value does not lose it.
    let read = server.get(&format!("{TEMPLATES}/desktop")).await.json();
    let mut edited = read.clone();
    edited["category"] = json!("New");
    assert_eq!(put(&server, "desktop", &edited).await.status, StatusCode::OK);
    made(&server, &json!({"template": "desktop"})).await;
    let env = backend.with(|state| state.last_create.clone()).unwrap().spec.unwrap().env;
    assert_eq!(env[1].value, "hunter22");
    server.stop().await;
}

const FIREFOX: &str = "apiVersion: stream.space/v1alpha1
kind: Template
metadata:
  name: firefox
  namespace: workspaces
spec:
  displayName: Firefox
  description: 'A browser that renders
    web pages.'
  category: Web Browsers
  icon: https://example.org/firefox.png
  baseImage: registry.example/firefox:latest
  defaultResources:
    memory: 2Gi
    cpu: 1000m
  ports:
  - name: vnc
    containerPort: 3000
    protocol: TCP
  env:
  - name: PUID
    value: '1000'
  - name: PGID
    value: 1000
  volumeMounts:
  - name: user-home
    mountPath: /config
  kasmvnc:
    enabled: true
    port: 3000
  capabilities:
  - Network
  - Clipboard
  tags:
  - firefox
  - web browsers
";

const CODE: &str = "apiVersion: stream.streamspace.io/v1alpha1
kind: Template
metadata: {name: code, namespace: streamspace}
spec:
  displayName: Code
  baseImage: registry.example/code:1
  appType: webapp
  defaultResources:
    requests: {memory: 1Gi, cpu: 500m}
    limits: {memory: 4Gi}
  ports:
  - {name: http, containerPort: 8443}
  volumeMounts:
  - {name: data, mountPath: /data, readOnly: true}
  webapp: {enabled: true, port: 8443, path: /, healthCheck: /healthz}
  kasmvnc: {enabled: false, port: 8443}
  compatibleControllers: [docker]
  usageCount: 7
";

const DESKTOP: &str = "apiVersion: stream.space/v1alpha1
kind: Template
metadata: {name: xfce}
spec:
  displayName: XFCE
  baseImage: registry.example/xfce:1
  vnc: {port: 5901, protocol: rfb, encryption: true}
";

#[tokio::test]
async fn yaml_of_the_earlier_implementation() {
    let (_folder, backend, server) = start().await;
    let file = format!("# catalogue\n---\n{FIREFOX}---\n{CODE}\n---\n{DESKTOP}");
    let report = import(&server, "/import", &file).await;
    assert_eq!(report.status, StatusCode::OK, "{}", report.text);
    let report = report.json();
    assert_eq!((&report["imported"], &report["refused"]), (&json!(3), &json!(0)));
    let names: Vec<_> = report["items"].as_array().unwrap().iter().map(|item| item["name"].clone()).collect();
    assert_eq!(names, ["firefox", "code", "xfce"]);
    let notes = report["items"][1]["notes"].to_string();
    assert!(notes.contains("usageCount") && notes.contains("limits"), "{notes}");

    let firefox = server.get(&format!("{TEMPLATES}/firefox")).await.json();
    for (pointer, expected) in [
        ("/display_name", json!("Firefox")),
        ("/description", json!("A browser that renders web pages.")),
        ("/app_type", json!("desktop")),
        (
            "/images",
            json!({"docker": "registry.example/firefox:latest", "kubernetes": "registry.example/firefox:latest"}),
        ),
        ("/compatible_controllers", json!(["docker", "kubernetes"])),
        ("/capabilities", json!(["Network", "Clipboard"])),
        ("/tags", json!(["firefox", "web browsers"])),
        ("/spec/resources", json!({"memory": "2Gi", "cpu": "1000m"})),
        ("/spec/env/1", json!({"name": "PGID", "value": "1000"})),
        ("/spec/persistent_home", json!(true)),
        ("/spec/vnc", json!({"enabled": true, "port": 3000, "protocol": "kasmvnc"})),
    ] {
        assert_eq!(firefox.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(firefox["spec"].get("volume_mounts").is_none());
    let code = server.get(&format!("{TEMPLATES}/code")).await.json();
    for (pointer, expected) in [
        ("/app_type", json!("webapp")),
        ("/compatible_controllers", json!(["docker"])),
        ("/spec/base_image", json!("registry.example/code:1")),
        ("/spec/resources", json!({"memory": "4Gi", "cpu": "500m"})),
        ("/spec/volume_mounts", json!([{"name": "data", "mount_path": "/data", "read_only": true}])),
        ("/spec/webapp", json!({"enabled": true, "port": 8443, "path": "/", "health_check": "/healthz"})),
    ] {
        assert_eq!(code.pointer(pointer), Some(&expected), "{pointer}");
    }
    made(&server, &json!({"template": "xfce"})).await;
    let spec = backend.with(|state| state.last_create.clone()).unwrap().spec.unwrap();
    assert_eq!((spec.base_image.as_str(), spec.vnc.unwrap().port), ("registry.example/xfce:1", 5901));

    // The same again changes nothing; another of the same name needs leave.
    let again = import(&server, "", &file).await.json();
    assert!(again["items"].as_array().unwrap().iter().all(|item| item["result"] == "unchanged"), "{again}");
    let newer = FIREFOX.replace("Web Browsers", "Browsers");
    assert_eq!(import(&server, "", &newer).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let replaced = import(&server, "/import?replace=true", &newer).await.json();
    assert_eq!(replaced["items"][0]["result"], "replaced");
    assert_eq!(server.get(&format!("{TEMPLATES}/firefox")).await.json()["category"], "Browsers");
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_imported_says_why_and_leaves_nothing() {
    let (_folder, _backend, server) = start().await;
    let named = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: stream.space/v1alpha1\nkind: Template\nmetadata: {{name: {name}}}\nspec:\n  displayName: X\n{spec}"
        )
    };
    let image = "  baseImage: i:1\n";
    let documents = [
        (named("good", image), "", ""),
        (
            named("memory", &format!("{image}  defaultResources: {{memory: lots}}\n")),
            "spec.resources.memory",
            "",
        ),
        (named("bare", ""), "spec.baseImage", "required"),
        (
            named("from", &format!("{image}  env: [{{name: A, valueFrom: {{x: y}}}}]\n")),
            "spec.env[0].valueFrom",
            "",
        ),
        (
            named("both", &format!("{image}  vnc: {{port: 5900}}\n  kasmvnc: {{port: 3000}}\n")),
            "spec.kasmvnc",
            "",
        ),
        ("---\nkind: Deployment\napiVersion: apps/v1\n".to_owned(), "kind", "not one of"),
        ("---\na: [1\n".to_owned(), "", "not YAML"),
        (named("good", image), "metadata.name", "more than once"),
        (named("a/b", image), "name", ""),
        (named("ports", &format!("{image}  ports: 80\n")), "spec.ports", "list"),
        (named("number", &format!("{image}  tags: [1]\n")), "tags[0]", ""),
    ];
    let file: String = documents.iter().map(|(text, ..)| text.as_str()).collect();
    let answer = import(&server, "/import", &file).await;
    assert_eq!(answer.status, StatusCode::MULTI_STATUS, "{}", answer.text);
    let report = answer.json();
    assert_eq!((&report["imported"], &report["refused"]), (&json!(1), &json!(10)));
    for (item, (text, at, why)) in report["items"].as_array().unwrap().iter().zip(&documents) {
        if at.is_empty() && why.is_empty() {
            assert_eq!(item["result"], "created");
            continue;
        }
        assert_eq!(
            (&item["result"], &item["errors"][0]["field"]),
            (&json!("refused"), &json!(at)),
            "{text}{item}"
        );
        assert!(item["errors"][0]["message"].as_str().unwrap().contains(why), "{item}");
    }
    assert_eq!(server.get(TEMPLATES).await.json()["items"].as_array().unwrap().len(), 1);

    let nothing = import(&server, "/import", &documents[2].0).await;
    assert_eq!((nothing.status.as_u16(), field(&nothing).as_str()), (422, "documents[1].spec.baseImage"));
    assert_eq!(import(&server, "/import", "# empty\n").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(import(&server, "/import?replace=maybe", FIREFOX).await.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

#[tokio::test]
async fn the_examples_can_be_used() {
    let (_folder, _backend, server) = start().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../templates");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let answer = match path.extension().and_then(|kind| kind.to_str()) {
            Some("json") => server.post_with(TEMPLATES, &[], text).await,
            Some("yaml") => import(&server, "/import", &text).await,
            _ => continue,
        };
        assert!(matches!(answer.status.as_u16(), 200 | 201), "{}: {}", path.display(), answer.text);
        count += 1;
    }
    assert!(count >= 3);
    for template in server.get(TEMPLATES).await.json()["items"].as_array().unwrap() {
        made(&server, &json!({"template": template["name"], "controller_type": "docker"})).await;
    }
    server.stop().await;
}
