//! Several processes of one remote controller, and whether they live.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::database::{is_postgres, sql};
use common::remote::{REGISTER, Shell, audited, controller, door_of, is, join_token, open_door};
use common::{Backend, Server, condition, config, eventually, simple};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;

/// How long the active process may be silent: longer than any test takes, which say themselves when a lease is over.
const LEASE: Duration = Duration::from_secs(300);

fn leased(data: &Path) -> ControlConfig {
    ControlConfig { instance_lease: LEASE, ..config(data) }
}

/// Nothing was heard of any process for longer than a lease.
async fn silence(data: &Path) {
    let past = "UPDATE controller_instances SET lease_until = '2026-01-01T00:00:00+00:00'";
    assert_ne!(sql(data, past).await, 0);
}

/// Something was heard of all of them, and for long nothing needs to be.
async fn alive(data: &Path) {
    let later = "UPDATE controller_instances SET lease_until = '2099-01-01T00:00:00+00:00'";
    assert_ne!(sql(data, later).await, 0);
}

/// A server, and two processes of one controller. The first is called.
async fn two() -> (tempfile::TempDir, Server, Backend, Shell, Shell) {
    two_with(LEASE).await
}

async fn two_with(lease: Duration) -> (tempfile::TempDir, Server, Backend, Shell, Shell) {
    let folder = tempfile::tempdir().unwrap();
    let config = ControlConfig { instance_lease: lease, ..config(folder.path()) };
    let server = Server::start_with(config, None).await;
    let backend = Backend::default();
    let secret = door_of(&server, "far").await;
    let mut first = Shell::start(&backend, "far", Some("a")).await;
    assert_eq!(first.register(&server, &secret).await["role"], "active");
    // The time of tests is not that of leases.
    alive(folder.path()).await;
    let mut second = Shell::start(&backend, "far", Some("b")).await;
    assert_eq!(second.register(&server, &secret).await["role"], "standby");
    assert_eq!(first.id, second.id);
    (folder, server, backend, first, second)
}

/// In an hour, as the database has it.
fn soon() -> String {
    (chrono::Utc::now() + chrono::Duration::hours(1)).to_rfc3339()
}

fn last_epoch(backend: &Backend) -> u64 {
    backend.with(|state| state.seen.iter().map(|seen| seen.epoch).max().unwrap())
}

#[tokio::test]
async fn another_process_takes_over_when_nothing_is_heard_of_the_first() {
    let (folder, server, backend, first, second) = two().await;
    let id = server.running().await;
    let old = last_epoch(&backend);
    assert_eq!(second.beat(&server).await.json()["role"], "standby");
    let shown = controller(&server, &first.id).await;
    assert_eq!(shown["endpoint"], first.registration["endpoint"]);
    let roles: Vec<_> = shown["instances"].as_array().unwrap().iter().map(|one| &one["role"]).collect();
    assert_eq!(roles, ["active", "standby"]);

    // As long as it is heard of, it stays what it is.
    for _ in 0..3 {
        silence(folder.path()).await;
        assert_eq!(first.beat(&server).await.json()["role"], "active");
        assert_eq!(second.beat(&server).await.json()["role"], "standby");
    }
    first.end().await;
    silence(folder.path()).await;
    let answer = second.beat(&server).await.json();
    assert_eq!(answer["role"], "active");
    let told = answer["epoch"].as_u64().unwrap();
    assert!(told > old);
    server.patch(&id, &json!({"state": "hibernated"})).await;
    server.phase(&id, "Hibernated").await;
    assert!(last_epoch(&backend) > told, "the new one is called under an epoch that nobody had before");
    let shown = is(&server, &second.id, "healthy").await;
    assert_eq!(shown["endpoint"], second.registration["endpoint"]);
    assert_eq!(shown["instances"][0]["instance"], "b");
    backend.with(|state| {
        assert_eq!(state.made, 1);
        assert!(!state.overlapped);
    });
    let activated = audited(&server, "controller.activate").await;
    assert_eq!(activated.len(), 2);
    assert_eq!(
        (&activated[0]["details"]["instance"], &activated[0]["details"]["previous"]),
        (&json!("b"), &json!("a"))
    );
    second.end().await;
    server.stop().await;
}

