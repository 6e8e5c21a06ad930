//! Limits in time: sessions that nobody uses, and those that have been there for too long.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::visit::{Stage, application};
use common::{Backend, Server, condition, config, database, eventually};
use http::StatusCode;
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Short enough to be waited for, and long against everything else here.
const IDLE: Duration = Duration::from_secs(2);

fn quick(data: &Path) -> ControlConfig {
    ControlConfig {
        policy_interval: Duration::from_millis(20),
        activity_interval: Duration::from_millis(100),
        ..config(data)
    }
}

async fn start() -> (tempfile::TempDir, Backend, Server) {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start_with(quick(folder.path()), Some(&backend)).await;
    (folder, backend, server)
}

/// Waits until it was told so often that a session runs: a limit may have ended that by the time somebody looks.
async fn ran(server: &Server, id: &str, times: usize) {
    let path = format!("/api/v1/sessions/{id}/events?limit=1000");
    eventually("ran", async || {
        let events = server.get(&path).await.json();
        let events = events["items"].as_array().unwrap();
        events.iter().filter(|event| event["data"]["phase"] == "Running").count() >= times
    })
    .await;
}

/// Makes a session with limits in time, and waits until it has been running.
async fn running(server: &Server, limits: &Value) -> String {
    let mut spec = json!({"base_image": "i"});
    spec.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let made = server.post("/api/v1/sessions", &json!({"spec": spec})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    ran(server, &made.id(), 1).await;
    made.id()
}

/// The longest time in which nothing was done. Where that is as long as a timeout, nobody used anything, and nothing can be
/// said against its end.
struct Pace {
    last: Instant,
    longest: Duration,
}

impl Pace {
    fn begin() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }

    /// What was begun at that moment is done.
    fn done(&mut self, begun: Instant) {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = begun;
    }

    /// Whether what should be done more often than that always was, up to now.
    fn was_kept(&mut self, limit: Duration) -> bool {
        self.done(Instant::now());
        self.longest < limit
    }
}

