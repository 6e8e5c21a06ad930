//! Sessions from their creation to their end, over REST and a scripted controller.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::database::{is_postgres, sql};
use common::{Act, Backend, Server, condition, config, eventually, register, simple};
use http::StatusCode;
use serde_json::json;
use streamspace_control::{Control, ControlConfig, ControlError};
use streamspace_proto::controller::v1::Condition;
use tokio::sync::Semaphore;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    (folder, backend, server)
}

#[tokio::test]
async fn create_run_list_delete() {
    let (_folder, backend, server) = start().await;
    let body = json!({
        "user": "alice", "controller_type": "docker", "controller_labels": {"region": "lab"},
        "require": ["networking"], "controller_config": {"profile": "x"},
        "spec": {"base_image": "alpine:3", "resources": {"memory": "512Mi"}, "env": [{"name": "A", "value": "1"}]},
    });
    let created = server.post("/api/v1/sessions?wait=30s", &body).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let session = created.json();
    let id = created.id();
    assert_eq!(created.header("location"), format!("/api/v1/sessions/{id}"));
    assert_eq!(session["phase"], "Running");
    assert_eq!(session["state"], "running");
    assert_eq!(session["user_id"], "alice");
    assert_eq!(session["controller_type"], "docker");
    assert_eq!(session["node_id"], format!("node-{id}"));
    assert_eq!(session["url"], format!("/s/{id}/"));
    assert_eq!(session["spec"]["home_size"], "");
    assert_eq!(session["status"]["operation"], json!(null));
    assert_eq!(condition(&session, "Ready")["status"], "True");
    assert_eq!(condition(&session, "Scheduled")["status"], "True");

    let request = backend.with(|state| state.last_create.clone()).unwrap();
    assert_eq!(request.user_id, "alice");
    assert_eq!(request.controller_config, r#"{"profile":"x"}"#);
    assert_eq!(request.spec.unwrap().resources.unwrap().memory, "512Mi");
    assert_eq!((request.generation, request.spec_hash.len()), (1, 64));

    let list = server.get("/api/v1/sessions?user_id=alice&phase=Running&controller_type=docker").await.json();
    assert_eq!(list["items"][0], server.session(&id).await);
    assert_eq!(list["next_cursor"], json!(null));
    assert_eq!(server.get("/api/v1/sessions?user_id=bob").await.json()["items"], json!([]));

    let controllers = server.get("/api/v1/admin/controllers").await.json();
    assert_eq!(controllers[0]["sessions"], 1);
    assert_eq!(controllers[0]["status"], "healthy");
    let one = format!("/api/v1/admin/controllers/{}", controllers[0]["id"].as_str().unwrap());
    assert_eq!(server.get(&one).await.json()["labels"]["region"], "lab");

    // A controller is of one type.
    let of = session["controller_id"].as_str().unwrap();
    for (kind, count) in [("docker", 1), ("kvm", 0)] {
        let page = server.get(&format!("/api/v1/sessions?controller_id={of}&controller_type={kind}")).await;
        assert_eq!(page.json()["items"].as_array().unwrap().len(), count, "{}", page.text);
    }

    let path = format!("/api/v1/sessions/{id}");
    let deleted = server.delete(&format!("{path}?wait=30s&purge_home=true")).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.delete(&path).await.status, StatusCode::NOT_FOUND);
    let delete = &backend.calls("delete")[0];
    assert!(delete.purge_home && delete.user == "alice");
    assert!(backend.with(|state| state.objects.is_empty()));
    assert_eq!(server.get("/api/v1/admin/controllers").await.json()[0]["sessions"], 0);
    server.stop().await;
}

#[tokio::test]
async fn what_passes_is_retried_with_the_same_operation() {
    let (_folder, backend, server) = start().await;
    let busy = || Act::Fail(Status::unavailable("busy"));
    backend.script("create", [busy(), Act::Fail(Status::internal("odd")), busy()]);
    let id = server.create().await;
    server.phase(&id, "Running").await;
    let calls = backend.calls("create");
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|call| call.operation == calls[0].operation));
    assert!(calls.iter().all(|call| call.epoch == calls[0].epoch), "one attachment, one epoch");
    server.stop().await;
}

