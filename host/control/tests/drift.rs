//! The backend changes behind the server's back: what is seen, what is said, and what is done about it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Act, Backend, Server, condition, config, eventually, register};
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use streamspace_proto::controller::v1::{Condition, SessionEvent, SessionStatusResponse};
use tokio::sync::Semaphore;
use tonic::Status;

const NEVER: Duration = Duration::from_secs(3600);

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

/// A server that lists only when it has a reason to.
async fn start_watching(backend: &Backend) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    backend.with(|state| state.watchable = true);
    let config =
        ControlConfig { observe_interval: NEVER, longest_look_pause: NEVER, ..config(folder.path()) };
    let server = Server::start_with(config, Some(backend)).await;
    (folder, server)
}

/// Waits until what is told of a session leads to a question about it: what comes together with the beginning of a stream
/// is found by the listing that it leads to.
async fn heard(backend: &Backend, id: &str) {
    let asked = backend.asked(id);
    eventually("heard", async || {
        backend.touch(id);
        backend.asked(id) > asked
    })
    .await;
}

fn says(reason: &str) -> Condition {
    Condition {
        r#type: "Ready".into(),
        status: "False".into(),
        reason: reason.into(),
        message: "said the backend".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_is_gone_is_told_first_and_then_made_again() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    backend.by_hand(&id, None);
    eventually("asked for", async || backend.calls("create").len() == 2).await;
    let session = server.session(&id).await;
    let drifted = condition(&session, "Drifted");
    assert_eq!((&drifted["status"], &drifted["reason"]), (&json!("True"), &json!("ObjectGone")));
    assert_eq!(session["phase"], "Pending");
    gate.add_permits(1);
    let session = server.phase(&id, "Running").await;
    assert_eq!(condition(&session, "Drifted")["status"], "False");
    assert_eq!(session["generation"], 1, "nobody wished anything");
    assert!(backend.calls("delete").is_empty(), "the home is not touched");
    server.stop().await;
}

#[tokio::test]
async fn what_is_stopped_or_started_by_hand_is_turned_back() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    for (by_hand, rpc, reason) in [("Hibernated", "wake", "Stopped"), ("Running", "hibernate", "Started")] {
        if rpc == "hibernate" {
            server.verb(&id, "hibernate?wait=30s").await;
        }
        let calls = backend.calls(rpc).len();
        let gate = Arc::new(Semaphore::new(0));
        backend.script(rpc, [Act::Wait(Arc::clone(&gate))]);
        backend.by_hand(&id, Some(by_hand));
        eventually("asked for", async || backend.calls(rpc).len() > calls).await;
        let session = server.session(&id).await;
        assert_eq!(condition(&session, "Drifted")["reason"], reason);
        gate.add_permits(1);
        let session = server.settled(&id).await;
        assert_eq!(condition(&session, "Drifted")["status"], "False", "{reason}");
        assert_ne!(backend.phase_of(&id).unwrap(), by_hand);
    }
    // Nothing is to be there of one that has ended.
    server.patch_with(&id, "?wait=30s", &[], json!({"state": "terminated"}).to_string()).await;
    backend.by_hand(&id, Some("Running"));
    eventually("removed", async || backend.phase_of(&id).is_none()).await;
    assert_eq!(server.settled(&id).await["phase"], "Terminated");
    server.stop().await;
}

#[tokio::test]
async fn what_fails_at_the_backend_has_failed_until_it_is_wished_again() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    backend.with(|state| drop(state.ready.insert(id.clone(), says("OOMKilled"))));
    backend.by_hand(&id, Some("Failed"));
    let session = server.phase(&id, "Failed").await;
    assert_eq!(condition(&session, "Ready")["reason"], "OOMKilled");
    backend.listed(3).await;
    assert_eq!(backend.calls("create").len(), 1, "no endless loop");
    assert!(backend.calls("delete").is_empty() && backend.calls("wake").is_empty());
    // Made, as every creation of what is there, by finding it.
    backend.with(|state| state.ready.clear());
    let session = server.verb(&id, "wake?wait=30s").await.json();
    assert_eq!((&session["phase"], &session["generation"]), (&json!("Running"), &json!(2)));
    server.stop().await;
}

