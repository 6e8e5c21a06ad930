//! Quotas: what the sessions of one user may take together.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{Answer, Backend, Server, config, database};
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::{ControlConfig, Quota};

const QUOTAS: &str = "/api/v1/admin/quotas";

fn limited(data: &Path, quota: &Value) -> ControlConfig {
    let quota: Quota = serde_json::from_value(quota.clone()).unwrap();
    ControlConfig { quota, ..config(data) }
}

async fn start(quota: Value) -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start_with(limited(folder.path(), &quota), Some(&backend)).await;
    (folder, backend, server)
}

fn wanted(cpu: &str, memory: &str) -> Value {
    json!({"spec": {"base_image": "i", "resources": {"cpu": cpu, "memory": memory}}})
}

async fn create(server: &Server, token: &str, body: &Value) -> Answer {
    server.call(token, "POST", "/api/v1/sessions", Some(body)).await
}

/// That an answer says no because of one quota, and what it says of it.
fn exceeded(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
    let problem = answer.json();
    assert_eq!(problem["type"], "urn:streamspace:problem:quota-exceeded");
    assert_eq!(problem["exceeded"].as_array().unwrap().len(), 1, "{problem}");
    problem["exceeded"][0].clone()
}

#[tokio::test]
async fn more_than_there_may_be_is_refused_by_name_and_leaves_nothing() {
    let (_folder, _backend, server) = start(json!({"sessions": 3, "cpu": "2", "memory": "3Gi"})).await;
    let alice = server.user("alice", "user").await;
    let first = create(&server, &alice, &wanted("1", "1Gi")).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let answer = create(&server, &alice, &wanted("1500m", "1Gi")).await;
    let one = json!({"quota": "cpu", "limit": "2", "used": "1", "requested": "1500m"});
    assert_eq!(exceeded(&answer), one);
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "quota of cpu: limit 2, used 1, asked for 1500m more");
    let memory = exceeded(&create(&server, &alice, &wanted("1", "2049Mi")).await);
    assert_eq!(memory, json!({"quota": "memory", "limit": "3Gi", "used": "1Gi", "requested": "2049Mi"}));
    // Whoever says nothing could get anything.
    let silent = json!({"spec": {"base_image": "i", "resources": {"cpu": "1"}}});
    assert_eq!(exceeded(&create(&server, &alice, &silent).await)["requested"], Value::Null);
    let own = server.call(&alice, "GET", "/api/v1/sessions", None).await.json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "nothing was stored");

    let quota = server.call(&alice, "GET", "/api/v1/quota", None).await.json();
    assert_eq!(quota["limits"], json!({"sessions": 3, "cpu": "2", "memory": "3Gi", "storage": null}));
    assert_eq!(quota["used"], json!({"sessions": 1, "cpu": "1", "memory": "1Gi", "storage": "0"}));
    // Everybody for themselves.
    let bob = server.user("bob", "user").await;
    assert_eq!(create(&server, &bob, &wanted("2", "3Gi")).await.status, StatusCode::CREATED);
    // An operator makes it for somebody, and it counts for them.
    let mut for_alice = wanted("2", "1Gi");
    for_alice["user_id"] = "alice".into();
    assert_eq!(exceeded(&server.post("/api/v1/sessions", &for_alice).await)["quota"], "cpu");
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_run_takes_no_processor_and_has_to_fit_when_it_runs_again() {
    let (_folder, _backend, server) = start(json!({"sessions": 2, "cpu": "1"})).await;
    let alice = server.user("alice", "user").await;
    let first = create(&server, &alice, &wanted("1", "1Gi")).await.id();
    server.phase(&first, "Running").await;
    assert_eq!(exceeded(&create(&server, &alice, &wanted("1", "1Gi")).await)["quota"], "cpu");
    assert_eq!(server.verb(&first, "hibernate").await.status, StatusCode::ACCEPTED);
    let second = create(&server, &alice, &wanted("1", "1Gi")).await;
    assert_eq!(second.status, StatusCode::CREATED, "{}", second.text);

    let generation = server.settled(&first).await["generation"].clone();
    let woken = server.call(&alice, "POST", &format!("/api/v1/sessions/{first}/wake"), None).await;
    assert_eq!(exceeded(&woken), json!({"quota": "cpu", "limit": "1", "used": "1", "requested": "1"}));
    assert_eq!(exceeded(&server.patch(&first, &json!({"state": "running"})).await)["quota"], "cpu");
    let session = server.session(&first).await;
    assert_eq!((&session["state"], &session["generation"]), (&json!("hibernated"), &generation));
    // It is there all the same; and everything that is in the way is named.
    let both = create(&server, &alice, &wanted("1", "1Mi")).await.json()["exceeded"].clone();
    let both: Vec<_> = both.as_array().unwrap().iter().map(|one| one["quota"].clone()).collect();
    assert_eq!(both, ["sessions", "cpu"]);

    server.patch(&second.id(), &json!({"state": "terminated"})).await;
    assert_eq!(server.verb(&first, "wake").await.status, StatusCode::ACCEPTED);
    server.phase(&first, "Running").await;
    // The same wish again asks for nothing more.
    assert_eq!(server.verb(&first, "wake").await.status, StatusCode::OK);
    server.delete(&format!("/api/v1/sessions/{}", second.id())).await;
    server.gone(&second.id()).await;
    let used = server.get(&format!("{QUOTAS}/alice")).await.json()["used"].clone();
    assert_eq!(used, json!({"sessions": 1, "cpu": "1", "memory": "1Gi", "storage": "0"}));
    server.stop().await;
}

