//! What hangs holds up nothing else: not what is to be removed or looked at, and no other controller.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Act, Backend, Server, config, eventually, register, simple};
use http::StatusCode;
use serde_json::json;
use streamspace_control::ControllerId;
use tokio::sync::Semaphore;

/// Calls at once of a controller for which nobody said anything else, and what is kept of them for each of the other
/// two kinds.
const CALLS: usize = 16;
const KEPT: usize = 2;
/// Far more than fit.
const STORM: usize = 40;

/// The next calls of a kind wait until there are permits.
fn hang(backend: &Backend, rpc: &'static str) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    backend.script(rpc, (0..STORM).map(|_| Act::Wait(Arc::clone(&gate))));
    gate
}

/// Waits until so many calls of a kind have begun.
async fn begun(backend: &Backend, rpc: &'static str, count: usize) {
    eventually("the calls begin", async || backend.calls(rpc).len() >= count).await;
}

async fn only_controller(server: &Server) -> ControllerId {
    let controllers = server.get("/api/v1/admin/controllers").await.json();
    ControllerId::parse(controllers[0]["id"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn creations_that_hang_keep_no_deletion_and_no_look_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let mut config = config(folder.path());
    config.longest_look_pause = Duration::from_millis(50);
    // Nothing of the storm ends by itself.
    config.call_timeout = Duration::from_secs(300);
    let server = Server::start_with(config, Some(&backend)).await;
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(server.running().await);
    }
    backend.script("create", [Act::Accept]);
    let on_its_way = server.create().await;
    begun(&backend, "create", 5).await;

    let gate = hang(&backend, "create");
    let mut storm = Vec::new();
    for _ in 0..STORM {
        storm.push(server.create().await);
    }
    begun(&backend, "create", 5 + CALLS - 2 * KEPT).await;
    for id in &running {
        server.delete(&format!("/api/v1/sessions/{id}")).await;
    }
    for id in &running {
        server.gone(id).await;
    }
    backend.with(|state| state.arrives = true);
    server.phase(&on_its_way, "Running").await;
    assert_eq!(backend.calls("create").len(), 5 + CALLS - 2 * KEPT, "the rest waits for its turn");

    // What has not begun can be taken back at once.
    let last = storm.pop().unwrap();
    server.delete(&format!("/api/v1/sessions/{last}")).await;
    server.gone(&last).await;
    gate.add_permits(STORM);
    for id in &storm {
        server.phase(id, "Running").await;
    }
    assert!(backend.with(|state| !state.overlapped));
    server.stop().await;
}

#[tokio::test]
async fn deletions_that_hang_keep_no_creation_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    let mut running = Vec::new();
    for _ in 0..20 {
        running.push(server.create().await);
    }
    for id in &running {
        server.phase(id, "Running").await;
    }
    let gate = hang(&backend, "delete");
    for id in &running {
        server.delete(&format!("/api/v1/sessions/{id}")).await;
    }
    begun(&backend, "delete", CALLS - 2 * KEPT).await;
    for _ in 0..5 {
        let made = server.post("/api/v1/sessions?wait=30s", &simple()).await;
        assert_eq!(made.json()["phase"], "Running", "{}", made.text);
    }
    assert_eq!(backend.calls("delete").len(), CALLS - 2 * KEPT);
    gate.add_permits(STORM);
    for id in &running {
        server.gone(id).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_hangs_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (slow, quick) = (Backend::default(), Backend::default());
    let server = Server::start(folder.path(), &slow).await;
    let hanging = only_controller(&server).await;
    let other = register(server.control(), "two", &quick).await;
    let gate = hang(&slow, "create");
    let on = |id: &ControllerId| json!({"spec": {"base_image": "alpine:3"}, "controller_id": id.to_string()});
    let mut waiting = Vec::new();
    for _ in 0..STORM {
        waiting.push(server.post("/api/v1/sessions", &on(&hanging)).await.id());
    }
    begun(&slow, "create", CALLS - 2 * KEPT).await;
    for _ in 0..5 {
        let made = server.post("/api/v1/sessions?wait=30s", &on(&other)).await;
        assert_eq!((made.status, made.json()["phase"].as_str()), (StatusCode::CREATED, Some("Running")));
    }
    gate.add_permits(STORM);
    for id in &waiting {
        server.phase(id, "Running").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_controller_has_as_many_calls_as_it_was_granted() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    server.control().limit_calls(&only_controller(&server).await, 3);
    let running = server.running().await;
    let gate = hang(&backend, "create");
    for _ in 0..5 {
        server.create().await;
    }
    begun(&backend, "create", 2).await;
    server.delete(&format!("/api/v1/sessions/{running}")).await;
    server.gone(&running).await;
    assert_eq!(backend.calls("create").len(), 2, "one of the three for each kind");
    gate.add_permits(STORM);
    server.stop().await;
}