#[tokio::test]
async fn a_lost_reply_makes_nothing_twice() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [Act::DoAndFail(Status::unavailable("gone away"))]);
    backend.script("delete", [Act::DoAndFail(Status::deadline_exceeded("late"))]);
    let id = server.create().await;
    server.phase(&id, "Running").await;
    assert_eq!(backend.with(|state| state.made), 1);
    assert_eq!(server.delete(&format!("/api/v1/sessions/{id}")).await.status, StatusCode::ACCEPTED);
    server.gone(&id).await;
    assert_eq!(backend.calls("delete").len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_handle_comes_back_with_the_next_step() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [Act::Progress("pull"), Act::Progress("start")]);
    backend.script("delete", [Act::Progress("stop")]);
    let id = server.create().await;
    server.phase(&id, "Running").await;
    let handles: Vec<_> = backend.calls("create").into_iter().map(|call| call.handle).collect();
    assert_eq!(handles, [&b""[..], b"pull", b"start"]);
    server.delete(&format!("/api/v1/sessions/{id}")).await;
    server.gone(&id).await;
    let handles: Vec<_> = backend.calls("delete").into_iter().map(|call| call.handle).collect();
    assert_eq!(handles, [&b""[..], b"stop"], "a deletion does not get the handle of a creation");
    server.stop().await;
}