async fn audited(server: &Server, query: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/admin/audit?{query}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    page.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_nobody_uses_is_hibernated_and_why_is_told() {
    let (_folder, backend, server) = start().await;
    let begun = Instant::now();
    let id = running(&server, &json!({"idle_timeout": "2s"})).await;
    let session = server.phase(&id, "Hibernated").await;
    assert!(begun.elapsed() >= IDLE, "{:?}", begun.elapsed());
    assert_eq!((&session["state"], &session["generation"]), (&json!("hibernated"), &json!(2)));
    let why = condition(&session, "PolicyApplied");
    assert_eq!((&why["status"], &why["reason"]), (&json!("True"), &json!("IdleTimeout")), "{why}");
    assert_eq!(why["message"], "nobody used it for 2s; it is hibernated");
    let told = audited(&server, &format!("target={id}&actor=idle-timeout")).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["actor"]["kind"], &told[0]["action"]),
        (&json!("system"), &json!("session.hibernate"))
    );
    assert_eq!(told[0]["details"]["generation"], 2);
    let events = server.get(&format!("/api/v1/sessions/{id}/events")).await.json();
    let events = events["items"].as_array().unwrap();
    assert!(events.iter().any(|event| event["reason"] == "IdleTimeout"), "{events:?}");

    // Woken, it has all of its time again.
    let woken = Instant::now();
    assert_eq!(server.verb(&id, "wake").await.status, StatusCode::ACCEPTED);
    ran(&server, &id, 2).await;
    let events = server.get(&format!("/api/v1/sessions/{id}/events")).await.json();
    let anew = |event: &&Value| event["data"]["type"] == "PolicyApplied" && event["reason"] == "WishedAnew";
    let why = events["items"].as_array().unwrap().iter().find(anew).unwrap_or_else(|| panic!("{events}"));
    assert_eq!(why["data"]["status"], "False", "{why}");
    let session = server.phase(&id, "Hibernated").await;
    assert!(woken.elapsed() >= IDLE, "{:?}", woken.elapsed());
    assert_eq!(session["generation"], 4);
    assert_eq!(backend.calls("hibernate").len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn what_is_used_goes_on() {
    let (_folder, _backend, server) = start().await;
    let unused = running(&server, &json!({"idle_timeout": "2s"})).await;
    let unlimited = running(&server, &json!({})).await;
    let mut pace = Pace::begin();
    let used = running(&server, &json!({"idle_timeout": "2s"})).await;
    let begun = Instant::now();
    while begun.elapsed() < IDLE * 3 {
        let beat = Instant::now();
        assert_eq!(server.verb(&used, "heartbeat").await.status, StatusCode::NO_CONTENT);
        pace.done(beat);
        tokio::time::sleep(IDLE / 10).await;
    }
    let generation = server.session(&used).await["generation"].clone();
    assert!(generation == 1 || !pace.was_kept(IDLE / 2), "{generation}");
    assert_eq!(server.session(&unlimited).await["generation"], 1);
    eventually("stopped", async || server.session(&unused).await["state"] == "hibernated").await;
    server.phase(&used, "Hibernated").await;
    server.stop().await;
}

#[tokio::test]
async fn where_nothing_can_be_hibernated_it_is_terminated_and_the_home_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    backend.with(|state| (state.no_hibernation, state.persistent) = (true, true));
    let server = Server::start_with(quick(folder.path()), Some(&backend)).await;
    let id = running(&server, &json!({"idle_timeout": "1s", "persistent_home": true})).await;
    let session = server.phase(&id, "Terminated").await;
    assert_eq!(session["state"], "terminated");
    let why = condition(&session, "PolicyApplied");
    assert_eq!(why["message"], "nobody used it for 1s; it is terminated");
    let removed = backend.calls("delete");
    assert!(!removed.is_empty() && removed.iter().all(|call| !call.purge_home), "{removed:?}");
    assert_eq!(audited(&server, "actor=idle-timeout&action=session.terminate").await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn the_longest_duration_ends_what_is_used_and_what_is_hibernated() {
    let (folder, backend, server) = start().await;
    let limits = |longest: &str| json!({"max_session_duration": longest, "idle_timeout": "1h"});
    let asleep = running(&server, &limits("1h")).await;
    assert_eq!(server.verb(&asleep, "hibernate").await.status, StatusCode::ACCEPTED);
    server.settled(&asleep).await;
    let begun = Instant::now();
    let used = running(&server, &limits("3s")).await;
    // The hour of the other one is over as well.
    let long_ago = "2026-01-01T00:00:00+00:00";
    let over = format!(
        "UPDATE sessions SET started_at = '{long_ago}', policy_due_at = '{long_ago}' WHERE id = '{asleep}'"
    );
    assert_eq!(database::sql(folder.path(), &over).await, 1);
    eventually("its time is over", async || {
        server.verb(&used, "heartbeat").await;
        server.session(&used).await["state"] == "terminated"
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    for id in [&used, &asleep] {
        let session = server.phase(id, "Terminated").await;
        let why = condition(&session, "PolicyApplied");
        assert_eq!((&why["status"], &why["reason"]), (&json!("True"), &json!("MaxDurationReached")));
        assert_eq!(backend.phase_of(id), None);
        assert_eq!(audited(&server, &format!("target={id}&actor=max-duration")).await.len(), 1);
    }

    // Started again, it has a life of its own.
    let again = Instant::now();
    server.verb(&used, "wake").await;
    ran(&server, &used, 2).await;
    server.phase(&used, "Terminated").await;
    assert!(again.elapsed() >= Duration::from_secs(3), "{:?}", again.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn time_in_which_no_server_ran_counts() {
    let (folder, backend, server) = start().await;
    let id = running(&server, &json!({"max_session_duration": "2s"})).await;
    server.stop().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let server = Server::start_with(quick(folder.path()), Some(&backend)).await;
    server.phase(&id, "Terminated").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_end_a_session_once() {
    if !database::is_postgres() {
        return;
    }
    let (folder, _backend, one) = start().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(running(&one, &json!({"idle_timeout": "6s"})).await);
    }
    let beside = tempfile::tempdir().unwrap();
    // The administrator's token is the database's; a server without its file would make a new one.
    std::fs::copy(folder.path().join("admin.token"), beside.path().join("admin.token")).unwrap();
    let config = ControlConfig {
        database: quick(folder.path()).database,
        policy_interval: Duration::from_millis(5),
        ..quick(beside.path())
    };
    let other = Server::start_with(config, None).await;
    for id in &ids {
        eventually("hibernated", async || other.session(id).await["state"] == "hibernated").await;
    }
    for id in &ids {
        assert_eq!(one.session(id).await["generation"], 2);
    }
    assert_eq!(audited(&one, "actor=idle-timeout&limit=500").await.len(), ids.len());
    other.stop().await;
    one.stop().await;
}

#[tokio::test]
async fn whoever_looks_at_a_session_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::with(quick(folder.path()), folder).await;
    let (port, _) = application().await;
    let idle = Duration::from_secs(3);
    let begin = async || {
        let limits = json!({"webapp": {"enabled": true, "port": 3000}, "idle_timeout": "3s"});
        let id = running(&stage.server, &limits).await;
        stage.backend.with(|state| state.access.insert((id.clone(), "web".into()), port));
        id
    };
    let unused = begin().await;
    let mut pace = Pace::begin();
    let (visited, open) = (begin().await, begin().await);
    let mut request = format!("ws://{}/s/{open}/chat", stage.address).into_client_request().unwrap();
    let token = format!("Bearer {}", stage.server.token);
    request.headers_mut().insert("authorization", token.parse().unwrap());
    // Not a word is said on it.
    let (chat, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < idle * 3 {
        let visit = Instant::now();
        let seen = stage.get(&format!("/s/{visited}/")).send().await.unwrap().status();
        pace.done(visit);
        assert!(seen == StatusCode::OK || !pace.was_kept(idle / 2), "{seen}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for id in [&visited, &open] {
        let generation = stage.server.session(id).await["generation"].clone();
        assert!(generation == 1 || !pace.was_kept(idle / 2), "{id}: {generation}");
    }
    eventually("stopped", async || stage.server.session(&unused).await["state"] == "hibernated").await;
    drop(chat);
    for id in [&visited, &open] {
        let session = stage.server.phase(id, "Hibernated").await;
        assert_eq!(condition(&session, "PolicyApplied")["reason"], "IdleTimeout");
    }
    stage.server.stop().await;
}