#[tokio::test]
async fn storage_counts_volumes_each_and_the_home_once() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.with(|state| state.persistent = true);
    let config = limited(folder.path(), &json!({"storage": "25Gi"}));
    let server = Server::start_with(config, Some(&backend)).await;
    let alice = server.user("alice", "user").await;
    let body = |home: &str| {
        json!({"spec": {
            "base_image": "i", "persistent_home": true, "home_size": home,
            "volume_mounts": [{"name": "v", "mount_path": "/v", "size": "5Gi"}],
        }})
    };
    for _ in 0..2 {
        assert_eq!(create(&server, &alice, &body("10Gi")).await.status, StatusCode::CREATED);
    }
    let larger = exceeded(&create(&server, &alice, &body("11Gi")).await);
    assert_eq!(larger, json!({"quota": "storage", "limit": "25Gi", "used": "20Gi", "requested": "6Gi"}));
    assert_eq!(create(&server, &alice, &body("10Gi")).await.status, StatusCode::CREATED);
    server.stop().await;
}

#[tokio::test]
async fn a_refused_request_does_not_use_up_its_key() {
    let (_folder, _backend, server) = start(json!({"sessions": 1})).await;
    let id = server.create().await;
    let again = async || {
        let body = json!({"spec": {"base_image": "other"}}).to_string();
        server.post_with("/api/v1/sessions", &[("idempotency-key", "k")], body).await
    };
    assert_eq!(exceeded(&again().await)["quota"], "sessions");
    server.delete(&format!("/api/v1/sessions/{id}")).await;
    server.gone(&id).await;
    let made = again().await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    // What was made is answered again, whatever the quota.
    assert_eq!(again().await.id(), made.id());
    server.stop().await;
}

#[tokio::test]
async fn limits_are_set_for_one_user_and_taken_back() {
    let (_folder, _backend, server) = start(json!({"sessions": 1, "memory": "1Gi"})).await;
    let path = format!("{QUOTAS}/alice");
    let put = async |body: Value| server.call(&server.token, "PUT", &path, Some(&body)).await;
    let set = put(json!({"sessions": "unlimited", "cpu": "4"})).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text);
    let quota = set.json();
    assert_eq!(quota["limits"], json!({"sessions": null, "cpu": "4", "memory": "1Gi", "storage": null}));
    let own = json!({"sessions": "unlimited", "cpu": "4", "memory": null, "storage": null});
    assert_eq!(quota["set"], own);
    assert_eq!(server.get(&path).await.json(), quota);
    let listed = server.get(QUOTAS).await.json();
    assert_eq!((&listed["items"], &listed["next_cursor"]), (&json!([quota]), &Value::Null));

    for (body, status, field) in [
        (json!({"cpu": "many"}), 422, "cpu"),
        (json!({"memory": "-1Gi"}), 422, "memory"),
        (json!({"storage": ""}), 422, "storage"),
        (json!({"sessions": "lots"}), 400, "sessions"),
        (json!({"sessions": -1}), 400, "sessions"),
        (json!({"gpus": 1}), 400, "gpus"),
    ] {
        let refused = put(body.clone()).await;
        assert_eq!(refused.status.as_u16(), status, "{body}: {}", refused.text);
        assert_eq!(refused.json()["errors"][0]["field"], field, "{body}: {}", refused.text);
    }
    assert_eq!(server.get(&path).await.json(), quota, "nothing was stored");

    // Nobody at all.
    put(json!({"sessions": 0})).await;
    let mut body = wanted("1", "1Gi");
    body["user_id"] = "alice".into();
    assert_eq!(exceeded(&server.post("/api/v1/sessions", &body).await)["limit"], "0");
    assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get(&path).await.json()["limits"]["sessions"], 1);

    let log = server.get("/api/v1/admin/audit?target=alice").await.json();
    let log: Vec<_> = log["items"].as_array().unwrap().iter().map(|one| one["action"].clone()).collect();
    assert_eq!(log, ["quota.remove", "quota.set", "quota.set"]);
    server.stop().await;
}