#[tokio::test]
async fn an_accepted_session_is_looked_at_until_it_runs() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [Act::Accept]);
    let id = server.create().await;
    eventually("accepted", async || !backend.calls("create").is_empty()).await;
    backend.with(|state| drop(state.objects.insert(id.clone(), "Running".into())));
    server.phase(&id, "Running").await;
    assert_eq!(backend.calls("create").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_final_error_fails_the_session_and_deletion_stays_possible() {
    let (_folder, backend, server) = start().await;
    let details = ErrorDetails::with_error_info("IMAGE_UNKNOWN", "streamspace.controller", []);
    let refusal = Status::with_error_details(Code::InvalidArgument, "no such image: alpine:3", details);
    backend.script("create", [Act::Fail(refusal)]);
    let created = server.post("/api/v1/sessions?wait=30s", &simple()).await;
    let session = created.json();
    assert_eq!((created.status, &session["phase"]), (StatusCode::CREATED, &json!("Failed")));
    let ready = condition(&session, "Ready");
    assert_eq!(
        (&ready["reason"], &ready["message"]),
        (&json!("IMAGE_UNKNOWN"), &json!("no such image: alpine:3"))
    );
    let deleted = server.delete(&format!("/api/v1/sessions/{}?wait=30s", created.id())).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(backend.calls("create").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_failed_session_that_is_wished_again_is_tried_as_often_as_a_new_one() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [Act::Fail(Status::invalid_argument("no such image"))]);
    let id = server.create().await;
    server.phase(&id, "Failed").await;
    server.settled(&id).await;
    backend.script("create", [Act::Fail(Status::resource_exhausted("busy")), Act::Progress("pull")]);
    server.verb(&id, "wake").await;
    server.phase(&id, "Running").await;
    assert_eq!(backend.calls("create").len(), 4);
    server.stop().await;
}

#[tokio::test]
async fn a_deletion_never_gives_up() {
    let (_folder, backend, server) = start().await;
    let id = server.create().await;
    server.phase(&id, "Running").await;
    backend.script("delete", (0..4).map(|_| Act::Fail(Status::permission_denied("read-only"))));
    let path = format!("/api/v1/sessions/{id}");
    let first = server.delete(&path).await;
    assert_eq!((first.status, &first.json()["deleting"]), (StatusCode::ACCEPTED, &json!(true)));
    eventually("the condition says why, or it is gone", async || {
        let answer = server.get(&path).await;
        answer.status == StatusCode::NOT_FOUND || condition(&answer.json(), "Ready")["message"] == "read-only"
    })
    .await;
    server.gone(&id).await;
    assert_eq!(backend.calls("delete").len(), 5);
    server.stop().await;
}

#[tokio::test]
async fn a_deletion_waits_for_the_creation_under_way() {
    let (_folder, backend, server) = start().await;
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    let id = server.create().await;
    eventually("the call is under way", async || !backend.calls("create").is_empty()).await;
    let path = format!("/api/v1/sessions/{id}");
    assert_eq!(server.delete(&path).await.json()["deleting"], true);
    assert_eq!(server.delete(&path).await.status, StatusCode::ACCEPTED);
    // Another session goes all the way meanwhile: the reconciler has had every chance to begin the deletion.
    let other = server.create().await;
    server.phase(&other, "Running").await;
    assert!(backend.calls("delete").is_empty());
    assert_eq!(server.session(&id).await["deleting"], true);

    gate.add_permits(1);
    server.gone(&id).await;
    assert!(!backend.with(|state| state.overlapped));
    assert!(!backend.with(|state| state.objects.contains_key(&id)));
    let (create, delete) = (&backend.calls("create")[0], &backend.calls("delete")[0]);
    assert!(create.epoch == delete.epoch && create.operation != delete.operation);
    server.stop().await;
}

#[tokio::test]
async fn a_restart_resumes() {
    let (folder, backend, server) = start().await;
    backend.with(|state| state.health = None);
    // It does not come to its end before the restart, however long that takes.
    backend.script("create", std::iter::repeat_n(Act::Progress("pull"), 10_000));
    let id = server.create().await;
    eventually("begun", async || !backend.calls("create").is_empty()).await;
    let controller = server.get("/api/v1/admin/controllers").await.json()[0]["id"].clone();
    server.stop().await;

    let begun = backend.calls("create").len();
    let server = Server::start(folder.path(), &backend).await;
    eventually("gone on with", async || backend.calls("create").len() > begun).await;
    backend.with(|state| state.script.clear());
    let session = server.phase(&id, "Running").await;
    assert_eq!(session["controller_id"], controller, "a controller keeps its id");
    assert_eq!(backend.with(|state| state.made), 1);
    let calls = backend.calls("create");
    assert!(calls.iter().all(|call| call.operation == calls[0].operation));
    assert!(calls.last().unwrap().epoch > calls[0].epoch, "whoever comes later counts higher");
    server.stop().await;
}

#[tokio::test]
async fn a_long_creation_does_not_fence_off_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { longest_look_pause: Duration::from_millis(5), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    backend.script("create", std::iter::repeat_n(Act::Progress("pull"), 50));
    let long = server.create().await;
    eventually("begun", async || backend.calls("create").len() > 5).await;
    let short = server.create().await;
    server.phase(&short, "Running").await;
    server.phase(&long, "Running").await;
    let calls = backend.calls("create");
    assert!(calls.len() >= 52 && calls.iter().all(|call| call.epoch == calls[0].epoch));
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_is_only_looked_at_ends_in_time_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let config = ControlConfig { operation_limit: Duration::from_secs(2), ..config(folder.path()) };
    let server = Server::start_with(config.clone(), Some(&backend)).await;
    backend.script("create", [Act::Accept]);
    let id = server.create().await;
    eventually("accepted", async || backend.with(|state| state.objects.contains_key(&id))).await;
    server.stop().await;
    let server = Server::start_with(config, Some(&backend)).await;
    let session = server.phase(&id, "Failed").await;
    assert_eq!(condition(&session, "Ready")["reason"], "DeadlineExceeded");
    server.stop().await;
}

/// What a killed process leaves is its files as they are at that moment.
#[tokio::test]
async fn a_killed_server_loses_and_doubles_nothing() {
    if is_postgres() {
        return;
    }
    let (folder, backend, server) = start().await;
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    let id = server.create().await;
    eventually("the call is under way", async || !backend.calls("create").is_empty()).await;

    let remains = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), remains.path().join(entry.file_name())).unwrap();
    }
    let next = Server::start(remains.path(), &backend).await;
    assert_eq!(next.token, server.token);
    next.phase(&id, "Running").await;
    assert_eq!(backend.with(|state| state.made), 1);
    let calls = backend.calls("create");
    assert_eq!(calls.len(), 2);
    assert!(calls[0].epoch < calls[1].epoch && calls[0].operation == calls[1].operation);
    next.stop().await;
    gate.add_permits(1);
    server.stop().await;
}

