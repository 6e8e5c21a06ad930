//! A session that goes on on another controller.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::calls::{Clients, refusal, seconds};
use common::{Act, Answer, Backend, Server, condition, config, eventually, register, simple};
use serde_json::{Value, json};
use streamspace_control::{ControlConfig, ControllerId};
use streamspace_proto::api::v1 as api;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

struct Two {
    _folder: tempfile::TempDir,
    server: Server,
    one: Backend,
    two: Backend,
    /// Their ids.
    from: String,
    to: String,
}

async fn two() -> Two {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Backend::default(), Backend::default());
    let server = Server::start(folder.path(), &one).await;
    let to = register(server.control(), "two", &two).await.to_string();
    let from = server.get("/api/v1/admin/controllers").await.json()[0]["id"].as_str().unwrap().to_owned();
    healthy(&server).await;
    Two { _folder: folder, server, one, two, from, to }
}

async fn healthy(server: &Server) {
    eventually("healthy", async || {
        let all = server.get("/api/v1/admin/controllers").await.json();
        all.as_array().unwrap().iter().all(|one| one["status"] == "healthy")
    })
    .await;
}

async fn on(server: &Server, controller: &str, body: Value) -> String {
    let mut body = body;
    body["controller_id"] = controller.into();
    let made = server.post("/api/v1/sessions?wait=30s", &body).await;
    assert_eq!((made.status.as_u16(), &made.json()["phase"]), (201, &json!("Running")), "{}", made.text);
    made.id()
}

async fn migrate(server: &Server, id: &str, to: &str, query: &str) -> Answer {
    server.post(&format!("/api/v1/sessions/{id}/migrate{query}"), &json!({"controller_id": to})).await
}

async fn patch(server: &Server, controller: &str, change: Value) {
    let path = format!("/api/v1/admin/controllers/{controller}");
    let done = server.call(&server.token, "PATCH", &path, Some(&change)).await;
    assert_eq!(done.status, 200, "{}", done.text);
}

fn kind(answer: &Answer) -> String {
    answer.json()["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
}

#[tokio::test]
async fn it_is_removed_here_and_made_there() {
    let Two { _folder, server, one, two, from, to } = two().await;
    let id = on(&server, &from, simple()).await;
    let gate = Arc::new(Semaphore::new(0));
    one.script("delete", [Act::Wait(Arc::clone(&gate))]);
    let told = migrate(&server, &id, &to, "").await;
    assert_eq!(told.status, 202, "{}", told.text);
    let session = told.json();
    assert_eq!((&session["controller_id"], &session["moving_to"]), (&json!(from), &json!(to)), "{session}");
    assert_eq!((&session["state"], &session["generation"]), (&json!("running"), &json!(2)));
    assert_eq!(condition(&session, "Migrating")["status"], "True");
    let why = server.get(&format!("/api/v1/sessions/{id}/explain")).await.json();
    assert!(why["waiting_for"].as_str().unwrap().contains("to be moved"), "{why}");
    // Its place there is kept.
    let target = server.get(&format!("/api/v1/admin/controllers/{to}")).await.json();
    assert_eq!(target["reserved"]["sessions"], 1, "{target}");
    // The same again is the same; another target is not, while it is on its way.
    let again = migrate(&server, &id, &to, "").await;
    assert_eq!((again.status.as_u16(), &again.json()["generation"]), (202, &json!(2)), "{}", again.text);
    let refused = migrate(&server, &id, &from, "").await;
    assert_eq!((refused.status.as_u16(), kind(&refused).as_str()), (409, "migrating"), "{}", refused.text);
    // Nothing is there before nothing is here.
    assert!(two.calls("create").is_empty());
    gate.add_permits(1);
    let session = server.settled(&id).await;
    assert_eq!((&session["controller_id"], &session["phase"]), (&json!(to), &json!("Running")), "{session}");
    assert_eq!((&session["moving_to"], &session["generation"]), (&Value::Null, &json!(2)));
    assert_eq!(condition(&session, "Migrating")["reason"], "Moved");
    assert!(one.phase_of(&id).is_none() && two.phase_of(&id).is_some());
    let created = two.calls("create");
    assert_eq!((created.len(), created[0].generation), (1, 2));
    assert!(one.calls("delete").iter().all(|seen| !seen.purge_home));
    assert_eq!(migrate(&server, &id, &to, "").await.status, 200, "it is there");

    // What is counted is counted where it is.
    let all = server.get("/api/v1/admin/controllers").await.json();
    let counted: Vec<_> =
        all.as_array().unwrap().iter().map(|one| (&one["sessions"], &one["reserved"]["sessions"])).collect();
    assert_eq!(counted, [(&json!(0), &json!(0)), (&json!(1), &json!(1))]);
    // And it is told.
    let log = server.get("/api/v1/admin/audit?action=session.migrate").await.json();
    assert_eq!(log["items"].as_array().unwrap().len(), 1, "{log}");
    assert_eq!(
        log["items"][0]["details"],
        json!({"user_id": "admin", "from": from, "to": to, "generation": 2})
    );
    let events = server.get(&format!("/api/v1/sessions/{id}/events")).await.json();
    let placed: Vec<_> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "session.placed")
        .map(|event| event["data"]["controller_id"].clone())
        .collect();
    assert_eq!(placed, [json!(from), json!(to)]);

    // What turns up of it where it was is removed; it stays where it is.
    one.by_hand(&id, Some("Running"));
    eventually("collected", async || one.phase_of(&id).is_none()).await;
    assert!(two.phase_of(&id).is_some());
    // And back again.
    let back = migrate(&server, &id, &from, "?wait=30s").await;
    assert_eq!((back.status.as_u16(), &back.json()["controller_id"]), (200, &json!(from)), "{}", back.text);
    assert!(one.phase_of(&id).is_some() && two.phase_of(&id).is_none());
    one.listed(2).await;
    assert!(one.phase_of(&id).is_some(), "it is wanted here again");
    server.stop().await;
}

