//! What ends the waiting of a session: trying at once, deleting by force, forgetting.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Act, Backend, Server, condition, config, eventually, simple};
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use tonic::Status;

/// So long that no test sees the end of it.
const LONG: Duration = Duration::from_secs(300);

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

/// Refuses the next call and asks not to be called again for a long time.
fn much_later() -> Act {
    use tonic_types::{ErrorDetails, StatusExt as _};
    let mut details = ErrorDetails::new();
    details.set_error_info(
        "EXHAUSTED",
        "streamspace.controller",
        std::collections::HashMap::<String, String>::new(),
    );
    details.set_retry_info(Some(LONG));
    Act::Fail(Status::with_error_details(tonic::Code::ResourceExhausted, "no room", details))
}

#[tokio::test]
async fn what_waits_is_tried_at_once() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [much_later()]);
    let id = server.create().await;
    let mut session = Value::Null;
    eventually("waits", async || {
        session = server.session(&id).await;
        condition(&session, "Ready")["reason"] == "EXHAUSTED"
    })
    .await;
    assert!(session["status"]["operation"]["deadline"].is_string(), "{session}");
    let tried = server.verb(&id, "retry?wait=30s").await;
    assert_eq!((tried.status.as_u16(), &tried.json()["phase"]), (200, &json!("Running")), "{}", tried.text);
    assert_eq!(tried.json()["generation"], 1, "the wish is the same");
    // Nothing is left to do.
    let again = server.verb(&id, "retry").await;
    assert_eq!((again.status.as_u16(), &again.json()["generation"]), (200, &json!(1)));

    // A deletion as well.
    backend.script("delete", [much_later()]);
    server.delete(&format!("/api/v1/sessions/{id}")).await;
    eventually("waits", async || condition(&server.session(&id).await, "Ready")["reason"] == "EXHAUSTED")
        .await;
    assert_eq!(server.verb(&id, "retry").await.status, 202);
    server.gone(&id).await;
    assert_eq!(server.verb(&id, "retry").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn what_failed_is_tried_anew_by_its_owner() {
    let (_folder, backend, server) = start().await;
    let (alice, bob) = (server.user("alice", "user").await, server.user("bob", "user").await);
    backend.script("create", [Act::Fail(Status::invalid_argument("no such image"))]);
    let made = server.call(&alice, "POST", "/api/v1/sessions", Some(&simple())).await;
    let id = made.id();
    server.phase(&id, "Failed").await;
    server.settled(&id).await;
    let path = format!("/api/v1/sessions/{id}/retry?wait=30s");
    assert_eq!(server.call(&bob, "POST", &path, None).await.status, 404);
    let key = [("idempotency-key", "once")];
    let tried = server.call_with(&alice, "POST", &path, &key, None).await;
    assert_eq!((tried.status.as_u16(), &tried.json()["phase"]), (200, &json!("Running")), "{}", tried.text);
    assert_eq!((&tried.json()["generation"], &tried.json()["state"]), (&json!(2), &json!("running")));
    let again = server.call_with(&alice, "POST", &path, &key, None).await;
    assert_eq!(again.json()["generation"], 2);
    let other = format!("/api/v1/sessions/{id}/hibernate");
    assert_eq!(server.call_with(&alice, "POST", &other, &key, None).await.status, 409);
    // What she may not do is an operator's.
    for path in [format!("/api/v1/sessions/{id}/forget"), format!("/api/v1/sessions/{id}?force=true")] {
        let method = if path.ends_with("forget") { "POST" } else { "DELETE" };
        assert_eq!(server.call(&alice, method, &path, None).await.status, 403, "{path}");
    }
    assert_eq!(server.session(&id).await["phase"], "Running");
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_finds_no_room_fails_at_a_time_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.with(|state| state.max_sessions = 1);
    let limit = Duration::from_secs(3);
    let server =
        Server::start_with(ControlConfig { placement_limit: limit, ..config(folder.path()) }, Some(&backend))
            .await;
    let first = server.running().await;
    let id = server.create().await;
    let mut session = Value::Null;
    eventually("told when it is given up", async || {
        session = server.session(&id).await;
        session["status"]["operation"]["deadline"].is_string() || session["phase"] == "Failed"
    })
    .await;
    assert_eq!(condition(&session, "Scheduled")["reason"], "Unschedulable");
    let session = server.phase(&id, "Failed").await;
    assert!(session["status"]["operation"].is_null(), "{session}");
    let ready = condition(&session, "Ready");
    assert_eq!(ready["reason"], "DeadlineExceeded");
    assert!(ready["message"].as_str().unwrap().contains("full"), "{ready}");
    assert_eq!(session["status"]["observed_generation"], 1);
    // Room alone changes nothing any more; asking again does, with all the time again.
    assert_eq!(server.delete(&format!("/api/v1/sessions/{first}?wait=30s")).await.status, 204);
    let tried = server.verb(&id, "retry?wait=30s").await.json();
    assert_eq!((&tried["phase"], &tried["generation"]), (&json!("Running"), &json!(2)), "{tried}");
    server.stop().await;
}

#[tokio::test]
async fn a_deletion_by_force_ends_whatever_the_controller_says() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let force_after = Duration::from_millis(500);
    let config = ControlConfig { force_after, ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let (id, hanging) = (server.running().await, server.running().await);
    // Without force it would be tried for ever.
    let refused = (0..100).map(|_| Act::Fail(Status::failed_precondition("it is locked")));
    backend.script("delete", refused);
    server.delete(&format!("/api/v1/sessions/{id}")).await;
    eventually("refused", async || backend.calls("delete").len() > 2).await;
    assert_eq!(server.session(&id).await["deleting"], true);
    let told = server.delete(&format!("/api/v1/sessions/{id}?force=true")).await;
    assert_eq!(told.status, 202);
    server.gone(&id).await;
    assert!(backend.phase_of(&id).is_some(), "the controller has it still");
    let events = server.get(&format!("/api/v1/sessions/{id}/events")).await.json();
    let last = events["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["type"], &last["reason"]), (&json!("session.deleted"), &json!("Forgotten")));
    // Once the controller does what it is told, what it has is removed: it has a tombstone.
    backend.with(|state| state.script.clear());
    eventually("collected", async || backend.phase_of(&id).is_none()).await;

    // One that never comes to an end, and then one that goes as any other.
    backend.script("delete", (0..1000).map(|_| Act::Progress("stopping")));
    backend.with(|state| state.poll_after = Some(Duration::from_millis(100)));
    let told = server.delete(&format!("/api/v1/sessions/{hanging}?force=true&wait=30s")).await;
    assert_eq!(told.status, 204, "{}", told.text);
    backend.with(|state| state.script.clear());
    eventually("collected", async || backend.phase_of(&hanging).is_none()).await;
    let id = server.running().await;
    assert_eq!(server.delete(&format!("/api/v1/sessions/{id}?force=true&wait=30s")).await.status, 204);
    assert!(backend.phase_of(&id).is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_never_comes_back_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(server.running().await);
    }
    let controller = server.session(&ids[0]).await["controller_id"].as_str().unwrap().to_owned();
    server.stop().await;

    // Nobody attaches it any more.
    let server = Server::start_with(config(folder.path()), None).await;
    server.delete(&format!("/api/v1/sessions/{}", ids[0])).await;
    eventually("not to be had", async || {
        condition(&server.session(&ids[0]).await, "ControllerReachable")["status"] == "False"
    })
    .await;
    assert_eq!(server.verb(&ids[0], "forget").await.status, 204);
    assert_eq!(server.get(&format!("/api/v1/sessions/{}", ids[0])).await.status, 404);
    assert_eq!(server.verb(&ids[0], "forget").await.status, 404);
    let path = format!("/api/v1/admin/controllers/{controller}");
    assert_eq!(server.get(&path).await.json()["sessions"], 2);
    assert_eq!(server.delete(&path).await.status, 409);
    let user = server.user("alice", "user").await;
    assert_eq!(server.call(&user, "DELETE", &format!("{path}?force=true"), None).await.status, 403);
    let removed = server.delete(&format!("{path}?force=true")).await;
    assert_eq!((removed.status.as_u16(), &removed.json()["forgotten"]), (200, &json!(2)), "{}", removed.text);
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(server.delete(&format!("{path}?force=true")).await.status, 404);
    assert_eq!(server.get("/api/v1/sessions").await.json()["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn what_was_forgotten_is_collected_when_its_controller_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    let (id, other) = (server.running().await, server.running().await);
    server.stop().await;
    let server = Server::start_with(config(folder.path()), None).await;
    assert_eq!(server.verb(&id, "forget").await.status, 204);
    server.stop().await;
    let server = Server::start(folder.path(), &backend).await;
    eventually("collected", async || backend.phase_of(&id).is_none()).await;
    assert_eq!(server.session(&other).await["phase"], "Running");
    assert!(backend.calls("delete").iter().all(|call| call.session == id && !call.purge_home));
    server.stop().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_can_be_forgotten() {
    let (folder, backend, server) = start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(server.running().await);
    }
    // Of each another part: JSON, a word, and the whole operation.
    let [json, word, operation] = [&ids[0], &ids[1], &ids[2]];
    for statement in [
        format!("UPDATE sessions SET conditions = '\"broken\"' WHERE id = '{json}'"),
        format!("UPDATE sessions SET phase = 'Melting' WHERE id = '{word}'"),
        format!("DELETE FROM operations WHERE session_id = '{operation}'"),
    ] {
        assert_eq!(common::database::sql(folder.path(), &statement).await, 1, "{statement}");
    }
    for id in [json, word] {
        let answer = server.verb(id, "retry").await;
        assert_eq!(answer.status, 409, "{}", answer.text);
        assert!(answer.json()["type"].as_str().unwrap().ends_with(":unreadable"), "{}", answer.text);
    }
    // Without force it is remembered that it is to go, and no more can be done.
    for id in [json, operation] {
        let answer = server.delete(&format!("/api/v1/sessions/{id}")).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["deleting"]),
            (202, &json!(true)),
            "{}",
            answer.text
        );
    }
    assert_eq!(server.verb(json, "forget").await.status, 204);
    assert_eq!(server.delete(&format!("/api/v1/sessions/{word}?force=true")).await.status, 204);
    assert_eq!(server.verb(operation, "forget").await.status, 204);
    for id in &ids {
        eventually("collected", async || backend.phase_of(id).is_none()).await;
        assert_eq!(server.verb(id, "forget").await.status, 404);
    }
    let controllers = server.get("/api/v1/admin/controllers").await.json();
    assert_eq!(controllers[0]["sessions"], 0);
    server.stop().await;
}

#[tokio::test]
async fn who_ended_a_waiting_is_in_the_audit_log() {
    let (folder, backend, server) = start().await;
    let operator = server.user("olga", "operator").await;
    let call =
        async |method: &str, path: String| server.call(&operator, method, &path, None).await.status.as_u16();
    backend.script("create", [Act::Fail(Status::invalid_argument("no such image"))]);
    let (failed, _) = (server.create().await, ());
    server.phase(&failed, "Failed").await;
    server.settled(&failed).await;
    assert_eq!(call("POST", format!("/api/v1/sessions/{failed}/retry?wait=30s")).await, 200);
    assert_eq!(call("POST", format!("/api/v1/sessions/{failed}/retry")).await, 200);
    assert_eq!(call("POST", format!("/api/v1/sessions/{failed}/forget")).await, 204);
    let other = server.running().await;
    let controller = server.session(&other).await["controller_id"].as_str().unwrap().to_owned();
    assert_eq!(call("DELETE", format!("/api/v1/admin/controllers/{controller}?force=true")).await, 200);
    // One entry each: what changed nothing is none.
    for (action, target) in [
        ("session.retry", &failed),
        ("session.forget", &failed),
        ("session.forget", &other),
        ("controller.delete", &controller),
    ] {
        let count = format!(
            "UPDATE audit SET action = action WHERE action = '{action}' AND target = '{target}' AND actor = 'olga'"
        );
        assert_eq!(common::database::sql(folder.path(), &count).await, 1, "{action} {target}");
    }
    server.stop().await;
}