#[tokio::test]
async fn two_servers_do_not_share_data() {
    let (folder, _backend, server) = start().await;
    let second = Control::open(config(folder.path())).await;
    assert!(matches!(second, Err(ControlError::InUse { .. })));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut same_database = config(elsewhere.path());
    same_database.database = config(folder.path()).database;
    let third = Control::open(same_database).await;
    if is_postgres() {
        third.unwrap().close().await;
    } else {
        assert!(matches!(third, Err(ControlError::InUse { .. })));
    }
    server.stop().await;
    Control::open(config(folder.path())).await.unwrap().close().await;
}

#[tokio::test]
async fn what_vanished_is_made_again_and_what_was_stopped_is_woken() {
    let (_folder, backend, server) = start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = server.create().await;
        server.phase(&id, "Running").await;
        ids.push(id);
    }
    for no_list in [false, true] {
        backend.with(|state| {
            state.no_list = no_list;
            state.objects.remove(&ids[3]);
            state.objects.insert(ids[4].clone(), "Hibernated".into());
        });
        eventually("all run", async || {
            backend.with(|state| {
                ids.iter().all(|id| state.objects.get(id).is_some_and(|phase| phase == "Running"))
            })
        })
        .await;
        server.phase(&ids[4], "Running").await;
        let session = server.phase(&ids[3], "Running").await;
        assert_eq!(condition(&session, "ObjectPresent")["status"], "True");
    }
    let made: Vec<_> = backend.calls("create").into_iter().map(|call| call.session).collect();
    assert_eq!(made.iter().filter(|id| **id == ids[3]).count(), 3);
    assert_eq!(made.len(), 5 + 2, "nothing else was touched");
    server.stop().await;
}

#[tokio::test]
async fn one_that_cannot_be_woken_because_it_is_gone_is_made_again() {
    let (_folder, backend, server) = start().await;
    let id = server.create().await;
    server.phase(&id, "Running").await;
    backend.script("wake", [Act::Fail(Status::not_found("no such container"))]);
    backend.with(|state| drop(state.objects.insert(id.clone(), "Hibernated".into())));
    eventually("made again", async || backend.calls("create").len() == 2).await;
    server.phase(&id, "Running").await;
    assert_eq!(backend.calls("wake").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_read_can_be_deleted() {
    let (folder, _backend, server) = start().await;
    let (broken, other) = (server.create().await, server.create().await);
    server.phase(&broken, "Running").await;
    server.phase(&other, "Running").await;
    sql(folder.path(), &format!("UPDATE sessions SET conditions = '{{}}' WHERE id = '{broken}'")).await;

    let list = server.get("/api/v1/sessions").await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["id"], json!(other));
    let path = format!("/api/v1/sessions/{broken}");
    let deleted = server.delete(&format!("{path}?wait=30s")).await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED, "{}", deleted.text);
    assert_eq!(deleted.json(), json!({"id": broken, "deleting": true}));

    // Once it can be read again, it goes.
    sql(folder.path(), &format!("UPDATE sessions SET conditions = '[]' WHERE id = '{broken}'")).await;
    assert_eq!(
        server.delete(&format!("{path}?purge_home=true&wait=30s")).await.status,
        StatusCode::NO_CONTENT
    );
    server.stop().await;
}

