//! Objects at a backend that no session explains: what the list shows, and what operators do about them.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::database::sql;
use common::{Act, Backend, Server, condition, config, eventually, register};
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use streamspace_proto::controller::v1::{ResourceRequirements, SessionSpec};
use tonic::Status;

const DRIFT: &str = "/api/v1/admin/drift";

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

fn unknown(number: u32) -> String {
    format!("01900000-0000-7000-8000-{number:012}")
}

async fn listed(server: &Server, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("{DRIFT}{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["items"].as_array().unwrap().clone()
}

/// Waits until so many objects are in the list.
async fn found(server: &Server, count: usize) -> Vec<Value> {
    let mut entries = Vec::new();
    eventually("in the list", async || {
        entries = listed(server, "").await;
        entries.len() == count
    })
    .await;
    entries
}

fn entry_path(entry: &Value, verb: &str) -> String {
    format!("{DRIFT}/{}{verb}", entry["id"].as_str().unwrap())
}

#[tokio::test]
async fn what_nobody_knows_is_listed_until_it_is_gone() {
    let (_folder, backend, server) = start().await;
    let (id, _, _) = (server.running().await, server.running().await, server.running().await);
    backend.with(|state| drop(state.users.insert(unknown(1), "alice".into())));
    backend.by_hand(&unknown(1), Some("Running"));
    backend.by_hand(&unknown(2), Some("Hibernated"));
    backend.with(|state| {
        state.adoptable.insert(unknown(2));
        state.nameless.push("default/desk".into());
    });
    let entries = found(&server, 3).await;
    let of = |what: &str| entries.iter().find(|entry| entry["session_id"] == what).unwrap();
    let own = of(&unknown(1));
    for (field, value) in [
        ("ownership", "owned"),
        ("reason", "unknown_session"),
        ("state", "found"),
        ("phase", "Running"),
        ("user_id", "alice"),
    ] {
        assert_eq!(own[field], value, "{own}");
    }
    assert_eq!(
        (&of(&unknown(2))["ownership"], &of("")["external_ref"]),
        (&json!("adoptable"), &json!("default/desk"))
    );
    assert_eq!(server.get(&entry_path(own, "")).await.json(), *own);

    // Filters, and pages that neither repeat nor leave out.
    assert_eq!(listed(&server, "?user_id=alice").await.len(), 1);
    assert_eq!(listed(&server, "?state=ignored").await.len(), 0);
    assert_eq!(listed(&server, "?reason=unknown_session").await.len(), 3);
    assert_eq!(listed(&server, "?controller_id=ctrl-none").await.len(), 0);
    assert_eq!(server.get(&format!("{DRIFT}?state=lost")).await.status, 400);
    let (mut seen, mut path) = (Vec::new(), format!("{DRIFT}?limit=1"));
    loop {
        let page = server.get(&path).await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|entry| entry["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{DRIFT}?limit=1&cursor={cursor}");
    }
    let all: Vec<_> = entries.iter().map(|entry| entry["id"].clone()).collect();
    assert_eq!(seen, all);

    // Nobody but operators; and nothing of it has touched anything.
    let user = server.user("alice", "user").await;
    for (method, path) in [("GET", DRIFT.to_owned()), ("DELETE", entry_path(own, ""))] {
        let answer = server.call(&user, method, &path, None).await;
        assert!([403, 404].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.text);
    }
    assert_eq!(server.call(&user, "GET", DRIFT, None).await.status, 403);
    assert!(backend.calls("delete").is_empty());

    // A listing that fails or breaks off says nothing of what is gone; the next whole one does.
    backend.with(|state| state.fail_second_page = true);
    backend.by_hand(&unknown(1), None);
    backend.listed(3).await;
    assert_eq!(listed(&server, "").await.len(), 3);
    backend.with(|state| {
        state.fail_second_page = false;
        state.fail_list = Some(Status::unavailable("no database"));
    });
    backend.listed(3).await;
    assert_eq!(listed(&server, "").await.len(), 3);
    backend.with(|state| state.fail_list = None);
    assert!(found(&server, 2).await.iter().all(|entry| entry["ownership"] == "adoptable"));
    assert_eq!(server.session(&id).await["phase"], "Running");
    server.stop().await;
}

#[tokio::test]
async fn an_object_is_removed_when_somebody_says_so_and_comes_back_in_vain() {
    let (_folder, backend, server) = start().await;
    backend.by_hand(&unknown(1), Some("Running"));
    backend.by_hand(&unknown(2), Some("Running"));
    let entries = found(&server, 2).await;
    let one = entries.iter().find(|entry| entry["session_id"] == unknown(1)).unwrap();
    // It does not go at once, and says why.
    backend.script("delete", [Act::Fail(Status::failed_precondition("it is locked"))]);
    let answer = server.delete(&entry_path(one, "")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (202, &json!("deleting")));
    eventually("gone", async || backend.phase_of(&unknown(1)).is_none()).await;
    assert!(found(&server, 1).await.iter().all(|entry| entry["session_id"] == unknown(2)));
    assert!(backend.calls("delete").iter().all(|call| call.session == unknown(1) && !call.purge_home));
    assert_eq!(server.get(&entry_path(one, "")).await.status, 404);

    backend.by_hand(&unknown(1), Some("Running"));
    eventually("gone again", async || backend.phase_of(&unknown(1)).is_none()).await;
    assert!(backend.phase_of(&unknown(2)).is_some());
    let answer = server.delete(&format!("{}?wait=30s", entry_path(&listed(&server, "").await[0], ""))).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert!(backend.phase_of(&unknown(2)).is_none());
    server.stop().await;
}

#[tokio::test]
async fn what_is_ignored_stays_and_what_somebody_else_made_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let grace = Some(Duration::from_secs(3600));
    let server =
        Server::start_with(ControlConfig { drift_grace: grace, ..config(folder.path()) }, Some(&backend))
            .await;
    backend.with(|state| state.adoptable.extend([unknown(2)]));
    for number in [1, 2, 3] {
        backend.by_hand(&unknown(number), Some("Running"));
    }
    let entries = found(&server, 3).await;
    let of = |what: &str| entries.iter().find(|entry| entry["session_id"] == what).unwrap();
    let ignored = server.call(&server.token, "POST", &entry_path(of(&unknown(1)), "/ignore"), None).await;
    assert_eq!((ignored.status.as_u16(), &ignored.json()["state"]), (200, &json!("ignored")));
    let refused = server.delete(&entry_path(of(&unknown(2)), "")).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    // The grace period is over, which counts for what nobody has decided about.
    sql(folder.path(), "UPDATE drift SET first_seen = '2026-01-01T00:00:00+00:00'").await;
    eventually("removed", async || backend.phase_of(&unknown(3)).is_none()).await;
    backend.listed(5).await;
    assert!(backend.phase_of(&unknown(1)).is_some() && backend.phase_of(&unknown(2)).is_some());
    assert!(backend.calls("delete").iter().all(|call| call.session == unknown(3)));
    assert_eq!(listed(&server, "?state=ignored").await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_adopted_object_is_a_session_like_any_other() {
    let (_folder, backend, server) = start().await;
    backend.with(|state| {
        state.users.insert(unknown(1), "alice".into());
        let resources = Some(ResourceRequirements { memory: "512Mi".into(), ..Default::default() });
        let spec = SessionSpec { base_image: "alpine:3".into(), resources, ..Default::default() };
        state.specs.insert(unknown(1), spec);
    });
    backend.by_hand(&unknown(1), Some("Hibernated"));
    backend.by_hand(&unknown(2), Some("Running"));
    let entries = found(&server, 2).await;
    let of = |what: &str| entries.iter().find(|entry| entry["session_id"] == what).unwrap().clone();

    let adopted = server.post(&entry_path(&of(&unknown(1)), "/adopt"), &json!({})).await;
    assert_eq!(adopted.status, 201, "{}", adopted.text);
    let session = adopted.json();
    for (field, value) in [("user_id", "alice"), ("state", "hibernated"), ("phase", "Hibernated")] {
        assert_eq!(session[field], value, "{session}");
    }
    assert_eq!(session["spec"]["resources"]["memory"], "512Mi");
    assert!(session["status"]["operation"].is_null());
    assert_eq!(condition(&session, "Scheduled")["reason"], "Adopted");
    assert_eq!(adopted.header("location"), format!("/api/v1/sessions/{}", unknown(1)));
    assert!(backend.calls("create").is_empty() && backend.calls("wake").is_empty());
    let controllers = server.get("/api/v1/admin/controllers").await.json();
    assert_eq!(controllers[0]["sessions"], 1);
    // Once only.
    assert_eq!(server.post(&entry_path(&of(&unknown(1)), "/adopt"), &json!({})).await.status, 404);

    // Whose it is has to be said, and then it is driven as wished and made again as any other.
    let nobody = server.post(&entry_path(&of(&unknown(2)), "/adopt"), &json!({})).await;
    assert_eq!(nobody.status, 422, "{}", nobody.text);
    let body = json!({"user_id": "bob", "spec": {"base_image": "alpine:3"}});
    let adopted = server.post(&entry_path(&of(&unknown(2)), "/adopt"), &body).await;
    assert_eq!((adopted.status.as_u16(), &adopted.json()["user_id"]), (201, &json!("bob")));
    found(&server, 0).await;
    server.verb(&unknown(1), "wake?wait=30s").await;
    assert_eq!(backend.phase_of(&unknown(1)).as_deref(), Some("Running"));
    backend.by_hand(&unknown(2), None);
    eventually("made again", async || backend.phase_of(&unknown(2)).is_some()).await;
    for number in [1, 2] {
        let id = unknown(number);
        assert_eq!(server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await.status, 204);
        assert!(backend.phase_of(&id).is_none());
    }
    let controllers = server.get("/api/v1/admin/controllers").await.json();
    assert_eq!(controllers[0]["sessions"], 0);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_adopted_is_refused_with_a_reason() {
    let (_folder, backend, server) = start().await;
    backend.with(|state| state.nameless.push("default/desk".into()));
    backend.by_hand("desk", Some("Running"));
    backend.by_hand(&unknown(1), Some("Terminated"));
    backend.by_hand(&unknown(2), Some("Running"));
    let entries = found(&server, 4).await;
    let alice = json!({"user_id": "alice"});
    for (session, status, kind) in
        [("", 409, "unsupported"), ("desk", 409, "unsupported"), (&unknown(1), 409, "failed-precondition")]
    {
        let entry = entries.iter().find(|entry| entry["session_id"] == session).unwrap();
        let answer = server.post(&entry_path(entry, "/adopt"), &alice).await;
        assert_eq!(answer.status, status, "{session}: {}", answer.text);
        assert!(answer.json()["type"].as_str().unwrap().ends_with(kind), "{session}: {}", answer.text);
    }
    // Its spec is not known: it is adopted, and says so.
    let entry = entries.iter().find(|entry| entry["session_id"] == unknown(2)).unwrap();
    let session = server.post(&entry_path(entry, "/adopt"), &alice).await.json();
    assert_eq!(condition(&session, "SpecKnown")["status"], "False");
    assert_eq!(server.post(&format!("{DRIFT}/none/adopt"), &alice).await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn an_object_of_a_session_elsewhere_is_no_second_session() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    let other = Backend::default();
    register(server.control(), "two", &other).await;
    other.by_hand(&id, Some("Running"));
    let entry = found(&server, 1).await.remove(0);
    assert_eq!((&entry["reason"], &entry["session_id"]), (&json!("other_controller"), &json!(id)));
    let refused = server.post(&entry_path(&entry, "/adopt"), &json!({"user_id": "alice"})).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let answer = server.delete(&format!("{}?wait=30s", entry_path(&entry, ""))).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert!(other.phase_of(&id).is_none() && backend.phase_of(&id).is_some());
    backend.listed(3).await;
    assert_eq!(server.session(&id).await["phase"], "Running");
    assert!(backend.calls("delete").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn too_many_at_once_are_withheld_told_and_removed_one_by_one_when_somebody_says_so() {
    let (_folder, backend, server) = start().await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(server.running().await);
    }
    for id in &ids {
        assert_eq!(server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await.status, 204);
    }
    // A listing that began before the last deletion would say nothing of that one, and the rest is not too many.
    backend.listed(2).await;
    let deletions = backend.calls("delete").len();
    backend.with(|state| state.objects.extend(ids.iter().map(|id| (id.clone(), "Running".to_owned()))));
    let entries = found(&server, 6).await;
    assert!(entries.iter().all(|entry| entry["reason"] == "deleted_session"), "{entries:?}");
    let alarm = server.get(DRIFT).await.json()["alarms"][0].clone();
    assert_eq!(
        (&alarm["kind"], &alarm["objects"], &alarm["placed"]),
        (&json!("deletions"), &json!(6), &json!(0))
    );
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("streamspace_drift_objects{state=\"found\"} 6"), "{metrics}");
    assert!(metrics.contains("streamspace_drift_alarms 1"), "{metrics}");
    backend.listed(3).await;
    assert_eq!(backend.calls("delete").len(), deletions);

    // One is asked for in person; the five that are left are not too many any more.
    assert_eq!(server.delete(&format!("{}?wait=30s", entry_path(&entries[0], ""))).await.status, 204);
    eventually("all are removed", async || backend.with(|state| state.objects.is_empty())).await;
    found(&server, 0).await;
    eventually("the alarm is over", async || server.get(DRIFT).await.json()["alarms"] == json!([])).await;
    server.stop().await;
}

#[tokio::test]
async fn a_backend_that_lost_much_has_nothing_removed_meanwhile() {
    let (_folder, backend, server) = start().await;
    let gone = server.running().await;
    assert_eq!(server.delete(&format!("/api/v1/sessions/{gone}?wait=30s")).await.status, 204);
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(server.running().await);
    }
    let deletions = backend.calls("delete").len();
    // Nearly everything is hidden, and what is shown is of a deleted session.
    backend.with(|state| {
        state.hide = ids.iter().cloned().collect();
        state.objects.insert(gone.clone(), "Running".into());
    });
    let mut alarm = Value::Null;
    eventually("an alarm", async || {
        alarm = server.get(DRIFT).await.json()["alarms"][0].clone();
        alarm["kind"] == "losses"
    })
    .await;
    assert_eq!((&alarm["objects"], &alarm["placed"]), (&json!(7), &json!(7)));
    backend.listed(4).await;
    assert_eq!(backend.calls("delete").len(), deletions);
    assert!(backend.phase_of(&gone).is_some());
    backend.with(|state| state.hide.clear());
    eventually("removed", async || backend.phase_of(&gone).is_none()).await;
    server.stop().await;
}
