//! Wishes for sessions that are there: what REST takes, what is called, and where it ends.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Act, Backend, Server, condition, config, eventually};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use streamspace_proto::controller::v1::Condition;
use tokio::sync::Semaphore;
use tonic::Status;

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

fn state(wish: &str) -> Value {
    json!({ "state": wish })
}

#[tokio::test]
async fn hibernate_wake_end_and_begin_again() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;

    let asleep = server.verb(&id, "hibernate?wait=30s").await;
    assert_eq!(asleep.status, StatusCode::OK, "{}", asleep.text);
    let session = asleep.json();
    assert_eq!((&session["state"], &session["phase"]), (&json!("hibernated"), &json!("Hibernated")));
    assert_eq!((&session["generation"], &session["status"]["observed_generation"]), (&json!(2), &json!(2)));
    assert_eq!(session["status"]["operation"], Value::Null);
    assert_eq!(condition(&session, "Ready")["status"], "False");
    assert_eq!(backend.phase_of(&id).unwrap(), "Hibernated");

    let awake = server.patch_with(&id, "?wait=30s", &[], state("running").to_string()).await;
    assert_eq!((awake.status, &awake.json()["phase"]), (StatusCode::OK, &json!("Running")));
    assert_eq!(awake.json()["generation"], 3, "a wake is a new wish");
    let wake = &backend.calls("wake")[0];
    assert_eq!((wake.generation, backend.calls("hibernate")[0].generation), (3, 2));

    let ended = server.patch_with(&id, "?wait=30s", &[], state("terminated").to_string()).await.json();
    assert_eq!((&ended["phase"], &ended["node_id"]), (&json!("Terminated"), &json!("")));
    assert_eq!(backend.phase_of(&id), None);
    let delete = &backend.calls("delete")[0];
    assert!(!delete.purge_home, "the home stays");
    assert_eq!(server.get(&format!("/api/v1/sessions/{id}")).await.status, StatusCode::OK);

    let again = server.verb(&id, "wake?wait=30s").await.json();
    assert_eq!((&again["phase"], &again["generation"]), (&json!("Running"), &json!(5)));
    assert_eq!(backend.with(|state| state.made), 2);
    server.stop().await;
}

