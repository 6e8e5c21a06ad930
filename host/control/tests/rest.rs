//! The REST API's manners: who may call, what is refused and how, and what is repeated.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use axum::body::Body;
use common::{Answer, Backend, Server, simple};
use http::{Request, StatusCode};
use serde_json::{Value, json};

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {problem}");
    }
    assert!(!answer.header("x-request-id").is_empty());
}

async fn count(server: &Server) -> usize {
    server.get("/api/v1/sessions").await.json()["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn only_the_token_opens() {
    let (folder, _backend, server) = start().await;
    for path in ["/healthz", "/readyz"] {
        let answer = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
    }
    for authorization in [None, Some("Bearer nonsense"), Some("Basic abc"), Some("Bearer ")] {
        for path in ["/api/v1/sessions", "/api/v1/admin/controllers"] {
            let mut request = Request::get(path);
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let answer = server.send(request.body(Body::empty()).unwrap()).await;
            assert_problem(&answer, 401);
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
    let post = Request::post("/api/v1/sessions").header("content-type", "application/json");
    let answer = server.send(post.body(Body::from(simple().to_string())).unwrap()).await;
    assert_problem(&answer, 401);
    assert_eq!(count(&server).await, 0);

    let file = folder.path().join("admin.token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(server.token.len(), 64);
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let held = std::fs::read(&path).unwrap();
        let holds = held.windows(64).any(|window| window == server.token.as_bytes());
        assert_eq!(holds, path == file, "{}", path.display());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_lost_token_is_replaced_and_its_predecessor_is_void() {
    let (folder, backend, server) = start().await;
    let first = server.token.clone();
    server.stop().await;
    std::fs::remove_file(folder.path().join("admin.token")).unwrap();
    let server = Server::start(folder.path(), &backend).await;
    assert_ne!(server.token, first);
    assert_eq!(server.get("/api/v1/sessions").await.status, StatusCode::OK);
    let old = Request::get("/api/v1/sessions").header("authorization", format!("Bearer {first}"));
    assert_eq!(server.send(old.body(Body::empty()).unwrap()).await.status, StatusCode::UNAUTHORIZED);
    let kept = server.token.clone();
    server.stop().await;

    let server = Server::start(folder.path(), &backend).await;
    assert_eq!(server.token, kept, "a token that works is kept");
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there() {
    let (_folder, _backend, server) = start().await;
    for path in [
        "/",
        "/api/v1/nothing",
        "/api/v1/sessions/not-a-session",
        "/api/v1/sessions/0198c2f0-0000-7000-8000-000000000000",
        "/api/v1/sessions/%ff",
        "/api/v1/admin/controllers/ctrl-nobody",
    ] {
        assert_problem(&server.get(path).await, 404);
    }
    assert_problem(&server.delete("/api/v1/sessions/0198c2f0-0000-7000-8000-000000000000").await, 404);
    let answer = server.delete("/api/v1/sessions").await;
    assert_problem(&answer, 405);
    assert!(answer.header("allow").contains("POST"), "{:?}", answer.headers);
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_store_nothing() {
    let (_folder, backend, server) = start().await;
    let path = "/api/v1/sessions";
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        (r#"{"spec":{"base_image":"a"},"unknown":1}"#, 400),
        (r#"{"spec":{"base_image":["a"]}}"#, 400),
        (r#"{"spec":{"base_image":"a","resources":{"memory":"lots"}}}"#, 422),
        (r#"{"spec":{"base_image":"a","ports":[{"container_port":0}]}}"#, 422),
        (r#"{"template":"firefox","spec":{"base_image":"a"}}"#, 422),
        (r#"{"controller_id":"ctrl-nobody","spec":{"base_image":"a"}}"#, 422),
        ("{}", 422),
    ] {
        let answer = server.post_with(path, &[], body.to_owned()).await;
        assert_problem(&answer, status);
        assert!(!answer.json()["errors"].as_array().unwrap().is_empty(), "{body}");
    }
    let unknown = r#"{"controller_id":"ctrl-nobody","spec":{"base_image":"a"}}"#;
    let answer = server.post_with(path, &[], unknown.to_owned()).await;
    assert_eq!(answer.json()["errors"][0]["field"], "controller_id");
    let template = json!({"template": "firefox", "spec": {"base_image": "a"}});
    let detail = server.post(path, &template).await.json()["detail"].to_string();
    assert!(detail.contains("template_id: no template named"), "{detail}");

    let large = json!({"spec": {"base_image": "a".repeat(2 << 20)}}).to_string();
    assert_problem(&server.post_with(path, &[], large).await, 413);
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut request = server.request("POST", path);
        if let Some(value) = content_type {
            request = request.header("content-type", value);
        }
        let answer = server.send(request.body(Body::from(simple().to_string())).unwrap()).await;
        assert_problem(&answer, 415);
    }
    for query in ["?wait=soon", "?wait=", "?wait=1s&wait=2s", "?wiat=1s", "?wait=-1s"] {
        assert_problem(&server.post(&format!("{path}{query}"), &simple()).await, 400);
    }
    for key in ["", "a\tb", "ä"] {
        assert_problem(&server.post_with(path, &[("idempotency-key", key)], simple().to_string()).await, 400);
    }
    assert_eq!(count(&server).await, 0);
    assert!(backend.calls("create").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let (_folder, _backend, server) = start().await;
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=many", "limit"),
        ("state=asleep", "state"),
        ("phase=running", "phase"),
        ("cursor=zz", "cursor"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ] {
        let answer = server.get(&format!("/api/v1/sessions?{query}")).await;
        assert_problem(&answer, 400);
        assert_eq!(answer.json()["errors"][0]["field"], name, "{query}");
    }
    let id = server.create().await;
    assert_problem(&server.delete(&format!("/api/v1/sessions/{id}?purge_home=maybe")).await, 400);
    assert_eq!(server.session(&id).await["deleting"], false);
    server.stop().await;
}

#[tokio::test]
async fn an_existing_database_is_closed_to_others() {
    if common::database::is_postgres() {
        return;
    }
    let (folder, backend, server) = start().await;
    server.stop().await;
    let database = folder.path().join("streamspace.db");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::start(folder.path(), &backend).await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("streamspace.db") {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn single_things_take_no_parameters() {
    let (_folder, _backend, server) = start().await;
    let id = server.create().await;
    let controller = server.get("/api/v1/admin/controllers").await.json()[0]["id"].clone();
    let tickets = format!("/api/v1/sessions/{id}/tickets?wait=5s");
    assert_problem(&server.post(&tickets, &json!({})).await, 400);
    for path in [
        format!("/api/v1/sessions/{id}"),
        format!("/api/v1/admin/controllers/{}", controller.as_str().unwrap()),
    ] {
        assert_eq!(server.get(&path).await.status, StatusCode::OK);
        let refused = server.get(&format!("{path}?wait=5s")).await;
        assert_problem(&refused, 400);
        assert_eq!(refused.json()["errors"][0]["field"], "wait");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_not_a_file_store() {
    let (_folder, _backend, server) = start().await;
    let variable = |index: usize| json!({"name": format!("V{index}"), "value": "x".repeat(3000)});
    let body =
        |count| json!({"spec": {"base_image": "i", "env": (0..count).map(variable).collect::<Vec<_>>()}});
    assert_eq!(server.post("/api/v1/sessions", &body(40)).await.status, StatusCode::CREATED);
    let refused = server.post("/api/v1/sessions", &body(45)).await;
    assert_problem(&refused, 422);
    assert_eq!(refused.json()["errors"][0]["field"], "spec");
    let mut config = simple();
    config["controller_config"] = json!({"blob": "x".repeat(130 * 1024)});
    let refused = server.post("/api/v1/sessions", &config).await;
    assert_problem(&refused, 422);
    assert_eq!(refused.json()["errors"][0]["field"], "spec");
    server.stop().await;
}

#[tokio::test]
async fn pages() {
    let (_folder, _backend, server) = start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(server.create().await);
    }
    made.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/api/v1/sessions?limit=2{cursor}")).await.json();
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, made);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_request_makes_nothing() {
    let (_folder, backend, server) = start().await;
    let key = [("idempotency-key", "order-7")];
    let first = server.post_with("/api/v1/sessions", &key, simple().to_string()).await;
    server.phase(&first.id(), "Running").await;
    let again = server.post_with("/api/v1/sessions", &key, simple().to_string()).await;
    assert_eq!((again.status, &again.text), (StatusCode::CREATED, &first.text));
    assert_eq!(again.header("location"), first.header("location"));
    let other = json!({"spec": {"base_image": "other"}}).to_string();
    assert_problem(&server.post_with("/api/v1/sessions", &key, other).await, 409);
    let waited = server.post_with("/api/v1/sessions?wait=30s", &key, simple().to_string()).await;
    assert_eq!(waited.json()["phase"], "Running");

    let many = (0..8)
        .map(|_| server.post_with("/api/v1/sessions", &[("idempotency-key", "x")], simple().to_string()));
    let ids: Vec<_> = futures::future::join_all(many).await.iter().map(Answer::id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(count(&server).await, 2);
    server.phase(&ids[0], "Running").await;
    assert_eq!(backend.with(|state| state.made), 2);
    server.stop().await;
}

#[tokio::test]
async fn secrets_reach_the_backend_and_nobody_else() {
    let (_folder, backend, server) = start().await;
    let secret = "correct-horse";
    backend.script("create", [common::Act::Fail(tonic::Status::internal(format!("bad env {secret}")))]);
    let body = json!({"spec": {"base_image": "a", "env": [{"name": "P", "value": secret, "secret": true}]}});
    let key = [("idempotency-key", "k")];
    let created = server.post_with("/api/v1/sessions?wait=30s", &key, body.to_string()).await;
    assert_eq!(created.json()["phase"], "Running");
    let id = created.id();
    let replayed = server.post_with("/api/v1/sessions", &key, body.to_string()).await;
    let list = server.get("/api/v1/sessions").await;
    let single = server.get(&format!("/api/v1/sessions/{id}")).await;
    let deleted = server.delete(&format!("/api/v1/sessions/{id}")).await;
    for answer in [&created, &replayed, &list, &single, &deleted] {
        assert!(answer.status.is_success());
        assert!(!answer.text.contains(secret), "{}", answer.text);
        assert!(answer.text.contains(r#""name":"P""#));
    }
    let env = backend.with(|state| state.last_create.clone()).unwrap().spec.unwrap().env;
    assert_eq!(env[0].value, secret);
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_is_kept() {
    let (_folder, _backend, server) = start().await;
    let request = server.request("GET", "/api/v1/sessions").header("x-request-id", "mine");
    assert_eq!(server.send(request.body(Body::empty()).unwrap()).await.header("x-request-id"), "mine");
    let value: Value = server.get("/healthz").await.json();
    assert_eq!(value["status"], "ok");
    server.stop().await;
}