#[tokio::test]
async fn what_is_made_after_its_creation_has_failed_is_removed() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [Act::Fail(Status::invalid_argument("no such image"))]);
    let id = server.create().await;
    server.phase(&id, "Failed").await;
    server.settled(&id).await;
    let deletions = backend.calls("delete").len();
    backend.by_hand(&id, Some("Running"));
    eventually("removed", async || backend.phase_of(&id).is_none()).await;
    let session = server.settled(&id).await;
    assert_eq!((&session["phase"], backend.calls("delete").len()), (&json!("Failed"), deletions + 1));
    assert_eq!(condition(&session, "Ready")["message"], "no such image", "why it failed stays");
    let drifted = condition(&session, "Drifted");
    assert_eq!((&drifted["status"], &drifted["reason"]), (&json!("False"), &json!("Repaired")));
    backend.listed(3).await;
    assert_eq!(backend.calls("delete").len(), deletions + 1);
    server.stop().await;
}

#[tokio::test]
async fn what_is_paused_by_hand_is_said_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { operation_limit: Duration::from_millis(100), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let id = server.running().await;
    backend.with(|state| drop(state.ready.insert(id.clone(), says("Paused"))));
    backend.by_hand(&id, Some("Pending"));
    let session = server.phase(&id, "Pending").await;
    assert_eq!(condition(&session, "Ready")["reason"], "Paused");
    backend.listed(5).await;
    assert_eq!(server.session(&id).await["phase"], "Pending", "it does not run out of time");
    assert_eq!(backend.calls("create").len(), 1);

    // Not even a wish that comes to nothing removes what somebody has worked in.
    backend.script("create", [Act::Accept]);
    server.verb(&id, "hibernate").await;
    server.phase(&id, "Failed").await;
    server.settled(&id).await;
    assert!(backend.phase_of(&id).is_some() && backend.calls("delete").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn what_is_removed_again_and_again_is_made_again_ever_later() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { repair_pause: NEVER, ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let id = server.running().await;
    backend.by_hand(&id, None);
    eventually("made again", async || backend.with(|state| state.made == 2)).await;
    server.settled(&id).await;
    backend.by_hand(&id, None);
    let session = server.phase(&id, "Pending").await;
    let drifted = condition(&session, "Drifted");
    assert!(drifted["message"].as_str().unwrap().contains("2. time in a row"), "{drifted}");
    assert!(session["status"]["operation"]["next_attempt_at"].is_string());
    backend.listed(3).await;
    assert_eq!(backend.with(|state| state.made), 2);
    // Whoever wishes it has it at once.
    server.verb(&id, "hibernate").await;
    server.phase(&id, "Hibernated").await;
    assert_eq!(backend.with(|state| state.made), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_session_that_comes_back_is_removed_and_an_unknown_one_is_not() {
    let (_folder, backend, server) = start().await;
    let unknown = "01900000-0000-7000-8000-000000000000";
    backend.by_hand(unknown, Some("Running"));
    let (id, other) = (server.running().await, server.running().await);
    assert_eq!(server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await.status, 204);
    backend.script("delete", [Act::Progress("stopping")]);
    backend.by_hand(&id, Some("Running"));
    eventually("removed", async || backend.phase_of(&id).is_none()).await;
    let calls = backend.calls("delete");
    assert_eq!(calls.last().unwrap().handle, b"stopping");
    assert!(calls.iter().all(|call| call.session == id && !call.purge_home));
    backend.listed(3).await;
    assert!(backend.phase_of(unknown).is_some() && backend.phase_of(&other).is_some());

    // Many at once are a mystery, and nothing that a mystery tells is removed.
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
    backend.listed(3).await;
    assert_eq!(backend.calls("delete").len(), deletions);
    server.stop().await;
}

#[tokio::test]
async fn a_listing_that_fails_or_breaks_off_changes_nothing() {
    let (_folder, backend, server) = start().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(server.running().await);
    }
    backend.with(|state| state.fail_second_page = true);
    backend.listed(2).await;
    backend.by_hand(&ids[0], Some("Hibernated"));
    backend.listed(4).await;
    assert!(backend.calls("wake").is_empty());
    backend.with(|state| {
        state.fail_second_page = false;
        state.fail_list = Some(Status::unavailable("no database"));
        state.objects.clear();
    });
    backend.listed(4).await;
    assert_eq!(backend.calls("create").len(), 4);
    for id in &ids {
        assert_eq!(server.session(id).await["phase"], "Running");
    }
    backend.with(|state| state.fail_list = None);
    eventually("made again", async || backend.with(|state| state.made == 8)).await;
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_removed_or_made_before_the_first_whole_listing() {
    let (folder, backend, server) = start().await;
    let (id, lost, deleted) = (server.running().await, server.running().await, server.running().await);
    assert_eq!(server.delete(&format!("/api/v1/sessions/{deleted}?wait=30s")).await.status, 204);
    let calls = |rpc: &str| backend.calls(rpc).len();
    let (creations, deletions) = (calls("create"), calls("delete"));
    server.stop().await;

    // What is there and what is not, a server that has just been started knows from listings alone: one that fails, and
    // one that breaks off behind its first page.
    backend.by_hand(&deleted, Some("Running"));
    backend.by_hand(&lost, None);
    backend.by_hand("01900000-0000-7000-8000-000000000000", Some("Running"));
    backend.with(|state| state.fail_list = Some(Status::unavailable("not yet")));
    let server = Server::start(folder.path(), &backend).await;
    backend.listed(3).await;
    backend.with(|state| {
        state.fail_list = None;
        state.fail_second_page = true;
    });
    backend.listed(3).await;
    assert_eq!((calls("create"), calls("delete")), (creations, deletions));
    assert_eq!(server.session(&lost).await["phase"], "Running");

    backend.with(|state| state.fail_second_page = false);
    eventually("removed", async || backend.phase_of(&deleted).is_none()).await;
    eventually("made again", async || backend.phase_of(&lost).is_some()).await;
    assert_eq!(backend.phase_of(&id).as_deref(), Some("Running"));
    server.stop().await;
}

#[tokio::test]
async fn a_backend_that_lost_nearly_everything_is_not_believed_at_once() {
    let (_folder, backend, server) = start().await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(server.running().await);
    }
    // A listing that shows nothing, while every one is there: never acted upon.
    let asked = backend.asked(&ids[0]);
    backend.with(|state| state.hide_all = true);
    eventually("each one is asked for by name", async || backend.asked(&ids[0]) > asked).await;
    backend.listed(4).await;
    assert_eq!(backend.calls("create").len(), 7);
    let mut session = Value::Null;
    eventually("doubted", async || {
        session = server.session(&ids[0]).await;
        condition(&session, "ObjectPresent")["status"] != "False"
            && condition(&session, "ObjectPresent") != &Value::Null
    })
    .await;
    assert_eq!(session["phase"], "Running");
    backend.with(|state| state.hide_all = false);
    eventually("no doubt is left", async || {
        condition(&server.session(&ids[0]).await, "ObjectPresent")["status"] == "True"
    })
    .await;

    // One that is really empty says so for every single session.
    backend.with(|state| state.objects.clear());
    eventually("made again", async || backend.with(|state| state.made == 14)).await;
    for id in &ids {
        server.phase(id, "Running").await;
        server.settled(id).await;
    }
    assert!(backend.calls("delete").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn one_that_a_listing_leaves_out_is_asked_for_before_it_is_made_again() {
    let (_folder, backend, server) = start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(server.running().await);
    }
    let asked = backend.asked(&ids[1]);
    // Whoever believed the listing would make it anew, and remove it when that is refused.
    backend.script("create", [Act::Fail(Status::invalid_argument("no such image"))]);
    backend.with(|state| state.hide = [ids[1].clone()].into());
    eventually("asked for by name", async || backend.asked(&ids[1]) > asked).await;
    backend.listed(3).await;
    assert_eq!((backend.calls("create").len(), backend.calls("delete").len()), (3, 0));
    assert_eq!(server.session(&ids[1]).await["phase"], "Running");

    // Nothing is known of it while it cannot be asked for either.
    backend.with(|state| state.fail_status = Some(Status::unavailable("no engine")));
    backend.by_hand(&ids[1], None);
    backend.listed(3).await;
    assert_eq!(server.session(&ids[1]).await["phase"], "Running");
    backend.with(|state| {
        state.fail_status = None;
        state.script.clear();
    });
    eventually("made again", async || backend.with(|state| state.made == 4)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_is_away_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { observe_interval: NEVER, ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let (id, other) = (server.running().await, server.running().await);
    eventually("listed", async || backend.with(|state| state.lists > 0)).await;
    backend.with(|state| {
        let away = || Some(Status::unavailable("dockerd does not answer"));
        // A look that was asked for before may come after this.
        (state.health, state.fail_list, state.fail_status) = (away(), away(), away());
        state.objects.remove(&other);
    });
    eventually("noted", async || {
        condition(&server.session(&id).await, "ControllerReachable")["status"] == "False"
    })
    .await;
    for id in [&id, &other] {
        assert_eq!(server.session(id).await["phase"], "Running");
    }
    assert_eq!((backend.calls("create").len(), backend.calls("delete").len()), (2, 0));
    backend.with(|state| (state.health, state.fail_list, state.fail_status) = (None, None, None));
    eventually("made again", async || backend.with(|state| state.made == 3)).await;
    let session = server.settled(&other).await;
    assert_eq!(condition(&session, "ControllerReachable")["status"], "True");
    assert_eq!(backend.calls("create").iter().filter(|call| call.session == id).count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_does_not_come_back_with_the_server_is_said() {
    // Another server may reach it: there it is said only after nobody has for minutes.
    if common::database::is_postgres() {
        return;
    }
    let (folder, backend, server) = start().await;
    let id = server.running().await;
    server.stop().await;
    let server = Server::start_with(config(folder.path()), None).await;
    let mut session = Value::Null;
    eventually("noted", async || {
        session = server.session(&id).await;
        condition(&session, "ControllerReachable")["status"] == "False"
    })
    .await;
    assert_eq!(condition(&session, "ControllerReachable")["reason"], "ControllerNotConnected");
    assert_eq!(session["phase"], "Running");
    register(server.control(), "one", &backend).await;
    eventually("noted", async || {
        condition(&server.session(&id).await, "ControllerReachable")["status"] == "True"
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn an_event_leads_to_a_question_and_the_answer_decides() {
    let backend = Backend::default();
    let (_folder, server) = start_watching(&backend).await;
    let id = server.running().await;
    eventually("watched", async || backend.with(|state| state.watches == 1)).await;

    backend.by_hand(&id, Some("Hibernated"));
    backend.touch(&id);
    eventually("woken", async || backend.phase_of(&id).unwrap() == "Running").await;
    server.settled(&id).await;

    // Said to be gone, and is not.
    let asked = backend.asked(&id);
    let gone = |id: &str| SessionEvent {
        status: Some(SessionStatusResponse {
            session_id: id.into(),
            phase: "Terminated".into(),
            ..Default::default()
        }),
        gone: true,
        ..Default::default()
    };
    // What comes together with the beginning of a stream is found by the listing that it leads to.
    eventually("asked", async || {
        backend.tell(gone(&id));
        backend.asked(&id) > asked
    })
    .await;
    let lists = backend.with(|state| state.lists);
    assert_eq!(server.settled(&id).await["phase"], "Running");
    assert_eq!(backend.calls("create").len(), 1);
    // Said to be gone, and is.
    backend.by_hand(&id, None);
    backend.tell(gone(&id));
    eventually("made again", async || backend.with(|state| state.made == 2)).await;
    assert_eq!(backend.with(|state| state.lists), lists, "no listing was needed");

    // A session that was deleted comes back.
    server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await;
    backend.by_hand(&id, Some("Running"));
    backend.touch(&id);
    eventually("removed", async || backend.phase_of(&id).is_none()).await;
    for odd in ["", "nonsense", "01900000-0000-7000-8000-000000000000"] {
        backend.touch(odd);
    }
    backend.tell(SessionEvent::default());
    let other = server.running().await;
    backend.by_hand(&other, Some("Hibernated"));
    backend.tell(SessionEvent { resync: true, ..Default::default() });
    eventually("found by a listing", async || backend.phase_of(&other).unwrap() == "Running").await;
    assert!(backend.with(|state| state.lists) > lists);
    server.stop().await;
}

#[tokio::test]
async fn events_that_tell_of_many_losses_are_not_believed_either() {
    let backend = Backend::default();
    let (_folder, server) = start_watching(&backend).await;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(server.running().await);
    }
    eventually("watched", async || backend.with(|state| state.watches == 1)).await;
    let lists = backend.with(|state| state.lists);
    // Once made again, one is not told of a second time.
    backend.with(|state| state.objects.clear());
    for id in &ids {
        backend.touch(id);
    }
    eventually("listed", async || backend.with(|state| state.lists > lists)).await;
    // The listing that follows may come before the first of them is believed.
    eventually("each was doubted or believed", async || {
        let mut doubted = 0;
        for id in &ids {
            let session = server.session(id).await;
            doubted += u32::from(condition(&session, "ObjectPresent")["reason"] == "NotListed");
        }
        doubted + backend.with(|state| state.made) == 12 + 12
    })
    .await;
    let believed = backend.with(|state| state.made) - 12;
    assert!(believed <= 5, "{believed} were believed");
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_events_is_a_few_questions() {
    let backend = Backend::default();
    let (_folder, server) = start_watching(&backend).await;
    let (id, other) = (server.running().await, server.running().await);
    heard(&backend, &id).await;
    let asked = backend.asked(&id);
    for _ in 0..20_000 {
        backend.touch(&id);
    }
    // They are all taken when the one behind them has been answered; both may be asked for at once then.
    let last = backend.asked(&other);
    backend.touch(&other);
    eventually("through", async || backend.asked(&other) > last && backend.asked(&id) > asked).await;
    let questions = backend.asked(&id) - asked;
    assert!((1..1000).contains(&questions), "{questions}");
    server.stop().await;
}

#[tokio::test]
async fn an_event_ends_the_wait_for_a_look() {
    let backend = Backend::default();
    let (_folder, server) = start_watching(&backend).await;
    backend.script("create", [Act::Accept]);
    let id = server.create().await;
    // The looks come ever later; at some time only an event can be it.
    eventually("looked at", async || backend.asked(&id) >= 4).await;
    backend.by_hand(&id, Some("Running"));
    backend.touch(&id);
    server.phase(&id, "Running").await;
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_and_one_that_is_refused_is_not() {
    let backend = Backend::default();
    let (_folder, server) = start_watching(&backend).await;
    let id = server.running().await;
    for watches in 1..4 {
        eventually("watched", async || backend.with(|state| state.watches == watches)).await;
        backend.hang_up();
    }
    eventually("watched", async || backend.with(|state| state.watches == 4)).await;
    backend.by_hand(&id, Some("Hibernated"));
    backend.touch(&id);
    eventually("woken", async || backend.phase_of(&id).unwrap() == "Running").await;
    server.stop().await;

    let backend = Backend::default();
    backend.with(|state| state.no_watch = true);
    let folder = tempfile::tempdir().unwrap();
    backend.with(|state| state.watchable = true);
    let server = Server::start(folder.path(), &backend).await;
    eventually("asked", async || backend.with(|state| state.watches == 1)).await;
    // Not even after it was away.
    for health in [Some(Status::unavailable("away")), None] {
        let expected = if health.is_some() { "offline" } else { "healthy" };
        backend.with(|state| state.health = health);
        eventually(expected, async || {
            server.get("/api/v1/admin/controllers").await.json()[0]["status"] == expected
        })
        .await;
    }
    backend.listed(4).await;
    assert_eq!(backend.with(|state| state.watches), 1);
    server.stop().await;
}