#[tokio::test]
async fn the_same_over_grpc() {
    let Two { _folder, server, one, two, from, to } = two().await;
    let id = on(&server, &from, simple()).await;
    let mut clients = Clients::of(&server);
    let request = |to: &str| api::MigrateSessionRequest {
        id: id.clone(),
        controller_id: to.to_owned(),
        wait: seconds(60),
        ..Default::default()
    };
    let mut alice = Clients::with(&server, Some(&server.user("alice", "user").await));
    let refused = refusal(alice.sessions.migrate(request(&to)).await);
    assert_eq!(refused, (Code::PermissionDenied, "FORBIDDEN".to_owned()), "for operators");
    let nowhere = clients.sessions.migrate(request("no-such-controller")).await;
    assert_eq!(refusal(nowhere).0, Code::InvalidArgument);

    let moved = clients.sessions.migrate(request(&to)).await.unwrap().into_inner();
    let session = moved.session.unwrap();
    assert!(moved.settled);
    assert_eq!(session.controller_id, to);
    assert!(one.phase_of(&id).is_none() && two.phase_of(&id).is_some());
    assert!(clients.sessions.migrate(request(&to)).await.unwrap().into_inner().settled, "it is there");
    assert_eq!(two.calls("create").len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused() {
    let Two { _folder, server, one, two, from, to } = two().await;
    for backend in [&one, &two] {
        backend.with(|state| state.persistent = true);
    }
    let id = on(&server, &from, simple()).await;
    let refused = async |to: &str| {
        let refused = migrate(&server, &id, to, "").await;
        (refused.status.as_u16(), kind(&refused))
    };
    assert_eq!(refused("ctrl-nobody").await, (422, "invalid".to_owned()));
    patch(&server, &to, json!({"draining": true})).await;
    assert_eq!(refused(&to).await, (409, "no-room".to_owned()));
    patch(&server, &to, json!({"draining": false})).await;
    two.with(|state| state.max_sessions = 1);
    eventually("told", async || {
        let there = server.get(&format!("/api/v1/admin/controllers/{to}")).await.json();
        there["capabilities"]["capacity"]["max_sessions"] == 1
    })
    .await;
    let other = on(&server, &to, simple()).await;
    assert_eq!(refused(&to).await, (409, "no-room".to_owned()));
    assert_eq!(server.delete(&format!("/api/v1/sessions/{other}?wait=30s")).await.status, 204);
    let kvm = Backend::default();
    kvm.with(|state| state.controller_type = Some("kvm"));
    let foreign = register(server.control(), "three", &kvm).await;
    assert_eq!(refused(foreign.as_str()).await, (409, "unsupported".to_owned()));

    // A home moves only where both say that they share it.
    let with_home = json!({"spec": {"base_image": "alpine:3", "persistent_home": true}});
    eventually("told", async || {
        let all = server.get("/api/v1/admin/controllers").await.json();
        let all = all.as_array().unwrap();
        all.iter().filter(|one| one["capabilities"]["supports_persistent_storage"] == true).count() == 2
    })
    .await;
    let homely = on(&server, &from, with_home).await;
    let answer = migrate(&server, &homely, &to, "").await;
    assert_eq!((answer.status.as_u16(), kind(&answer).as_str()), (409, "unsupported"), "{}", answer.text);
    assert!(answer.text.contains("stream.space/home-storage"), "{}", answer.text);
    patch(&server, &from, json!({"labels": {"stream.space/home-storage": "nfs-1"}})).await;
    patch(&server, &to, json!({"labels": {"stream.space/home-storage": "nfs-2"}})).await;
    assert_eq!(migrate(&server, &homely, &to, "").await.status, 409);
    patch(&server, &to, json!({"labels": {"stream.space/home-storage": "nfs-1"}})).await;
    let moved = migrate(&server, &homely, &to, "?wait=30s").await;
    assert_eq!((moved.status.as_u16(), &moved.json()["controller_id"]), (200, &json!(to)), "{}", moved.text);
    assert_eq!(server.delete(&format!("/api/v1/sessions/{homely}?wait=30s")).await.status, 204);

    // Nobody is there to take it, or to give it.
    two.with(|state| state.health = Some(Status::unavailable("gone")));
    eventually("unwell", async || {
        server.get(&format!("/api/v1/admin/controllers/{to}")).await.json()["status"] != "healthy"
    })
    .await;
    assert_eq!(refused(&to).await, (409, "unsuitable".to_owned()));
    two.with(|state| state.health = None);
    healthy(&server).await;
    one.with(|state| state.health = Some(Status::unavailable("gone")));
    eventually("unwell", async || {
        server.get(&format!("/api/v1/admin/controllers/{from}")).await.json()["status"] != "healthy"
    })
    .await;
    assert_eq!(refused(&to).await, (409, "failed-precondition".to_owned()));
    one.with(|state| state.health = None);
    healthy(&server).await;

    // Operators alone.
    let alice = server.user("alice", "user").await;
    let own = server.call(&alice, "POST", "/api/v1/sessions?wait=30s", Some(&simple())).await.id();
    let path = format!("/api/v1/sessions/{own}/migrate");
    let body = json!({"controller_id": to});
    assert_eq!(server.call(&alice, "POST", &path, Some(&body)).await.status, 403);
    // What waits for a controller is on none.
    patch(&server, &to, json!({"draining": true})).await;
    patch(&server, &from, json!({"draining": true})).await;
    let waiting = server
        .post("/api/v1/sessions", &json!({"controller_type": "docker", "spec": {"base_image": "a"}}))
        .await
        .id();
    let answer = migrate(&server, &waiting, &to, "").await;
    assert_eq!((answer.status.as_u16(), kind(&answer).as_str()), (409, "failed-precondition"));
    let session = server.session(&id).await;
    assert_eq!((&session["controller_id"], &session["generation"]), (&json!(from), &json!(1)), "untouched");
    server.stop().await;
}

#[tokio::test]
async fn a_wish_on_the_way_counts() {
    let Two { _folder, server, one, two, from, to } = two().await;
    // Hibernated, and moved: it is made there, and stopped.
    let id = on(&server, &from, simple()).await;
    server.verb(&id, "hibernate?wait=30s").await;
    let moved = migrate(&server, &id, &to, "?wait=30s").await.json();
    assert_eq!((&moved["controller_id"], &moved["phase"]), (&json!(to), &json!("Hibernated")), "{moved}");

    // Terminated on the way: it is nowhere, and woken where it was moved to.
    let id = on(&server, &from, simple()).await;
    let gate = Arc::new(Semaphore::new(0));
    one.script("delete", [Act::Wait(Arc::clone(&gate))]);
    assert_eq!(migrate(&server, &id, &to, "").await.status, 202);
    eventually("under way", async || !one.calls("delete").is_empty()).await;
    server.patch(&id, &json!({"state": "terminated"})).await;
    gate.add_permits(1);
    let session = server.settled(&id).await;
    assert_eq!(
        (&session["controller_id"], &session["phase"]),
        (&json!(to), &json!("Terminated")),
        "{session}"
    );
    assert!(one.phase_of(&id).is_none() && two.phase_of(&id).is_none());
    let woken = server.verb(&id, "wake?wait=30s").await.json();
    assert_eq!((&woken["controller_id"], &woken["phase"]), (&json!(to), &json!("Running")), "{woken}");

    // Deleted on the way.
    let id = on(&server, &from, simple()).await;
    let gate = Arc::new(Semaphore::new(0));
    one.script("delete", [Act::Wait(Arc::clone(&gate))]);
    assert_eq!(migrate(&server, &id, &to, "").await.status, 202);
    assert_eq!(server.delete(&format!("/api/v1/sessions/{id}")).await.status, 202);
    let refused = migrate(&server, &id, &to, "").await;
    assert_eq!((refused.status.as_u16(), kind(&refused).as_str()), (409, "deleting"));
    gate.add_permits(1);
    server.gone(&id).await;
    assert!(one.phase_of(&id).is_none() && two.phase_of(&id).is_none());
    let target = server.get(&format!("/api/v1/admin/controllers/{to}")).await.json();
    assert_eq!(target["reserved"]["sessions"], 2, "{target}");
    server.stop().await;
}

#[tokio::test]
async fn another_server_goes_on_where_one_left_off() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Backend::default(), Backend::default());
    let start = async || {
        // What is under way is given up at once.
        let config = ControlConfig { drain_limit: Duration::ZERO, ..config(folder.path()) };
        let server = Server::start_with(config, Some(&one)).await;
        let to = register(server.control(), "two", &two).await;
        healthy(&server).await;
        (server, to.to_string())
    };
    let (server, to) = start().await;
    let from = server.get("/api/v1/admin/controllers").await.json()[0]["id"].as_str().unwrap().to_owned();
    let from = ControllerId::parse(&from).unwrap();
    let id = on(&server, from.as_str(), simple()).await;
    // Here, while it is removed …
    let hangs = Arc::new(Semaphore::new(0));
    one.script("delete", [Act::Wait(Arc::clone(&hangs))]);
    assert_eq!(migrate(&server, &id, &to, "").await.status, 202);
    eventually("under way", async || !one.calls("delete").is_empty()).await;
    server.stop().await;
    // … and there, while it is made.
    let hangs = Arc::new(Semaphore::new(0));
    two.script("create", [Act::Wait(Arc::clone(&hangs))]);
    let (server, _) = start().await;
    eventually("under way", async || !two.calls("create").is_empty()).await;
    server.stop().await;
    let (server, _) = start().await;
    let session = server.settled(&id).await;
    assert_eq!((&session["controller_id"], &session["phase"]), (&json!(to), &json!("Running")), "{session}");
    assert!(one.phase_of(&id).is_none());
    assert_eq!(two.with(|state| state.made), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_goes_takes_nothing_in() {
    let Two { _folder, server, one, from, to, .. } = two().await;
    let id = on(&server, &from, simple()).await;
    let refusals = (0..1000).map(|_| Act::Fail(Status::unavailable("later")));
    one.script("delete", refusals);
    assert_eq!(migrate(&server, &id, &to, "").await.status, 202);
    let path = format!("/api/v1/admin/controllers/{to}");
    assert_eq!(server.delete(&path).await.status, 409, "a session is on its way to it");
    assert_eq!(server.delete(&format!("{path}?force=true")).await.status, 200);
    one.with(|state| state.script.clear());
    server.verb(&id, "retry").await;
    let session = server.settled(&id).await;
    assert_eq!(
        (&session["controller_id"], &session["phase"]),
        (&json!(from), &json!("Running")),
        "{session}"
    );
    assert_eq!(condition(&session, "Migrating")["reason"], "Cancelled");
    assert!(one.phase_of(&id).is_some());
    server.stop().await;
}