#[tokio::test]
async fn what_the_backend_says_about_being_ready_shows() {
    let (_folder, backend, server) = start().await;
    let id = server.create().await;
    server.phase(&id, "Running").await;
    for (status, reason) in [("False", "HealthCheckFailed"), ("True", "HealthCheckPassed")] {
        let said = Condition {
            r#type: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: "said the backend".into(),
            ..Default::default()
        };
        backend.with(|state| drop(state.ready.insert(id.clone(), said)));
        eventually(reason, async || {
            let session = server.session(&id).await;
            let ready = condition(&session, "Ready");
            ready["status"] == status && ready["reason"] == reason && session["phase"] == "Running"
        })
        .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_controller_whose_listing_hangs_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (slow, fast) = (Backend::default(), Backend::default());
    let config = ControlConfig {
        call_timeout: Duration::from_secs(120),
        observe_limit: Duration::from_millis(300),
        ..config(folder.path())
    };
    let server = Server::start_with(config, Some(&slow)).await;
    let fast_id = register(server.control(), "two", &fast).await;
    let slow_id = server.get("/api/v1/admin/controllers").await.json()[0]["id"].clone();
    let mut sessions = Vec::new();
    for controller in [slow_id, json!(fast_id.as_str())] {
        let mut body = simple();
        body["controller_id"] = controller;
        let created = server.post("/api/v1/sessions?wait=30s", &body).await;
        assert_eq!(created.json()["phase"], "Running", "{}", created.text);
        sessions.push(created.id());
    }
    slow.with(|state| {
        state.hang_list = true;
        state.lists = 0;
    });
    eventually("the listing is given up and tried again", async || slow.with(|state| state.lists > 2)).await;
    fast.with(|state| state.objects.clear());
    eventually("made again", async || fast.with(|state| state.made == 2)).await;
    assert_eq!(server.session(&sessions[0]).await["phase"], "Running", "nothing seen, nothing changed");
    server.stop().await;
}

#[tokio::test]
async fn full_waits_for_room() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.with(|state| state.max_sessions = 1);
    let server = Server::start(folder.path(), &backend).await;
    let first = server.create().await;
    server.phase(&first, "Running").await;
    let second = server.create().await;
    let waiting = server.session(&second).await;
    assert_eq!(waiting["phase"], "Pending");
    assert_eq!(waiting["controller_id"], "");
    assert_eq!(condition(&waiting, "Scheduled")["reason"], "Unschedulable");
    // One that never had a place goes without any call.
    let third = server.create().await;
    assert_eq!(
        server.delete(&format!("/api/v1/sessions/{third}?wait=30s")).await.status,
        StatusCode::NO_CONTENT
    );
    assert!(backend.calls("delete").is_empty());

    server.delete(&format!("/api/v1/sessions/{first}")).await;
    let placed = server.phase(&second, "Running").await;
    assert_eq!(condition(&placed, "Scheduled")["status"], "True");
    server.stop().await;
}