#[tokio::test]
async fn the_first_comes_back_as_the_one_that_waits() {
    let lease = Duration::from_secs(1);
    let (folder, server, _backend, mut first, second) = two_with(lease).await;
    assert_eq!(first.beat(&server).await.json()["role"], "active");
    tokio::time::sleep(lease).await;
    assert_eq!(second.beat(&server).await.json()["role"], "active");
    alive(folder.path()).await;
    assert_eq!(first.beat(&server).await.json()["role"], "standby");
    let own = first.token.clone();
    assert_eq!(first.register(&server, &own).await["role"], "standby");
    // The token of one is not the other's.
    let refused = second.beat_as(&server, &first.token, "healthy").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.text);
    server.stop().await;
}

#[tokio::test]
async fn a_process_that_is_about_to_end_keeps_nobody_waiting() {
    let (_folder, server, backend, first, second) = two().await;
    let id = server.running().await;
    let begun = Instant::now();
    assert_eq!(first.beat_as(&server, &first.token, "draining").await.json()["role"], "active");
    assert_eq!(second.beat(&server).await.json()["role"], "active");
    assert!(begun.elapsed() < LEASE);
    first.end().await;
    server.patch(&id, &json!({"state": "hibernated"})).await;
    server.phase(&id, "Hibernated").await;
    assert_eq!(backend.with(|state| state.made), 1);
    second.end().await;
    server.stop().await;
}

