//! Several servers over one database, each with the same controller: who acts, who takes over, and who hears of it.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::database::is_postgres;
use common::live::{Listener, listen, sql};
use common::own_postgres::{End, OwnPostgres};
use common::{Act, Backend, Server, condition, config, eventually, register, simple};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::{ControlConfig, ControllerId};
use tokio::sync::Semaphore;

/// A lease in tests: long enough for a busy machine, and no longer than anybody likes to wait.
const LEASE: Duration = Duration::from_secs(6);
/// One that no test sees the end of.
const LONG: Duration = Duration::from_secs(300);

/// Data directories of two servers; none = the tests run on files, which are for one server.
fn folders() -> Option<[tempfile::TempDir; 2]> {
    if !is_postgres() {
        println!("skipped: it needs a database for several servers (cargo xtask test runs it on PostgreSQL)");
        return None;
    }
    Some([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()])
}

/// The settings of a server in the second folder over the database of the first.
fn beside(folders: &[tempfile::TempDir; 2], lease: Duration) -> ControlConfig {
    ControlConfig { database: config(folders[0].path()).database, ..with(lease, folders[1].path()) }
}

fn with(lease: Duration, data: &std::path::Path) -> ControlConfig {
    ControlConfig { server_lease: lease, server_renewal: LEASE / 5, ..config(data) }
}

/// Two servers with one controller; the first drives it.
async fn two(lease: Duration) -> Option<([tempfile::TempDir; 2], Backend, Server, Server)> {
    let folders = folders()?;
    let backend = Backend::default();
    let first = Server::start_with(with(lease, folders[0].path()), Some(&backend)).await;
    let second = Server::start_with(beside(&folders, lease), Some(&backend)).await;
    Some((folders, backend, first, second))
}