#[tokio::test]
async fn nobody_there_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(config(folder.path()), None).await;
    let answer = server.post("/api/v1/sessions", &simple()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.json()["detail"].as_str().unwrap().contains("ever registered"));

    let backend = Backend::default();
    backend.with(|state| state.health = Some(Status::unavailable("dockerd does not answer")));
    register(server.control(), "down", &backend).await;
    let answer = server.post("/api/v1/sessions", &simple()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.json()["detail"].as_str().unwrap().contains("dockerd does not answer"), "{}", answer.text);
    assert_eq!(server.get("/api/v1/sessions").await.json()["items"], json!([]));

    backend.with(|state| state.health = None);
    eventually("healthy", async || {
        server.get("/api/v1/admin/controllers").await.json()[0]["status"] == "healthy"
    })
    .await;
    let id = server.create().await;
    server.phase(&id, "Running").await;

    // It goes away under a running session: the phase stays, a condition tells.
    backend.with(|state| state.health = Some(Status::unavailable("gone")));
    eventually("noted", async || {
        condition(&server.session(&id).await, "ControllerReachable")["reason"] == "ControllerOffline"
    })
    .await;
    assert_eq!(server.session(&id).await["phase"], "Running");
    backend.with(|state| state.health = None);
    eventually("noted", async || {
        condition(&server.session(&id).await, "ControllerReachable")["status"] == "True"
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn what_gets_there_at_the_last_moment_is_not_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.script("create", [Act::Accept]);
    backend.with(|state| state.arrives = true);
    // The time is up before the first look would come.
    let config = ControlConfig { operation_limit: Duration::from_millis(50), ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let id = server.create().await;
    assert_eq!(server.settled(&id).await["phase"], "Running");
    assert!(backend.calls("delete").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_creation_out_of_time_fails() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.script("create", std::iter::repeat_n(Act::BreakOff(Status::resource_exhausted("busy")), 10_000));
    let mut config = config(folder.path());
    config.operation_limit = Duration::from_millis(300);
    let server = Server::start_with(config, Some(&backend)).await;
    let id = server.create().await;
    let session = server.phase(&id, "Failed").await;
    let ready = condition(&session, "Ready");
    assert_eq!(ready["reason"], "DeadlineExceeded");
    assert!(ready["message"].as_str().unwrap().contains("busy"));
    eventually("what it made is gone", async || backend.with(|state| state.objects.is_empty())).await;
    eventually("over", async || server.session(&id).await["status"]["operation"] == json!(null)).await;
    let session = server.session(&id).await;
    assert_eq!(session["phase"], "Failed");
    assert_eq!(condition(&session, "Ready")["reason"], "DeadlineExceeded");
    assert!(!backend.calls("delete")[0].purge_home);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(backend.calls("delete").len(), 1, "once is enough");
    server.stop().await;
}

/// The controller answers, and says that its backend does not.
#[tokio::test]
async fn a_backend_that_is_away_longer_than_an_operation_may_take_fails_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let limit = Duration::from_millis(300);
    let config = ControlConfig { operation_limit: limit, ..config(folder.path()) };
    let server = Server::start_with(config, Some(&backend)).await;
    let id = server.running().await;
    server.verb(&id, "hibernate?wait=30s").await;

    let away = || {
        let details = ErrorDetails::with_error_info("UNAVAILABLE", "streamspace.controller", []);
        Status::with_error_details(Code::Unavailable, "dockerd does not answer", details)
    };
    backend.with(|state| state.health = Some(away()));
    eventually("away", async || {
        condition(&server.session(&id).await, "ControllerReachable")["status"] == "False"
    })
    .await;
    backend.script("wake", std::iter::repeat_n(Act::Fail(away()), 10_000));
    server.verb(&id, "wake").await;
    eventually("tried", async || !backend.calls("wake").is_empty()).await;
    tokio::time::sleep(limit * 3).await;
    assert_eq!(server.session(&id).await["phase"], "Hibernated");
    backend.with(|state| {
        state.script.clear();
        state.health = None;
    });
    server.phase(&id, "Running").await;
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_panics_is_an_internal_error_at_most() {
    let (_folder, backend, server) = start().await;
    backend.script("create", [Act::Panic]);
    let id = server.create().await;
    server.phase(&id, "Running").await;
    assert_eq!(backend.calls("create").len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_does_not_hold_a_session_up() {
    let (folder, backend, server) = start().await;
    let lost = server.running().await;
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    let busy = server.create().await;
    let created = || backend.calls("create").iter().filter(|seen| seen.session == busy).count();
    eventually("the call", async || created() > 0).await;
    // As the database would have kept it.
    let claim = format!(
        "UPDATE operations SET (lease_owner, lease_expires_at) = (SELECT lease_owner, lease_expires_at \
         FROM operations WHERE session_id = '{busy}') WHERE session_id = '{lost}'"
    );
    assert_eq!(sql(folder.path(), &claim).await, 1);
    assert_eq!(server.delete(&format!("/api/v1/sessions/{lost}")).await.status, StatusCode::ACCEPTED);
    server.gone(&lost).await;
    // What is worked on was not given away.
    gate.add_permits(1);
    server.phase(&busy, "Running").await;
    assert_eq!(created(), 1);
    server.stop().await;
}