#[tokio::test]
async fn who_may_see_and_set_quotas() {
    let (_folder, _backend, server) = start(json!({})).await;
    let tokens = [
        server.user("ursula", "user").await,
        server.user("oskar", "operator").await,
        server.user("ada", "admin").await,
    ];
    let path = format!("{QUOTAS}/ursula");
    for (method, path, body, expected) in [
        ("GET", "/api/v1/quota", None, [200, 200, 200]),
        ("GET", QUOTAS, None, [403, 200, 200]),
        ("GET", &path, None, [403, 200, 200]),
        ("PUT", &path, Some(json!({"sessions": 5})), [403, 403, 200]),
        ("DELETE", &path, None, [403, 403, 204]),
        ("GET", "/api/v1/admin/audit", None, [403, 200, 200]),
    ] {
        for (token, expected) in tokens.iter().zip(expected) {
            let answer = server.call(token, method, path, body.as_ref()).await;
            assert_eq!(answer.status.as_u16(), expected, "{method} {path}: {}", answer.text);
        }
        let answer = server.call("ss_nonsense", method, path, body.as_ref()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_count_together() {
    if !database::is_postgres() {
        return;
    }
    let quota = json!({"memory": "5Gi"});
    let (folder, _backend, one) = start(quota.clone()).await;
    let alice = one.user("alice", "user").await;
    let beside = tempfile::tempdir().unwrap();
    let config =
        ControlConfig { database: limited(folder.path(), &quota).database, ..limited(beside.path(), &quota) };
    let other = Server::start_with(config, None).await;
    assert_eq!(race(&[&one, &other], &alice, 40, &wanted("1", "1Gi")).await, 5);
    let used = other.call(&alice, "GET", "/api/v1/quota", None).await.json()["used"].clone();
    assert_eq!((&used["sessions"], &used["memory"]), (&json!(5), &json!("5Gi")));
    other.stop().await;
    one.stop().await;
}

/// How many of so many requests at once are let through by these servers.
async fn race(servers: &[&Server], token: &str, requests: usize, body: &Value) -> usize {
    let all = (0..requests).map(|n| create(servers[n % servers.len()], token, body));
    let answers = join_all(all).await;
    for answer in answers.iter().filter(|answer| answer.status != StatusCode::CREATED) {
        assert_eq!(exceeded(answer)["quota"], "memory");
    }
    answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_only_as_many_pass_as_there_is_room_for() {
    let (_folder, backend, one) = start(json!({"memory": "5Gi"})).await;
    let alice = one.user("alice", "user").await;
    assert_eq!(race(&[&one], &alice, 40, &wanted("1", "1Gi")).await, 5);
    let quota = one.call(&alice, "GET", "/api/v1/quota", None).await.json();
    assert_eq!((&quota["used"]["sessions"], &quota["used"]["memory"]), (&json!(5), &json!("5Gi")));

    // The same when they are woken.
    let own = one.call(&alice, "GET", "/api/v1/sessions", None).await.json();
    let ids: Vec<_> =
        own["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    for id in &ids {
        one.phase(id, "Running").await;
        one.verb(id, "hibernate").await;
        one.phase(id, "Hibernated").await;
    }
    one.call(&one.token, "PUT", &format!("{QUOTAS}/alice"), Some(&json!({"memory": "2Gi"}))).await;
    let woken = join_all(ids.iter().map(|id| one.verb(id, "wake"))).await;
    assert_eq!(woken.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).count(), 2);
    assert_eq!(backend.with(|state| state.made), 5);
    one.stop().await;
}
