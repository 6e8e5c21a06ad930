//! A Docker engine that stops, dies and comes back, and hands that meddle with its containers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bollard::query_parameters::{RemoveContainerOptions, StartContainerOptions, StopContainerOptions};
use reqwest::StatusCode;
use serde_json::Value;
use streamspace_tests::api::Api;
use streamspace_tests::holds;
use streamspace_tests::own_engine::OwnEngine;
use streamspace_tests::stage::{SETTLING, Stage, condition, container, id};

/// Waits until a session was started so often with the same home.
async fn started(stage: &Stage, session: &str, times: usize) {
    let name = container(session);
    holds(&format!("start number {times} of {session}"), SETTLING, async || {
        let starts = stage.engine.starts(&name).await.map_err(|error| error.to_string())?;
        assert!(starts <= times, "started {starts} times");
        if starts == times { Ok(()) } else { Err(format!("{starts} starts")) }
    })
    .await;
}

async fn hibernate(api: &Api, session: &str) {
    let answer = api.post(&format!("/api/v1/sessions/{session}/hibernate?wait=60s"), &Value::Null).await;
    assert_eq!(answer.body["phase"], "Hibernated", "{}", answer.body);
}

/// Waits until a session says whether its controller can be reached.
async fn reachable(api: &Api, session: &str, status: &str) -> Value {
    holds(&format!("ControllerReachable={status}"), SETTLING, async || {
        let seen = api.get(&format!("/api/v1/sessions/{session}")).await.body;
        let found = condition(&seen, "ControllerReachable").clone();
        if found["status"] == status { Ok(found) } else { Err(seen.to_string()) }
    })
    .await
}

/// How an engine goes.
#[derive(Debug, Clone, Copy)]
enum Going {
    /// It is asked to stop, and stops its containers.
    Stopped,
    /// It dies, and its containers go on.
    Killed,
}

#[tokio::test]
async fn stopped_and_started_again() {
    away_and_back(Going::Stopped).await;
}

#[tokio::test]
async fn killed_and_started_again() {
    away_and_back(Going::Killed).await;
}

async fn away_and_back(going: Going) {
    let Some(mut engine) = OwnEngine::start().await else { return };
    let Some(stage) = Stage::over(&engine.socket()).await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let mut sessions = Vec::new();
    for user in ["awake", "asleep", "to-sleep", "to-wake", "to-go"] {
        let session = api.create_running(&stage.request(user)).await;
        started(&stage, id(&session), 1).await;
        sessions.push(id(&session).to_owned());
    }
    let [awake, asleep, to_sleep, to_wake, to_go] = sessions.as_slice() else { panic!("{sessions:?}") };
    hibernate(&api, asleep).await;
    hibernate(&api, to_wake).await;
    let before = stage.settled(&api).await;

    match going {
        Going::Stopped => engine.stop().await,
        Going::Killed => engine.kill(),
    }
    // Not to be reached is not gone, and not stopped.
    for session in &sessions {
        let condition = reachable(&api, session, "False").await;
        assert!(!condition["reason"].as_str().unwrap().is_empty(), "{condition}");
    }
    let away = api.sessions().await;
    assert_eq!(away.len(), before.len(), "nothing is deleted");
    for session in &before {
        let now = away.iter().find(|now| id(now) == id(session)).unwrap();
        assert_eq!(
            (&now["phase"], &now["state"], &now["node_id"]),
            (&session["phase"], &session["state"], &session["node_id"]),
            "{now}"
        );
    }
    // A new session has nowhere to go, while those that are there may be wished otherwise, and wait.
    let refused = api.post("/api/v1/sessions", &stage.request("new")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
    for (session, verb) in [(to_sleep, "hibernate"), (to_wake, "wake")] {
        let accepted = api.post(&format!("/api/v1/sessions/{session}/{verb}"), &Value::Null).await;
        assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.body);
    }
    let accepted = api.delete(&format!("/api/v1/sessions/{to_go}")).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.body);
    assert_eq!(api.sessions().await.len(), sessions.len());

    engine.resume().await;
    for session in [awake, asleep] {
        reachable(&api, session, "True").await;
    }
    let settled = stage.settled(&api).await;
    let state = |session: &String| {
        let found = settled.iter().find(|other| id(other) == session);
        found.map(|session| session["phase"].as_str().unwrap())
    };
    assert_eq!(
        [awake, asleep, to_sleep, to_wake, to_go].map(state),
        [Some("Running"), Some("Hibernated"), Some("Hibernated"), Some("Running"), None]
    );
    assert_eq!(stage.homes().await.len(), sessions.len(), "no home is lost");
    // The engine started what ran before it stopped; nobody started what slept.
    started(&stage, awake, 2).await;
    started(&stage, asleep, 1).await;
    let created = api.create_running(&stage.request("new")).await;
    assert_eq!(stage.settled(&api).await.len(), settled.len() + 1, "{created}");
    server.kill();
}

#[tokio::test]
async fn a_container_removed_by_hand_is_made_again_with_its_home() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let session = api.create_running(&stage.request("u")).await;
    let (session, node) = (id(&session), &session["node_id"]);
    started(&stage, session, 1).await;
    let options = RemoveContainerOptions { force: true, ..Default::default() };
    stage.engine.0.remove_container(&container(session), Some(options)).await.unwrap();

    started(&stage, session, 2).await;
    let settled = stage.settled(&api).await;
    assert_eq!((settled.len(), id(&settled[0])), (1, session));
    assert_ne!(settled[0]["node_id"], *node);
    assert_eq!(stage.homes().await.len(), 1);
    server.kill();
}

#[tokio::test]
async fn a_session_stopped_by_hand_is_woken() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let session = api.create_running(&stage.request("u")).await;
    let (session, node) = (id(&session), &session["node_id"]);
    started(&stage, session, 1).await;
    stage.engine.0.stop_container(&container(session), None::<StopContainerOptions>).await.unwrap();

    started(&stage, session, 2).await;
    let settled = stage.settled(&api).await;
    assert_eq!(settled[0]["node_id"], *node, "the same container");
    server.kill();
}

#[tokio::test]
async fn a_hibernated_session_started_by_hand_is_stopped_again() {
    let Some(stage) = Stage::new().await else { return };
    let server = stage.installation.start();
    let api = server.api();
    let session = api.create_running(&stage.request("u")).await;
    let (session, node) = (id(&session), &session["node_id"]);
    started(&stage, session, 1).await;
    hibernate(&api, session).await;
    stage.engine.0.start_container(&container(session), None::<StartContainerOptions>).await.unwrap();

    let settled = stage.settled(&api).await;
    assert_eq!((&settled[0]["phase"], &settled[0]["node_id"]), (&"Hibernated".into(), node));
    let inspected = stage.engine.inspect(&container(session)).await;
    assert_eq!(inspected.state.unwrap().running, Some(false));
    server.kill();
}