#[tokio::test]
async fn the_same_wish_again_changes_nothing() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    for answer in [server.verb(&id, "wake").await, server.patch(&id, &state("running")).await, {
        server.patch(&id, &json!({})).await
    }] {
        assert_eq!((answer.status, &answer.json()["generation"]), (StatusCode::OK, &json!(1)));
    }
    let gate = Arc::new(Semaphore::new(0));
    backend.script("hibernate", [Act::Wait(Arc::clone(&gate))]);
    for _ in 0..2 {
        let answer = server.verb(&id, "hibernate").await;
        assert_eq!((answer.status, &answer.json()["generation"]), (StatusCode::ACCEPTED, &json!(2)));
    }
    let under_way = server.session(&id).await;
    let operation = &under_way["status"]["operation"];
    assert_eq!((&operation["kind"], &under_way["phase"]), (&json!("hibernate"), &json!("Running")));
    gate.add_permits(1);
    server.phase(&id, "Hibernated").await;
    assert_eq!(backend.calls("hibernate").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn what_is_under_way_shows() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    backend.script("hibernate", (0..10_000).map(|_| Act::Fail(Status::unavailable("host is rebooting"))));
    server.verb(&id, "hibernate").await;
    let mut operation = Value::Null;
    eventually("a try has failed", async || {
        operation = server.session(&id).await["status"]["operation"].clone();
        operation["last_error"] == "host is rebooting"
    })
    .await;
    assert_eq!(operation["kind"], "hibernate");
    assert!(operation["attempt"].as_u64().unwrap() > 0);
    for field in ["since", "next_attempt_at", "deadline", "message"] {
        assert!(operation[field].is_string(), "{field}: {operation}");
    }
    backend.with(|state| state.script.clear());
    server.phase(&id, "Hibernated").await;
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_wished_is_refused_and_stores_nothing() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    for (body, status, field) in [
        (r#"{"state": "asleep"}"#, 422, "state"),
        (r#"{"state": null}"#, 400, "state"),
        (r#"{"state": 7}"#, 400, "state"),
        (r#"{"stat": "running"}"#, 400, "stat"),
        (r#"{"state": "running", "phase": "Failed"}"#, 400, "phase"),
        (r#"["hibernated"]"#, 400, ""),
        ("[]", 400, ""),
        ("", 400, ""),
    ] {
        let answer = server.patch_with(&id, "", &[], body.into()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["field"], field, "{body}");
    }
    let path = format!("/api/v1/sessions/{id}");
    let plain = server.request("PATCH", &path).body(axum::body::Body::from("{}")).unwrap();
    assert_eq!(server.send(plain).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(server.verb(&id, "wake?now=true").await.status, StatusCode::BAD_REQUEST);
    let nobody = "01900000-0000-7000-8000-000000000000";
    for verb in ["wake", "hibernate", "heartbeat"] {
        assert_eq!(server.verb(nobody, verb).await.status, StatusCode::NOT_FOUND, "{verb}");
    }
    assert_eq!(server.patch(nobody, &state("running")).await.status, StatusCode::NOT_FOUND);

    backend.script("delete", [Act::Fail(Status::unavailable("later"))]);
    let gate = Arc::new(Semaphore::new(0));
    backend.script("delete", [Act::Wait(Arc::clone(&gate))]);
    server.delete(&path).await;
    let answer = server.verb(&id, "hibernate").await;
    assert_eq!(
        (answer.status, &answer.json()["type"]),
        (StatusCode::CONFLICT, &json!("urn:streamspace:problem:deleting"))
    );
    gate.add_permits(1);
    server.gone(&id).await;
    assert!(backend.calls("hibernate").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_cannot_hibernate_is_not_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.with(|state| state.no_hibernation = true);
    let server = Server::start(folder.path(), &backend).await;
    let id = server.running().await;
    let answer = server.verb(&id, "hibernate").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.json()["type"], "urn:streamspace:problem:unsupported");
    let session = server.session(&id).await;
    assert_eq!((&session["state"], &session["generation"]), (&json!("running"), &json!(1)));
    assert!(backend.calls("hibernate").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_key_makes_a_wish_once() {
    let (_folder, backend, server) = start().await;
    let id = server.running().await;
    let key = [("idempotency-key", "sleep-1")];
    let first = server.patch_with(&id, "", &key, state("hibernated").to_string()).await;
    assert_eq!(first.status, StatusCode::ACCEPTED);
    server.settled(&id).await;
    server.verb(&id, "wake?wait=30s").await;
    // The same request again is no new wish, although the session is wished otherwise by now.
    let second = server.patch_with(&id, "", &key, state("hibernated").to_string()).await;
    assert_eq!((second.status, &second.text), (StatusCode::ACCEPTED, &first.text));
    assert_eq!(server.session(&id).await["state"], "running");
    let other = server.patch_with(&id, "", &key, state("terminated").to_string()).await;
    assert_eq!(other.json()["type"], "urn:streamspace:problem:idempotency-key");
    let made = server.post_with("/api/v1/sessions", &key, common::simple().to_string()).await;
    assert_eq!(made.status, StatusCode::CONFLICT, "the key belongs to another request");
    assert_eq!(backend.calls("hibernate").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn one_that_failed_is_tried_again_when_it_is_wished_again() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [Act::Fail(Status::invalid_argument("no such image"))]);
    let id = server.create().await;
    server.phase(&id, "Failed").await;
    let session = server.verb(&id, "wake?wait=30s").await.json();
    assert_eq!((&session["phase"], &session["generation"]), (&json!("Running"), &json!(2)));
    assert_eq!(server.verb(&id, "wake").await.json()["generation"], 2);
    server.stop().await;
}

#[tokio::test]
async fn the_last_of_many_wishes_wins() {
    let (_folder, backend, server) = start().await;
    // During the creation.
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    let id = server.create().await;
    eventually("the call is under way", async || !backend.calls("create").is_empty()).await;
    assert_eq!(server.verb(&id, "hibernate").await.status, StatusCode::ACCEPTED);
    assert_eq!(server.session(&id).await["status"]["observed_generation"], Value::Null);
    gate.add_permits(1);
    server.phase(&id, "Hibernated").await;
    assert_eq!(server.settled(&id).await["generation"], 2);

    // During the hibernation: the session still looks as if it ran.
    server.verb(&id, "wake?wait=30s").await;
    backend.script("hibernate", [Act::Wait(Arc::clone(&gate))]);
    server.verb(&id, "hibernate").await;
    eventually("the call is under way", async || backend.calls("hibernate").len() == 2).await;
    server.verb(&id, "wake").await;
    gate.add_permits(1);
    let session = server.settled(&id).await;
    assert_eq!((&session["phase"], &session["generation"]), (&json!("Running"), &json!(5)));
    assert_eq!(backend.phase_of(&id).unwrap(), "Running");

    // And when its reply was lost, or it only said that it goes on.
    for act in [Act::DoAndFail(Status::deadline_exceeded("late")), Act::Progress("shutting down")] {
        let (before, wakes) = (backend.calls("hibernate").len(), backend.calls("wake").len());
        backend.script("hibernate", [act]);
        backend.with(|state| state.poll_after = Some(Duration::from_secs(30)));
        server.verb(&id, "hibernate").await;
        eventually("asked", async || backend.calls("hibernate").len() > before).await;
        server.verb(&id, "wake").await;
        let session = server.settled(&id).await;
        assert_eq!(session["phase"], "Running");
        assert_eq!(backend.phase_of(&id).unwrap(), "Running");
        assert_eq!(backend.calls("wake").len(), wakes + 1, "what may still stop is started for sure");
    }

    // Deleted in the middle of anything.
    backend.script("hibernate", [Act::Wait(Arc::clone(&gate))]);
    server.verb(&id, "hibernate").await;
    server.delete(&format!("/api/v1/sessions/{id}")).await;
    gate.add_permits(1);
    server.gone(&id).await;
    assert!(backend.phase_of(&id).is_none() && !backend.with(|state| state.overlapped));
    server.stop().await;
}

#[tokio::test]
async fn a_session_without_a_controller_can_be_ended_and_begun() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.with(|state| state.max_sessions = 1);
    let server = Server::start(folder.path(), &backend).await;
    let first = server.running().await;
    let waiting = server.create().await;
    let ended = server.patch(&waiting, &state("terminated")).await;
    assert_eq!((ended.status, &ended.json()["phase"]), (StatusCode::OK, &json!("Terminated")));
    server.verb(&waiting, "wake").await;
    server.delete(&format!("/api/v1/sessions/{first}")).await;
    server.phase(&waiting, "Running").await;
    server.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_with_every_verb() {
    let (folder, backend, server) = start().await;
    let id = server.running().await;
    backend.script("hibernate", [Act::Progress("saving"), Act::Progress("saving")]);
    server.verb(&id, "hibernate").await;
    eventually("begun", async || !backend.calls("hibernate").is_empty()).await;
    server.stop().await;
    let server = Server::start(folder.path(), &backend).await;
    server.phase(&id, "Hibernated").await;
    let calls = backend.calls("hibernate");
    assert!(calls.iter().all(|call| call.operation == calls[0].operation && call.generation == 2));
    assert_eq!(calls.last().unwrap().handle, b"saving");

    backend.script("wake", [Act::Accept]);
    server.verb(&id, "wake").await;
    eventually("accepted", async || backend.phase_of(&id).unwrap() == "Pending").await;
    server.stop().await;
    let server = Server::start(folder.path(), &backend).await;
    backend.with(|state| drop(state.objects.insert(id.clone(), "Running".into())));
    server.phase(&id, "Running").await;
    assert_eq!((backend.calls("wake").len(), backend.calls("create").len()), (1, 1), "it was only looked at");
    server.stop().await;
}

/// What a killed process leaves is its files as they are at that moment.
#[tokio::test]
async fn a_server_killed_in_the_middle_of_a_verb_loses_and_doubles_nothing() {
    if common::database::is_postgres() {
        return;
    }
    for (verb, rpc, from, to) in
        [("hibernate", "hibernate", "Running", "Hibernated"), ("wake", "wake", "Hibernated", "Running")]
    {
        let (folder, backend, server) = start().await;
        let id = server.running().await;
        if from == "Hibernated" {
            server.verb(&id, "hibernate?wait=30s").await;
        }
        let gate = Arc::new(Semaphore::new(0));
        backend.script(rpc, [Act::Wait(Arc::clone(&gate))]);
        server.verb(&id, verb).await;
        eventually("the call is under way", async || !backend.calls(rpc).is_empty()).await;
        let remains = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), remains.path().join(entry.file_name())).unwrap();
        }
        let next = Server::start(remains.path(), &backend).await;
        next.phase(&id, to).await;
        next.settled(&id).await;
        let calls = backend.calls(rpc);
        assert_eq!(calls.len(), 2);
        assert!(calls[0].epoch < calls[1].epoch && calls[0].operation == calls[1].operation);
        assert_eq!((backend.with(|state| state.made), backend.phase_of(&id).unwrap().as_str()), (1, to));
        next.stop().await;
        gate.add_permits(1);
        server.stop().await;
    }
}

#[tokio::test]
async fn progress_shows_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    // Without the controller's word the next step would come only after a minute.
    let config = ControlConfig { longest_look_pause: Duration::from_secs(60), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    backend.with(|state| {
        state.poll_after = Some(Duration::from_millis(1));
        state.progress = vec![Condition {
            r#type: "ImagePulled".into(),
            status: "False".into(),
            reason: "Pulling".into(),
            message: "3 of 7 layers".into(),
            ..Default::default()
        }];
    });
    backend.script("create", std::iter::repeat_n(Act::Progress("pull"), 12));
    // It does not end before somebody has looked.
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    let id = server.create().await;
    eventually("it shows", async || {
        condition(&server.session(&id).await, "ImagePulled")["reason"] == "Pulling"
    })
    .await;
    gate.add_permits(1);
    let session = server.phase(&id, "Running").await;
    assert_eq!(*condition(&session, "ImagePulled"), Value::Null);
    assert_eq!(backend.calls("create").len(), 13);
    server.stop().await;
}

#[tokio::test]
async fn the_last_sign_of_a_user_is_kept() {
    let (folder, backend, server) = start().await;
    let id = server.running().await;
    assert_eq!(server.session(&id).await["status"]["last_activity"], Value::Null);
    let last = async |server: &Server| server.session(&id).await["status"]["last_activity"].clone();
    // The backend knows of an old one …
    backend.with(|state| state.last_activity.extend([(id.clone(), 1_700_000_000)]));
    eventually("seen", async || last(&server).await == "2023-11-14T22:13:20Z").await;
    // … and a beat is later than that.
    assert_eq!(server.verb(&id, "heartbeat").await.status, StatusCode::NO_CONTENT);
    let beat = last(&server).await;
    assert!(beat.as_str().unwrap() > "2024", "{beat}");
    assert_eq!(server.verb(&id, "heartbeat").await.status, StatusCode::NO_CONTENT);
    assert_eq!(last(&server).await, beat, "one that follows at once is not written");
    let lists = backend.with(|state| state.lists);
    eventually("observed again", async || backend.with(|state| state.lists > lists + 2)).await;
    assert_eq!(last(&server).await, beat, "nor is an older one");
    server.stop().await;
    let server = Server::start(folder.path(), &backend).await;
    assert_eq!(last(&server).await, beat);
    server.stop().await;
}

/// Each step succeeds or has a good reason not to; only together they lead nowhere.
#[tokio::test]
async fn a_backend_that_loses_what_it_stops_ends_in_failure() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig {
        operation_limit: Duration::from_millis(1500),
        repair_pause: Duration::from_millis(50),
        ..config(folder.path())
    };
    let server = Server::start_with(config, Some(&backend)).await;
    let id = server.running().await;
    backend.with(|state| state.loses = true);
    server.verb(&id, "hibernate").await;
    let session = server.phase(&id, "Failed").await;
    assert_eq!(condition(&session, "Ready")["reason"], "DeadlineExceeded");
    let made = backend.with(|state| state.made);
    assert!((2..=10).contains(&made), "{made}");
    server.stop().await;
}

/// A backend that restarts may forget what it has taken.
#[tokio::test]
async fn what_was_taken_and_forgotten_is_wished_again() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { longest_look_pause: Duration::from_millis(5), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let id = server.running().await;
    server.verb(&id, "hibernate?wait=30s").await;
    backend.script("wake", [Act::Accept]);
    server.verb(&id, "wake").await;
    eventually("taken", async || backend.phase_of(&id).unwrap() == "Pending").await;
    backend.by_hand(&id, Some("Hibernated"));
    server.phase(&id, "Running").await;
    let wakes = backend.calls("wake");
    assert_eq!((wakes.len(), &wakes[0].operation), (2, &wakes[1].operation));
    server.stop().await;
}