fn epochs(backend: &Backend) -> Vec<u64> {
    backend.with(|state| state.seen.iter().map(|seen| seen.epoch).filter(|epoch| *epoch > 0).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_server_takes_any_request_and_one_acts() {
    let Some((_folders, backend, first, second)) = two(LONG).await else { return };
    let both = [&first, &second];
    let mut made = Vec::new();
    for number in 0..10 {
        // Whoever is asked, it is told when it is so.
        let began = Instant::now();
        let answer = both[number % 2].post("/api/v1/sessions?wait=60s", &simple()).await;
        assert_eq!(answer.json()["phase"], "Running", "{}", answer.text);
        assert!(began.elapsed() < Duration::from_secs(30), "it was not told of");
        made.push(answer.id());
    }
    for (number, id) in made.iter().enumerate() {
        let other = both[(number + 1) % 2];
        assert_eq!(other.patch(id, &json!({"state": "hibernated"})).await.status, StatusCode::ACCEPTED);
        both[number % 2].phase(id, "Hibernated").await;
        let logs = other.get(&format!("/api/v1/sessions/{id}/logs")).await;
        assert_eq!(logs.status, StatusCode::OK, "both read: {}", logs.text);
    }
    let epochs: BTreeSet<u64> = epochs(&backend).into_iter().collect();
    assert_eq!(epochs.len(), 1, "one of them acts: {epochs:?}");
    backend.with(|state| {
        assert_eq!(state.made, 10);
        assert!(!state.overlapped);
    });
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_one_server_opens_the_events_of_another_once() {
    let Some((_folders, _backend, first, second)) = two(LONG).await else { return };
    let issued = first.post("/api/v1/ws/ticket", &json!({})).await;
    assert_eq!(issued.status, StatusCode::CREATED, "{}", issued.text);
    let query = format!("?ticket={}", issued.json()["ticket"].as_str().unwrap());
    let (at_first, at_second) = (listen(&first).await, listen(&second).await);
    let mut listener = Listener::open(at_second, &query, &[]).await.unwrap();
    assert_eq!(listener.next().await["type"], "ready");
    for address in [at_first, at_second] {
        assert_eq!(Listener::refusal(address, &query, &[]).await, 401, "good once, wherever");
    }
    drop(listener);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_servers_work_is_taken_over_when_its_lease_is_over() {
    let Some((folders, backend, first, second)) = two(LEASE).await else { return };
    let address = listen(&second).await;
    let mut listener = Listener::with_token(address, "", &second.token).await;
    let before = first.running().await;
    // In the middle of a call that would take much longer than its lease.
    let gate = Arc::new(Semaphore::new(0));
    backend.script("create", [Act::Wait(Arc::clone(&gate))]);
    let id = first.create().await;
    eventually("the call", async || backend.with(|state| state.seen.iter().any(|seen| seen.session == id)))
        .await;
    let deaf = second.control().fence(&controller(&second, &before).await);
    let old = *epochs(&backend).iter().max().unwrap();
    assert!(!deaf(old), "it does not drive it");

    let died = Instant::now();
    first.die();
    second.phase(&id, "Running").await;
    // The claim would have held for twice that long.
    assert!(died.elapsed() < Duration::from_secs(45), "{:?}", died.elapsed());
    let new = *epochs(&backend).iter().max().unwrap();
    assert!(new > old && deaf(new) && !deaf(old), "{old} {new}");
    // And whoever listens to the other one hears of it.
    let heard =
        listener.until(|event| event["session_id"] == json!(id) && event["data"]["phase"] == "Running").await;
    let cursor = heard.last().unwrap()["cursor"].as_str().unwrap().to_owned();
    assert_eq!(second.session(&before).await["phase"], "Running");
    gate.add_permits(1);

    // Where it was at one server, it goes on at another.
    let third = tempfile::tempdir().unwrap();
    let third = Server::start_with(
        ControlConfig { database: config(folders[0].path()).database, ..with(LEASE, third.path()) },
        Some(&backend),
    )
    .await;
    second.patch(&id, &json!({"state": "hibernated"})).await;
    let address = listen(&third).await;
    let mut listener = Listener::with_token(address, &format!("?after={cursor}"), &third.token).await;
    let heard = listener.until(|event| event["data"]["phase"] == "Hibernated").await;
    let wished = heard.iter().filter(|event| event["type"] == "session.wish_changed").count();
    assert_eq!(wished, 1, "{heard:?}");
    third.stop().await;
    second.stop().await;
}

/// The id of the controller that a session is on.
async fn controller(server: &Server, session: &str) -> ControllerId {
    ControllerId::parse(server.session(session).await["controller_id"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_in_good_order_is_followed_at_once() {
    // Nobody waits for the end of the lease.
    let Some((_folders, backend, first, second)) = two(LONG).await else { return };
    let id = first.running().await;
    let old = *epochs(&backend).iter().max().unwrap();
    first.stop().await;
    second.patch(&id, &json!({"state": "hibernated"})).await;
    second.phase(&id, "Hibernated").await;
    assert!(*epochs(&backend).iter().max().unwrap() > old);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_controller_that_died_with_its_server_keep_their_phase() {
    let Some(folders) = folders() else { return };
    let backend = Backend::default();
    let first = Server::start_with(with(LEASE, folders[0].path()), Some(&backend)).await;
    let second = Server::start_with(beside(&folders, LEASE), None).await;
    let id = second.running().await;
    first.die();
    let mut session = Value::Null;
    eventually("that it is said", async || {
        session = second.session(&id).await;
        condition(&session, "ControllerReachable")["reason"] == "ControllerNotConnected"
    })
    .await;
    assert_eq!(session["phase"], "Running");
    // It comes back with another server, and so does the word.
    register(second.control(), "one", &backend).await;
    eventually("that it is back", async || {
        condition(&second.session(&id).await, "ControllerReachable")["status"] == "True"
    })
    .await;
    second.stop().await;
}

/// A server whose row was removed finds out, and goes on in another place and under another epoch.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_others_gave_up_begins_anew() {
    let Some(folders) = folders() else { return };
    let backend = Backend::default();
    let server = Server::start_with(with(LONG, folders[0].path()), Some(&backend)).await;
    let id = server.running().await;
    let fence = server.control().fence(&controller(&server, &id).await);
    let old = *epochs(&backend).iter().max().unwrap();
    assert!(fence(old));
    assert_eq!(sql(folders[0].path(), "DELETE FROM servers").await, 1);
    eventually("the end of the epoch", async || !fence(old)).await;
    let answer = server.patch(&id, &json!({"state": "hibernated"})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    server.phase(&id, "Hibernated").await;
    let new = *epochs(&backend).iter().max().unwrap();
    assert!(new > old && fence(new) && !fence(old), "{old} {new}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_its_database_changes_nothing() {
    let Some(mut postgres) = OwnPostgres::start(&[]) else { return };
    postgres.run();
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let settings =
        ControlConfig { database: postgres.url("").parse().unwrap(), ..with(LEASE, folder.path()) };
    let server = Server::start_with(settings, Some(&backend)).await;
    let id = server.running().await;
    let fence = server.control().fence(&controller(&server, &id).await);
    let epoch = *epochs(&backend).iter().max().unwrap();
    assert!(fence(epoch));
    postgres.end(End::Fast);
    // From then on somebody else can take over, and not sooner.
    tokio::time::sleep(LEASE).await;
    assert!(!fence(epoch), "its time is over");
    postgres.run();
    eventually("ready again", async || server.get("/readyz").await.status == StatusCode::OK).await;
    // One that was taken may have been answered by a failure.
    eventually("taken", async || {
        server.patch(&id, &json!({"state": "hibernated"})).await.status.is_success()
    })
    .await;
    server.phase(&id, "Hibernated").await;
    assert!(!fence(epoch), "that one never comes back");
    server.stop().await;
}