#[tokio::test]
async fn a_token_may_be_handed_on_to_the_next_process() {
    let (folder, server, backend, first, _second) = two().await;
    let mut next = Shell::start(&backend, "far", Some("c")).await;
    assert_eq!(next.register(&server, &first.token).await["role"], "standby");
    assert_eq!(first.beat(&server).await.status, StatusCode::OK);
    let soon = soon();
    let ends_soon = format!(
        "UPDATE controller_tokens SET expires_at = '2026-01-01T00:00:00+00:00' WHERE instance = 'a' AND expires_at < '{soon}'"
    );
    // The answer may have been lost.
    assert_eq!(sql(folder.path(), &ends_soon).await, 0);
    // With the first use of the new one it is on its way out.
    assert_eq!(next.beat(&server).await.status, StatusCode::OK);
    assert_eq!(first.beat(&server).await.status, StatusCode::OK);
    assert_eq!(sql(folder.path(), &ends_soon).await, 1);
    // Nor is it good as the one before the new one.
    let before =
        "UPDATE controller_tokens SET previous_expires_at = '2026-01-01T00:00:00+00:00' WHERE instance = 'c'";
    assert_eq!(sql(folder.path(), before).await, 1);
    assert_eq!(first.beat(&server).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(next.beat(&server).await.status, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn who_is_let_in_with_a_token_for_new_ones_does_not_become_one_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(leased(folder.path()), None).await;
    let backend = Backend::default();
    let mut first = Shell::start(&backend, "far", Some("a")).await;
    first.register(&server, &open_door(&server).await).await;
    let mut thief = Shell::start(&backend, "far", Some("z")).await;
    thief.registration["labels"] = json!({"region": "elsewhere"});
    // Also when nothing is heard of the one that is there.
    silence(folder.path()).await;
    for token in [
        open_door(&server).await,
        join_token(&server, json!({"controller_type": "docker"})).await["secret"]
            .as_str()
            .unwrap()
            .to_owned(),
        join_token(&server, json!({"controller_name": "far"})).await["secret"].as_str().unwrap().to_owned(),
    ] {
        let refused = thief.ask(&server, &token).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
    }
    let written = audited(&server, "controller.refuse").await;
    assert_eq!(written.len(), 3);
    assert_eq!(written[0]["details"]["reason"], "the join token does not name the controller");
    let shown = controller(&server, &first.id).await;
    assert_eq!(
        (&shown["labels"]["region"], &shown["endpoint"]),
        (&json!("lab"), &first.registration["endpoint"])
    );
    assert_eq!(shown["instances"].as_array().unwrap().len(), 1);
    assert_eq!(first.beat(&server).await.json()["role"], "active");
    server.stop().await;
}

#[tokio::test]
async fn a_controller_is_what_its_active_process_says() {
    let (_folder, server, backend, first, _second) = two().await;
    let mut third = Shell::start(&backend, "far", Some("c")).await;
    third.registration["labels"] = json!({"region": "elsewhere"});
    assert_eq!(third.register(&server, &door_of(&server, "far").await).await["role"], "standby");
    let shown = controller(&server, &first.id).await;
    assert_eq!(
        (&shown["labels"], &shown["endpoint"]),
        (&json!({"region": "lab"}), &first.registration["endpoint"])
    );
    first.beat_as(&server, &first.token, "draining").await;
    assert_eq!(third.beat(&server).await.json()["role"], "active");
    let shown = controller(&server, &first.id).await;
    assert_eq!(
        (&shown["labels"], &shown["endpoint"]),
        (&json!({"region": "elsewhere"}), &third.registration["endpoint"])
    );
    server.stop().await;
}

#[tokio::test]
async fn another_process_under_the_same_name_waits_until_the_first_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(leased(folder.path()), None).await;
    let backend = Backend::default();
    let secret = door_of(&server, "far").await;
    let mut first = Shell::start(&backend, "far", None).await;
    first.register(&server, &secret).await;
    let mut other = Shell::start(&backend, "far", None).await;
    let refused = other.ask(&server, &secret).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert_eq!(refused.json()["type"], "urn:streamspace:problem:active-elsewhere");
    let shown = controller(&server, &first.id).await;
    assert_eq!(shown["endpoint"], first.registration["endpoint"]);
    // The same one at the same place, whose token was lost, is not another.
    first.register(&server, &secret).await;
    assert_eq!(first.beat_as(&server, &first.token, "draining").await.status, StatusCode::OK);
    assert_eq!(other.register(&server, &secret).await["role"], "active");
    server.stop().await;
}

#[tokio::test]
async fn a_controller_has_so_many_processes_and_no_more() {
    let (folder, server, _backend, first, _second) = two().await;
    let secret = door_of(&server, "far").await;
    let mut registration = first.registration.clone();
    let mut ask = async |number: u32| {
        registration["instance"] = format!("process-{number}").into();
        server.call(&secret, "POST", REGISTER, Some(&registration)).await
    };
    for number in 0..62 {
        assert_eq!(ask(number).await.status, StatusCode::OK);
    }
    let refused = ask(62).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert_eq!(refused.json()["type"], "urn:streamspace:problem:too-many");
    // One that is known is none more, and one that is not heard of any more makes room.
    assert_eq!(ask(7).await.status, StatusCode::OK);
    let gone = "UPDATE controller_instances SET lease_until = '2026-01-01T00:00:00+00:00' WHERE instance = 'process-3'";
    assert_eq!(sql(folder.path(), gone).await, 1);
    assert_eq!(ask(62).await.status, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn a_process_that_moved_is_called_where_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(leased(folder.path()), None).await;
    let backend = Backend::default();
    let secret = door_of(&server, "far").await;
    let mut shell = Shell::start(&backend, "far", None).await;
    let before = shell.register(&server, &secret).await["epoch"].as_u64().unwrap();
    let id = server.running().await;
    let token = shell.token.clone();
    shell.end().await;
    let mut moved = Shell::start(&backend, "far", None).await;
    let answer = moved.register(&server, &token).await;
    assert_eq!(answer["role"], "active");
    let told = answer["epoch"].as_u64().unwrap();
    assert!(told > before);
    server.patch(&id, &json!({"state": "hibernated"})).await;
    server.phase(&id, "Hibernated").await;
    assert!(
        last_epoch(&backend) > told,
        "under that one somebody may have called the process that was there before"
    );
    moved.end().await;
    server.stop().await;
}

#[tokio::test]
async fn a_controller_that_is_silent_and_does_not_answer_is_offline_and_its_sessions_stay() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(leased(folder.path()), None).await;
    let backend = Backend::default();
    let secret = door_of(&server, "far").await;
    let mut shell = Shell::start(&backend, "far", None).await;
    shell.register(&server, &secret).await;
    let id = server.running().await;
    is(&server, &shell.id, "healthy").await;

    // It cannot be called, but says that it lives.
    backend.with(|state| state.health = Some(tonic::Status::unavailable("the way is closed")));
    shell.beat(&server).await;
    let mut seen = Value::Null;
    eventually("that it is told apart", async || {
        shell.beat(&server).await;
        seen = controller(&server, &shell.id).await;
        seen["message"].as_str().unwrap().contains("signs of life")
    })
    .await;
    assert_eq!(seen["status"], "unhealthy");
    for _ in 0..10 {
        shell.beat(&server).await;
        assert_eq!(controller(&server, &shell.id).await["status"], "unhealthy");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // And then it is silent.
    silence(folder.path()).await;
    is(&server, &shell.id, "offline").await;
    let mut session = Value::Null;
    eventually("that it is said at its sessions", async || {
        session = server.session(&id).await;
        condition(&session, "ControllerReachable")["reason"] == "ControllerOffline"
    })
    .await;
    assert_eq!(session["phase"], "Running");
    let refused = server.post("/api/v1/sessions", &simple()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text);

    // It comes back, and is asked at once when it says so.
    backend.with(|state| state.health = None);
    eventually("that it is back", async || {
        shell.beat(&server).await;
        controller(&server, &shell.id).await["status"] == "healthy"
    })
    .await;
    eventually("that it is said at its sessions", async || {
        condition(&server.session(&id).await, "ControllerReachable")["status"] == "True"
    })
    .await;
    assert_eq!(backend.with(|state| state.made), 1);
    server.stop().await;
}

/// Two servers over one database; none = the tests run on files, which are for one server.
async fn servers() -> Option<([tempfile::TempDir; 2], Server, Server)> {
    if !is_postgres() {
        println!("skipped: it needs a database for several servers (cargo xtask test runs it on PostgreSQL)");
        return None;
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // Long enough for a busy machine, and no longer than anybody likes to wait.
    let server_lease = Duration::from_secs(6);
    let beside = |data: &Path| ControlConfig {
        server_lease,
        server_renewal: server_lease / 5,
        database: config(folders[0].path()).database,
        ..leased(data)
    };
    let first = Server::start_with(beside(folders[0].path()), None).await;
    let second = Server::start_with(beside(folders[1].path()), None).await;
    Some((folders, first, second))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_calls_a_controller_that_registered_with_one() {
    let Some((_folders, first, second)) = servers().await else { return };
    let backend = Backend::default();
    let secret = door_of(&first, "far").await;
    let mut shell = Shell::strict(&backend, "far").await;
    let answer = shell.register(&first, &secret).await;
    assert_eq!(answer["keys"]["keys"].as_array().unwrap().len(), 2, "the keys of both: {answer}");
    is(&second, &shell.id, "healthy").await;
    let made = second.post("/api/v1/sessions?wait=20s", &simple()).await;
    assert_eq!(made.json()["phase"], "Running", "{}", made.text);
    let id = made.id();
    eventually("that both reach it", async || {
        let mut reached = 0;
        for server in [&first, &second] {
            let logs = server.get(&format!("/api/v1/sessions/{id}/logs")).await;
            reached += u32::from(logs.status == StatusCode::OK);
        }
        reached == 2
    })
    .await;
    let old = last_epoch(&backend);
    // Its signs of life may come to any server.
    assert_eq!(shell.beat(&second).await.status, StatusCode::OK);
    // Whichever of them drives it, the other one goes on.
    first.die();
    second.patch(&id, &json!({"state": "hibernated"})).await;
    second.phase(&id, "Hibernated").await;
    second.patch(&id, &json!({"state": "running"})).await;
    second.phase(&id, "Running").await;
    assert!(last_epoch(&backend) >= old);
    eventually("that the dead server's key is gone", async || {
        shell.beat(&second).await.json()["keys"]["keys"].as_array().unwrap().len() == 1
    })
    .await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_over_at_one_server_is_called_by_the_other() {
    let Some((folders, first, second)) = servers().await else { return };
    let backend = Backend::default();
    let secret = door_of(&first, "far").await;
    let mut one = Shell::start(&backend, "far", Some("a")).await;
    one.register(&first, &secret).await;
    let mut other = Shell::start(&backend, "far", Some("b")).await;
    other.register(&second, &secret).await;
    is(&second, &one.id, "healthy").await;
    let made = second.post("/api/v1/sessions?wait=20s", &simple()).await;
    assert_eq!(made.json()["phase"], "Running", "{}", made.text);
    let (id, old) = (made.id(), last_epoch(&backend));
    one.end().await;
    // The first server drives the controller; the second one hears of the new process.
    silence(folders[0].path()).await;
    assert_eq!(other.beat(&second).await.json()["role"], "active");
    let begun = Instant::now();
    for server in [&first, &second] {
        server.patch(&id, &json!({"state": "hibernated"})).await;
        server.phase(&id, "Hibernated").await;
        server.patch(&id, &json!({"state": "running"})).await;
        server.phase(&id, "Running").await;
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "it was not told of: {:?}", begun.elapsed());
    assert!(last_epoch(&backend) > old);
    assert_eq!(backend.with(|state| state.made), 1);
    second.stop().await;
    first.stop().await;
}
