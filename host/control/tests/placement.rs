//! Which controller takes a session: what it has, what is promised, and who is next when there is room again.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Act, Backend, Server, condition, config, eventually, register};
use serde_json::{Value, json};
use streamspace_control::{ControlConfig, ControllerId, Factor, Overcommit, PlacementStrategy};
use streamspace_proto::controller::v1::ResourceCapacity;
use tokio::sync::Semaphore;

/// Far less than the pause before a session that waits is tried by the clock: that is what it is told from.
const PROMPT: Duration = Duration::from_secs(5);

fn with_memory(total: &str) -> Backend {
    let backend = Backend::default();
    backend
        .with(|state| state.capacity = ResourceCapacity { total_memory: total.into(), ..Default::default() });
    backend
}

fn asking(memory: &str) -> Value {
    json!({"spec": {"base_image": "alpine:3", "resources": {"memory": memory}}})
}

async fn start(backend: &Backend) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), backend).await;
    (folder, server)
}

async fn make(server: &Server, body: &Value) -> String {
    let made = server.post("/api/v1/sessions", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.id()
}

/// Waits until a session waits for room, and for so long that it is not tried again by the clock soon.
async fn waits(server: &Server, id: &str) {
    eventually("waits", async || {
        let session = server.session(id).await;
        let next = session["status"]["operation"]["next_attempt_at"].as_str().map(str::to_owned);
        let far = next.is_some_and(|next| {
            let next: chrono::DateTime<chrono::Utc> = next.parse().unwrap();
            next - chrono::Utc::now() > chrono::Duration::from_std(PROMPT).unwrap()
        });
        condition(&session, "Scheduled")["reason"] == "Unschedulable" && far
    })
    .await;
}

/// It runs before the clock could have done it.
async fn runs_promptly(server: &Server, id: &str) {
    let begun = std::time::Instant::now();
    server.phase(id, "Running").await;
    assert!(begun.elapsed() < PROMPT * 3, "after {:?}", begun.elapsed());
}

async fn only_controller(server: &Server) -> String {
    let all = server.get("/api/v1/admin/controllers").await.json();
    all[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_promised_is_not_given_twice() {
    let backend = with_memory("4Gi");
    let (_folder, server) = start(&backend).await;
    // It does not run yet, and has its place all the same.
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    let first = make(&server, &asking("3Gi")).await;
    let second = make(&server, &asking("2Gi")).await;
    let session = server.session(&second).await;
    let scheduled = condition(&session, "Scheduled");
    assert_eq!(scheduled["reason"], "Unschedulable", "{session}");
    assert!(scheduled["message"].as_str().unwrap().contains("too little memory left"), "{scheduled}");
    // What fits beside it is taken.
    let third = make(&server, &asking("1Gi")).await;
    server.phase(&third, "Running").await;
    gate.add_permits(1);
    server.phase(&first, "Running").await;

    let controller = server.get("/api/v1/admin/controllers").await.json()[0].clone();
    assert_eq!(
        controller["reserved"],
        json!({"sessions": 2, "cpu": "0", "memory": "4Gi", "storage": "0"}),
        "{controller}"
    );
    // An operator sees figures, the owner does not.
    let path = format!("/api/v1/sessions/{second}/explain");
    let told = server.get(&path).await.json();
    let verdict = &told["placement"]["controllers"][0];
    assert_eq!(verdict["obstacle"], "full", "{told}");
    assert!(verdict["reason"].as_str().unwrap().contains("reserved 4Gi of 4Gi"), "{verdict}");
    let memory = verdict["capacity"].as_array().unwrap().iter().find(|share| share["resource"] == "memory");
    assert_eq!(
        memory.unwrap(),
        &json!({"resource": "memory", "asked": "2Gi", "reserved": "4Gi", "total": "4Gi", "overcommit": 1.0, "available": null,
            "promised": "4Gi", "enough": false})
    );
    // It is chosen, and does not stand in its own way.
    let told = server.get(&format!("/api/v1/sessions/{first}/explain")).await.json();
    let verdict = &told["placement"]["controllers"][0];
    assert_eq!((&verdict["chosen"], &verdict["eligible"]), (&json!(true), &json!(true)), "{verdict}");
    server.stop().await;
}

#[tokio::test]
async fn processors_are_given_away_more_than_once_and_memory_is_not() {
    let backend = Backend::default();
    backend.with(|state| {
        state.capacity =
            ResourceCapacity { total_cpu: "2".into(), total_memory: "64Gi".into(), ..Default::default() };
    });
    let folder = tempfile::tempdir().unwrap();
    let asking = |cpu: &str| json!({"spec": {"base_image": "alpine:3", "resources": {"cpu": cpu}}});
    let server = Server::start(folder.path(), &backend).await;
    // Four times two, unless the operator says otherwise.
    for _ in 0..4 {
        let id = make(&server, &asking("2")).await;
        server.phase(&id, "Running").await;
    }
    let fifth = make(&server, &asking("100m")).await;
    let session = server.session(&fifth).await;
    let scheduled = condition(&session, "Scheduled");
    assert!(scheduled["message"].as_str().unwrap().contains("too little processor time left"), "{scheduled}");
    let told = server.get(&format!("/api/v1/sessions/{fifth}/explain")).await.json();
    let shares = told["placement"]["controllers"][0]["capacity"].as_array().unwrap();
    let factor = |resource: &str| {
        shares.iter().find(|share| share["resource"] == resource).map(|share| share["overcommit"].clone())
    };
    assert_eq!(factor("cpu"), Some(json!(4.0)), "{told}");
    server.stop().await;

    // What is already given away stays, whatever is promised from now on.
    let more = ControlConfig {
        overcommit: Overcommit { cpu: Factor::new(4.5).unwrap(), ..Overcommit::default() },
        ..config(folder.path())
    };
    let server = Server::start_with(more, Some(&backend)).await;
    server.phase(&fifth, "Running").await;
    server.stop().await;
    let less = ControlConfig {
        overcommit: Overcommit { cpu: Factor::ONCE, ..Overcommit::default() },
        ..config(folder.path())
    };
    let server = Server::start_with(less, Some(&backend)).await;
    let sixth = make(&server, &asking("100m")).await;
    waits(&server, &sixth).await;
    assert_eq!(server.session(&fifth).await["phase"], "Running");
    server.stop().await;
}

#[tokio::test]
async fn owners_see_no_figures() {
    let (_folder, server) = start(&with_memory("4Gi")).await;
    let alice = server.user("alice", "user").await;
    let bob = server.user("bob", "user").await;
    server.call(&bob, "POST", "/api/v1/sessions", Some(&asking("3Gi"))).await;
    let made = server.call(&alice, "POST", "/api/v1/sessions", Some(&asking("2Gi"))).await;
    let path = format!("/api/v1/sessions/{}/explain", made.id());
    let told = server.call(&alice, "GET", &path, None).await;
    let verdict = &told.json()["placement"]["controllers"][0];
    assert_eq!(verdict["reason"], "is full: it has too little memory left");
    assert!(verdict.get("capacity").is_none() && verdict.get("sessions").is_none(), "{verdict}");
    assert!(!told.text.contains("3Gi") && !told.text.contains("4Gi"), "{}", told.text);
    // Nobody could ever take it: nothing is stored, and nobody learns how much there is.
    let refused = server.call(&alice, "POST", "/api/v1/sessions", Some(&asking("5Gi"))).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("has less memory than is asked for"), "{}", refused.text);
    assert!(!refused.text.contains("4Gi"), "{}", refused.text);
    let refused = server.post("/api/v1/sessions", &asking("5Gi")).await;
    assert!(refused.text.contains("of 4Gi"), "{}", refused.text);
    server.stop().await;
}

#[tokio::test]
async fn what_a_controller_says_is_free_is_given_once() {
    let backend = with_memory("64Gi");
    backend.with(|state| state.capacity.available_memory = "4Gi".into());
    // What is given away counts until it is in the controller's own word again.
    let folder = tempfile::tempdir().unwrap();
    let slowly = ControlConfig { health_interval: Duration::from_secs(300), ..config(folder.path()) };
    let server = Server::start_with(slowly, Some(&backend)).await;
    let first = make(&server, &asking("3Gi")).await;
    server.phase(&first, "Running").await;
    let second = make(&server, &asking("2Gi")).await;
    waits(&server, &second).await;
    // Its own word says now that more is free.
    backend.with(|state| state.capacity.available_memory = "9Gi".into());
    let id = ControllerId::parse(&only_controller(&server).await).unwrap();
    server.control().probe_controller(&id);
    runs_promptly(&server, &second).await;
    server.stop().await;
}

#[tokio::test]
async fn who_waits_is_next_when_something_is_free() {
    for way in ["delete", "terminate", "hibernate"] {
        let (_folder, server) = start(&with_memory("4Gi")).await;
        let first = make(&server, &asking("3Gi")).await;
        server.phase(&first, "Running").await;
        let second = make(&server, &asking("3Gi")).await;
        waits(&server, &second).await;
        let path = format!("/api/v1/sessions/{first}");
        let told = match way {
            "delete" => server.delete(&path).await,
            "terminate" => server.patch(&first, &json!({"state": "terminated"})).await,
            _ => server.verb(&first, "hibernate").await,
        };
        assert_eq!(told.status, 202, "{way}: {}", told.text);
        runs_promptly(&server, &second).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn who_waits_is_next_when_a_controller_can_take_it() {
    let backend = with_memory("4Gi");
    let (_folder, server) = start(&backend).await;
    let id = only_controller(&server).await;
    let path = format!("/api/v1/admin/controllers/{id}");
    let drained = server.call(&server.token, "PATCH", &path, Some(&json!({"draining": true}))).await;
    assert_eq!(drained.status, 200);
    let first = make(&server, &asking("3Gi")).await;
    waits(&server, &first).await;
    server.call(&server.token, "PATCH", &path, Some(&json!({"draining": false}))).await;
    runs_promptly(&server, &first).await;

    // It grows.
    let second = make(&server, &asking("3Gi")).await;
    waits(&server, &second).await;
    backend.with(|state| state.capacity.total_memory = "6Gi".into());
    runs_promptly(&server, &second).await;

    // Another one comes.
    let third = make(&server, &asking("3Gi")).await;
    waits(&server, &third).await;
    register(server.control(), "two", &with_memory("4Gi")).await;
    runs_promptly(&server, &third).await;

    // It is well again.
    let fourth = make(&server, &asking("3Gi")).await;
    waits(&server, &fourth).await;
    backend.with(|state| state.health = Some(tonic::Status::unavailable("gone")));
    eventually("unwell", async || server.get(&path).await.json()["status"] != "healthy").await;
    backend.with(|state| {
        state.capacity.total_memory = "9Gi".into();
        state.health = None;
    });
    runs_promptly(&server, &fourth).await;
    server.stop().await;
}

#[tokio::test]
async fn what_others_have_got_is_not_there_for_a_session_that_is_woken() {
    let (_folder, server) = start(&with_memory("4Gi")).await;
    let first = make(&server, &asking("3Gi")).await;
    server.phase(&first, "Running").await;
    server.verb(&first, "hibernate?wait=30s").await;
    let second = make(&server, &asking("3Gi")).await;
    server.phase(&second, "Running").await;
    let refused = server.verb(&first, "wake").await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert_eq!(refused.json()["type"], "urn:streamspace:problem:no-room");
    assert_eq!(server.session(&first).await["state"], "hibernated", "nothing was stored");
    assert_eq!(server.delete(&format!("/api/v1/sessions/{second}?wait=30s")).await.status, 204);
    let woken = server.verb(&first, "wake?wait=30s").await;
    assert_eq!((woken.status.as_u16(), &woken.json()["phase"]), (200, &json!("Running")), "{}", woken.text);
    server.stop().await;
}

#[tokio::test]
async fn a_place_is_kept_while_a_session_is_hibernated_and_free_when_it_is_terminated() {
    let backend = Backend::default();
    backend.with(|state| state.max_sessions = 1);
    let (_folder, server) = start(&backend).await;
    let first = server.running().await;
    server.verb(&first, "hibernate?wait=30s").await;
    let second = server.create().await;
    waits(&server, &second).await;
    server.patch(&first, &json!({"state": "terminated"})).await;
    runs_promptly(&server, &second).await;
    assert_eq!(server.verb(&first, "wake").await.status, 409);
    server.stop().await;
}

#[tokio::test]
async fn in_turn_whatever_each_has() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let in_turn =
        ControlConfig { placement_strategy: PlacementStrategy::RoundRobin, ..config(folder.path()) };
    let server = Server::start_with(in_turn, Some(&backend)).await;
    let other = register(server.control(), "two", &Backend::default()).await;
    eventually("healthy", async || {
        let all = server.get("/api/v1/admin/controllers").await.json();
        all.as_array().unwrap().iter().all(|one| one["status"] == "healthy")
    })
    .await;
    // The fewest sessions are no reason here.
    let mut placed = Vec::new();
    for _ in 0..4 {
        let id = server.create().await;
        placed.push(server.session(&id).await["controller_id"].as_str().unwrap().to_owned());
        if placed.last().map(String::as_str) == Some(other.as_str()) {
            assert_eq!(server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await.status, 204);
        }
    }
    assert!(placed[0] != placed[1] && placed[0] == placed[2] && placed[1] == placed[3], "{placed:?}");
    server.stop().await;
}

#[tokio::test]
async fn many_at_once_never_get_more_than_there_is() {
    let backend = with_memory("8Gi");
    backend.with(|state| state.max_sessions = 20);
    let (_folder, server) = start(&backend).await;
    register(server.control(), "two", &with_memory("4Gi")).await;
    eventually("healthy", async || {
        let all = server.get("/api/v1/admin/controllers").await.json();
        all.as_array().unwrap().iter().all(|one| one["status"] == "healthy")
    })
    .await;
    let sizes = ["1Gi", "2Gi", "3Gi", "512Mi"];
    let made = futures::future::join_all((0..24).map(|number| {
        let (server, size) = (&server, sizes[number % sizes.len()]);
        async move { make(server, &asking(size)).await }
    }))
    .await;
    let mut left = made.len();
    for id in &made {
        for one in server.get("/api/v1/admin/controllers").await.json().as_array().unwrap() {
            let (reserved, total) =
                (bytes(&one["reserved"]["memory"]), bytes(&one["capabilities"]["capacity"]["total_memory"]));
            assert!(reserved <= total, "{one}");
        }
        assert_eq!(server.delete(&format!("/api/v1/sessions/{id}?wait=30s")).await.status, 204);
        left -= 1;
    }
    assert_eq!(left, 0);
    for one in server.get("/api/v1/admin/controllers").await.json().as_array().unwrap() {
        assert_eq!(
            one["reserved"],
            json!({"sessions": 0, "cpu": "0", "memory": "0", "storage": "0"}),
            "{one}"
        );
    }
    server.stop().await;
}

fn bytes(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap();
    if text == "0" { 0 } else { streamspace_proto::quantity::ByteQuantity::parse(text).unwrap().bytes() }
}
