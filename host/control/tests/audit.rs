//! The audit log: who changed what.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Backend, Server, config, simple};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;

const AUDIT: &str = "/api/v1/admin/audit";

async fn start() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &Backend::default()).await;
    (folder, server)
}

async fn read(server: &Server, query: &str) -> Vec<Value> {
    let page = server.get(&format!("{AUDIT}{query}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    page.json()["items"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_change_says_who_made_it_with_what() {
    let (_folder, server) = start().await;
    let alice = server.user("alice", "user").await;
    let headers = [("x-request-id", "my-request")];
    let made = server.call_with(&alice, "POST", "/api/v1/sessions", &headers, Some(&simple())).await;
    let id = made.id();
    server.phase(&id, "Running").await;
    server.call(&alice, "POST", &format!("/api/v1/sessions/{id}/hibernate"), None).await;
    // Once more changes nothing.
    server.call(&alice, "POST", &format!("/api/v1/sessions/{id}/hibernate"), None).await;
    server.call(&alice, "POST", &format!("/api/v1/sessions/{id}/wake"), None).await;
    server.call(&alice, "POST", &format!("/api/v1/sessions/{id}/tickets"), None).await;
    server.patch(&id, &json!({"state": "terminated"})).await;
    server.delete(&format!("/api/v1/sessions/{id}")).await;
    server.gone(&id).await;

    let entries = read(&server, &format!("?target={id}")).await;
    assert_eq!(
        actions(&entries),
        [
            "session.delete",
            "session.terminate",
            "access.grant",
            "session.wake",
            "session.hibernate",
            "session.create"
        ]
    );
    let first = &entries[5];
    let token = server.call(&alice, "GET", "/api/v1/me", None).await.json()["token"].clone();
    assert_eq!(
        first["actor"],
        json!({"kind": "user", "id": "alice", "role": "user", "token_id": token["id"], "token_name": "test"})
    );
    assert_eq!((&first["target"]["kind"], &first["target"]["id"]), (&json!("session"), &json!(id)));
    assert_eq!(first["request_id"], "my-request");
    assert_eq!(first["details"]["user_id"], "alice");
    let last = &entries[0];
    assert_eq!((&last["actor"]["id"], &last["actor"]["role"]), (&json!("admin"), &json!("admin")));
    let own = last["request_id"].as_str().unwrap();
    assert!(!own.is_empty() && own != "my-request");
    server.stop().await;
}

#[tokio::test]
async fn everything_that_can_be_changed_is_in_it_without_secrets() {
    let (_folder, server) = start().await;
    let template = json!({"name": "t", "spec": {"env": [{"name": "P", "value": "hunter2", "secret": true}]}});
    assert_eq!(server.post("/api/v1/templates", &template).await.status, StatusCode::CREATED);
    server.call(&server.token, "PATCH", "/api/v1/templates/t", Some(&json!({"category": "x"}))).await;
    server.delete("/api/v1/templates/t").await;
    let mut session = simple();
    session["spec"]["env"] = json!([{"name": "P", "value": "hunter2", "secret": true}]);
    server.post("/api/v1/sessions", &session).await;
    let secret = server.user("bob", "user").await;
    let token = server.call(&secret, "GET", "/api/v1/me", None).await.json()["token"]["id"].clone();
    let token = token.as_str().unwrap();
    server.call(&server.token, "PATCH", "/api/v1/admin/users/bob", Some(&json!({"active": false}))).await;
    server.delete(&format!("/api/v1/admin/tokens/{token}")).await;
    server.delete("/api/v1/admin/users/bob").await;
    let controller = server.get("/api/v1/admin/controllers").await.json()[0]["id"].clone();
    let controller = format!("/api/v1/admin/controllers/{}", controller.as_str().unwrap());
    server.call(&server.token, "PATCH", &controller, Some(&json!({"draining": true}))).await;

    let entries = read(&server, "?limit=500").await;
    let mut found = actions(&entries);
    found.reverse();
    assert_eq!(
        found,
        [
            "token.create",
            "controller.register",
            "template.create",
            "template.change",
            "template.delete",
            "session.create",
            "user.create",
            "token.create",
            "user.change",
            "token.delete",
            "user.delete",
            "controller.change",
        ]
    );
    assert_eq!(entries.last().unwrap()["actor"]["id"], "configuration");
    let whole = json!(entries).to_string();
    assert!(!whole.contains("hunter2") && !whole.contains(&secret) && !whole.contains(&server.token));
    server.stop().await;
}

#[tokio::test]
async fn what_is_refused_or_only_read_is_not_in_it() {
    let (_folder, server) = start().await;
    let alice = server.user("alice", "user").await;
    let before = read(&server, "").await.len();
    for (method, path, body) in [
        ("POST", "/api/v1/sessions", Some(json!({"spec": {}}))),
        ("POST", "/api/v1/sessions", Some(json!({"user": "bob", "spec": {"base_image": "i"}}))),
        ("POST", "/api/v1/templates", Some(json!({"name": "t"}))),
        ("DELETE", "/api/v1/admin/users/alice", None),
        ("DELETE", "/api/v1/tokens/tok-none", None),
        ("GET", "/api/v1/sessions", None),
        ("PUT", "/api/v1/admin/quotas/alice", Some(json!({"sessions": 1}))),
    ] {
        server.call(&alice, method, path, body.as_ref()).await;
    }
    assert_eq!(read(&server, "").await.len(), before);
    server.stop().await;
}

#[tokio::test]
async fn it_is_read_page_by_page_and_filtered() {
    let (_folder, server) = start().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(server.create().await);
    }
    made.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{AUDIT}?action=session.create&actor=admin&limit=3{cursor}");
        let page = server.get(&path).await.json();
        seen.extend(page["items"].as_array().unwrap().clone());
        // What comes meanwhile moves nothing.
        server.create().await;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let ids: Vec<_> = seen.iter().map(|entry| entry["target"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, made);

    let middle = seen[3]["at"].as_str().unwrap();
    let earlier = read(&server, &format!("?action=session.create&until={middle}")).await;
    let later = read(&server, &format!("?action=session.create&since={middle}&limit=500")).await;
    assert_eq!(earlier.len(), 3, "{earlier:?}");
    assert_eq!(later.last().unwrap()["at"], middle);
    assert!(read(&server, "?actor=nobody").await.is_empty());
    for query in ["since=yesterday", "cursor=zz", "cursor=00", "limit=0", "who=admin"] {
        let refused = server.get(&format!("{AUDIT}?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        let field = query.split('=').next().unwrap();
        assert_eq!(refused.json()["errors"][0]["field"], field, "{query}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_older_than_is_kept_goes() {
    let (folder, server) = start().await;
    server.create().await;
    assert_eq!(read(&server, "?action=session.create").await.len(), 1);
    server.stop().await;
    let forgetful = ControlConfig { keep_audit: Duration::ZERO, ..config(folder.path()) };
    let server = Server::start_with(forgetful, None).await;
    common::eventually("swept", async || read(&server, "").await.is_empty()).await;
    server.stop().await;
}
