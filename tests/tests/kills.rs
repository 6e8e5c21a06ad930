//! The server is killed at every instant between a wish and its end, and started again: nothing is lost, and nothing
//! is there twice.
//!
//! `STREAMSPACE_TEST_KILL_ROUNDS` says how often each instant is tried (1 if it is not set).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use bollard::query_parameters::RemoveImageOptions;
use serde_json::{Value, json};
use streamspace_tests::api::{Answer, Api};
use streamspace_tests::docker::{Engine, Leftovers};
use streamspace_tests::provided;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::stage::{Stage, container, id};

/// From the request to the running session.
const CREATING: [&str; 8] = [
    "control.session.committed",
    "control.operation.claimed",
    "control.create.claimed",
    "docker.volume-ensure",
    "docker.container-create",
    "docker.container-start",
    "control.create.replied",
    "control.create.recorded",
];
/// The same with an image that is not there. The first look at it comes before the pull, the second after its start.
const PULLING: [&str; 5] = [
    "control.create.claimed",
    "docker.pull-start",
    "control.create.replied",
    "control.create.recorded",
    "docker.image-inspect:2",
];
/// From the wish to the stopped container.
const HIBERNATING: [&str; 6] = [
    "control.patch.committed",
    "control.operation.claimed",
    "control.hibernate.claimed",
    "docker.container-stop",
    "control.hibernate.replied",
    "control.hibernate.recorded",
];
/// And back.
const WAKING: [&str; 6] = [
    "control.patch.committed",
    "control.operation.claimed",
    "control.wake.claimed",
    "docker.container-start",
    "control.wake.replied",
    "control.wake.recorded",
];
/// From the wish to the end.
const DELETING: [&str; 6] = [
    "control.delete.committed",
    "control.operation.claimed",
    "control.delete.claimed",
    "docker.container-remove",
    "control.delete.replied",
    "control.delete.recorded",
];
/// From the wish to the session that runs on the other controller.
const MOVING: [&str; 11] = [
    "control.migrate.committed",
    "control.operation.claimed",
    "control.delete.claimed",
    "docker.container-remove",
    "control.delete.replied",
    "control.delete.recorded",
    "control.create.claimed",
    "docker.container-create",
    "docker.container-start",
    "control.create.replied",
    "control.create.recorded",
];

/// When the server dies.
#[derive(Debug, Clone, Copy)]
enum Kill {
    /// At a named instant after the wish was stored.
    At(&'static str),
    /// So long after the wish was sent, wherever it is then.
    After(Duration),
}

/// Every instant, as often as it is asked for, and between the rounds a kill at an instant without a name.
fn kills(instants: &[&'static str]) -> Vec<Kill> {
    let rounds: u64 = std::env::var("STREAMSPACE_TEST_KILL_ROUNDS")
        .map(|rounds| rounds.parse().expect("STREAMSPACE_TEST_KILL_ROUNDS is a number"))
        .unwrap_or(1);
    let round = |number: u64| {
        // Spread over what a wish takes.
        let moment = Duration::from_millis((7 + number * 61) % 700);
        instants.iter().copied().map(Kill::At).chain([Kill::After(moment)])
    };
    (0..rounds).flat_map(round).collect()
}

/// Starts a server, has something wished, and lets the server die. Says whether the wish must be known afterwards.
async fn killed(
    stage: &Stage,
    kill: Kill,
    wish: impl AsyncFnOnce(&Api) -> Result<Answer, reqwest::Error>,
) -> bool {
    println!("{kill:?}");
    match kill {
        Kill::At(failpoint) => {
            let doomed = stage.installation.start_to_die_at(failpoint);
            // Whether the answer comes before the end is a race; both are fine.
            let _ = wish(&doomed.api()).await;
            doomed.died().await;
            true
        }
        Kill::After(moment) => {
            let doomed = stage.installation.start();
            let api = doomed.api();
            let death = async {
                tokio::time::sleep(moment).await;
                doomed.kill();
            };
            let (answer, ()) = tokio::join!(wish(&api), death);
            answer.is_ok_and(|answer| answer.status.is_success())
        }
    }
}

/// Two sessions that nobody wishes anything of: whatever happens beside them must not touch them.
struct Bystanders {
    sessions: Vec<(Value, usize)>,
}

impl Bystanders {
    async fn new(stage: &Stage, api: &Api) -> Self {
        let running = api.create_running(&stage.request("awake")).await;
        let asleep = api.create_running(&stage.request("asleep")).await;
        hibernate(api, id(&asleep)).await;
        let mut sessions = Vec::new();
        for session in [running, asleep] {
            let starts = starts(stage, id(&session)).await;
            sessions.push((session, starts));
        }
        Self { sessions }
    }

    async fn are_as_they_were(&self, stage: &Stage, all: &[Value]) {
        for (session, starts) in &self.sessions {
            let now = all.iter().find(|other| id(other) == id(session)).expect("no session is lost");
            assert_eq!(now["node_id"], session["node_id"], "the same container");
            assert_eq!(stage.starts(id(session)).await, *starts, "it was not started again: {now}");
        }
        assert!(stage.homes().await.len() >= self.sessions.len());
    }

    /// All sessions but these.
    fn others<'a>(&self, all: &'a [Value]) -> Vec<&'a Value> {
        let known = |session: &&Value| !self.sessions.iter().any(|(other, _)| id(other) == id(session));
        all.iter().filter(known).collect()
    }
}

/// The container runs a moment before its program has counted the start.
async fn starts(stage: &Stage, session: &str) -> usize {
    streamspace_tests::until("the first start", async || {
        stage.engine.starts(&container(session)).await.ok().filter(|&starts| starts > 0)
    })
    .await
}

async fn hibernate(api: &Api, id: &str) {
    let answer = api.post(&format!("/api/v1/sessions/{id}/hibernate?wait=60s"), &Value::Null).await;
    assert_eq!(answer.body["phase"], "Hibernated", "{}", answer.body);
}

async fn wake(api: &Api, id: &str) {
    let answer = api.post(&format!("/api/v1/sessions/{id}/wake?wait=60s"), &Value::Null).await;
    assert_eq!(answer.body["phase"], "Running", "{}", answer.body);
}

async fn delete(api: &Api, id: &str) {
    let answer = api.delete(&format!("/api/v1/sessions/{id}?wait=60s")).await;
    assert_eq!(answer.status, reqwest::StatusCode::NO_CONTENT, "{}", answer.body);
}

/// A stage, its bystanders, and a server to begin with.
async fn begin() -> Option<(Stage, Bystanders, Server)> {
    let stage = Stage::new().await?;
    let server = stage.installation.start();
    let bystanders = Bystanders::new(&stage, &server.api()).await;
    Some((stage, bystanders, server))
}

async fn creating(instants: &[&'static str], image: Option<&str>) {
    let Some((stage, bystanders, mut server)) = begin().await else { return };
    let request = image.map_or_else(|| stage.request("u"), |image| stage.request_of("u", image));
    let mut counted = 0;
    for kill in kills(instants) {
        server.kill();
        if let Some(image) = image {
            forget(&stage.engine, image).await;
        }
        let known =
            killed(&stage, kill, async |api: &Api| api.try_create("/api/v1/sessions", &request).await).await;
        server = stage.installation.start();
        let api = server.api();
        let sessions = stage.settled(&api).await;
        bystanders.are_as_they_were(&stage, &sessions).await;
        let ours = bystanders.others(&sessions);
        assert!(ours.len() == 1 || ours.is_empty() && !known, "{kill:?}: one session: {ours:?}");
        for session in ours {
            let starts = starts(&stage, id(session)).await;
            assert!(starts > counted, "{kill:?}: the home of the session before: {starts} after {counted}");
            counted = starts;
            delete(&api, id(session)).await;
        }
    }
    server.kill();
}

/// Removes an image from the engine, if it is there.
async fn forget(engine: &Engine, image: &str) {
    match engine.0.remove_image(image, None::<RemoveImageOptions>, None).await {
        Ok(_) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn at_every_instant_of_a_creation() {
    creating(&CREATING, None).await;
}

#[tokio::test]
async fn at_every_instant_of_a_creation_that_pulls() {
    let Some(image) = provided("STREAMSPACE_TEST_REGISTRY_IMAGE") else { return };
    creating(&PULLING, Some(&image)).await;
}

#[tokio::test]
async fn at_every_instant_of_a_hibernation() {
    let Some((stage, bystanders, mut server)) = begin().await else { return };
    let session = server.api().create_running(&stage.request("u")).await;
    let session = id(&session);
    let mut counted = starts(&stage, session).await;
    for kill in kills(&HIBERNATING) {
        server.kill();
        let path = format!("/api/v1/sessions/{session}/hibernate");
        let known = killed(&stage, kill, async |api: &Api| api.try_post(&path, &json!(null)).await).await;
        server = stage.installation.start();
        let api = server.api();
        let sessions = stage.settled(&api).await;
        bystanders.are_as_they_were(&stage, &sessions).await;
        let ours = bystanders.others(&sessions);
        assert!(ours.len() == 1 && id(ours[0]) == session, "{kill:?}: {ours:?}");
        let hibernated = ours[0]["state"] == "hibernated";
        assert!(hibernated || !known, "{kill:?}: the wish was lost: {ours:?}");
        assert_eq!(stage.starts(session).await, counted, "{kill:?}: nothing was started, the home is kept");
        if hibernated {
            wake(&api, session).await;
            counted = again(&stage, session, counted).await;
        }
    }
    server.kill();
}

#[tokio::test]
async fn at_every_instant_of_a_waking() {
    let Some((stage, bystanders, mut server)) = begin().await else { return };
    let session = server.api().create_running(&stage.request("u")).await;
    let session = id(&session);
    let mut counted = starts(&stage, session).await;
    hibernate(&server.api(), session).await;
    for kill in kills(&WAKING) {
        server.kill();
        let path = format!("/api/v1/sessions/{session}/wake");
        let known = killed(&stage, kill, async |api: &Api| api.try_post(&path, &json!(null)).await).await;
        server = stage.installation.start();
        let api = server.api();
        let sessions = stage.settled(&api).await;
        bystanders.are_as_they_were(&stage, &sessions).await;
        let ours = bystanders.others(&sessions);
        assert!(ours.len() == 1 && id(ours[0]) == session, "{kill:?}: {ours:?}");
        let woken = ours[0]["state"] == "running";
        assert!(woken || !known, "{kill:?}: the wish was lost: {ours:?}");
        if woken {
            counted = again(&stage, session, counted).await;
            hibernate(&api, session).await;
        }
    }
    server.kill();
}

/// Waits for the one start more that a waking is.
async fn again(stage: &Stage, session: &str, counted: usize) -> usize {
    let starts = streamspace_tests::until("another start", async || {
        let starts = stage.starts(session).await;
        (starts != counted).then_some(starts)
    })
    .await;
    assert_eq!(starts, counted + 1, "woken once, with the home it had");
    starts
}

#[tokio::test]
async fn at_every_instant_of_a_deletion() {
    let Some((stage, bystanders, mut server)) = begin().await else { return };
    let mut session = server.api().create_running(&stage.request("u")).await;
    let mut counted = starts(&stage, id(&session)).await;
    for kill in kills(&DELETING) {
        server.kill();
        let path = format!("/api/v1/sessions/{}", id(&session));
        let known = killed(&stage, kill, async |api: &Api| api.try_delete(&path).await).await;
        server = stage.installation.start();
        let api = server.api();
        if known {
            api.wait_for_gone(id(&session)).await;
        }
        let sessions = stage.settled(&api).await;
        bystanders.are_as_they_were(&stage, &sessions).await;
        let ours = bystanders.others(&sessions);
        assert!(ours.is_empty() || !known, "{kill:?}: {ours:?}");
        assert_eq!(stage.homes().await.len(), 3, "{kill:?}: the home is kept");
        if ours.is_empty() {
            session = api.create_running(&stage.request("u")).await;
            counted = again(&stage, id(&session), counted).await;
        }
    }
    server.kill();
}

/// Two controllers, of one engine.
const TWO: &str = r#"[
    {name="one", plugin="docker", endpoints={engine={docker="unix:///var/run/docker.sock"}}},
    {name="two", plugin="docker", endpoints={engine={docker="unix:///var/run/docker.sock"}}},
]"#;

#[tokio::test]
async fn at_every_instant_of_a_move() {
    let Some(socket) = provided("STREAMSPACE_TEST_DOCKER") else { return };
    let (Some(installation), Some(image)) =
        (Installation::with_engine(&socket), provided("STREAMSPACE_TEST_IMAGE"))
    else {
        return;
    };
    let controllers = TWO.replace("/var/run/docker.sock", &socket).replace(['\n', ' '], "");
    let installation = installation.environment("STREAMSPACE_CONTROLLER", &controllers);
    let engine = Engine::at(&socket).await.unwrap();
    let mut server = installation.start();
    let both: Vec<String> = streamspace_tests::until("two healthy controllers", async || {
        let all = server.api().get("/api/v1/admin/controllers").await.body;
        let healthy = all.as_array()?.iter().filter(|one| one["status"] == "healthy");
        let ids: Vec<_> = healthy.map(|one| id(one).to_owned()).collect();
        (ids.len() == 2).then_some(ids)
    })
    .await;
    let _leftovers: Vec<Leftovers> = both.iter().map(|id| Leftovers::of(&socket, id)).collect();
    let request = json!({
        "controller_id": both[0],
        "spec": {"base_image": image, "resources": {"memory": "64Mi"}},
    });
    let session = server.api().create_running(&request).await;
    let path = format!("/api/v1/sessions/{}/migrate", id(&session));
    let mut at = 0;
    for kill in kills(&MOVING) {
        server.kill();
        let target = &both[1 - at];
        let wish = json!({"controller_id": target});
        // A server that has just started knows nothing of its controllers yet.
        let moved = async |api: &Api| loop {
            let answer = api.try_post(&path, &wish).await?;
            if answer.status != reqwest::StatusCode::CONFLICT {
                return Ok::<Answer, reqwest::Error>(answer);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        println!("{kill:?}");
        let known = match kill {
            Kill::At(failpoint) => {
                let doomed = installation.start_to_die_at(failpoint);
                let _ = moved(&doomed.api()).await;
                doomed.died().await;
                true
            }
            Kill::After(moment) => {
                let doomed = installation.start();
                let api = doomed.api();
                let death = async {
                    tokio::time::sleep(moment).await;
                    doomed.kill();
                };
                let (answer, ()) = tokio::join!(moved(&api), death);
                answer.is_ok_and(|answer| answer.status.is_success())
            }
        };
        server = installation.start();
        let api = server.api();
        let seen = streamspace_tests::until("it runs, and nothing is under way", async || {
            let seen = api.get(&format!("/api/v1/sessions/{}", id(&session))).await.body;
            let rests = seen["status"]["operation"].is_null() && seen["moving_to"].is_null();
            (seen["phase"] == "Running" && rests).then_some(seen)
        })
        .await;
        let arrived = seen["controller_id"] == json!(target);
        assert!(arrived || !known, "{kill:?}: the wish was lost: {seen}");
        if arrived {
            at = 1 - at;
        }
        for (number, controller) in both.iter().enumerate() {
            let there = engine.containers(controller).await;
            assert_eq!(there.len(), usize::from(number == at), "{kill:?}: on {controller}: {there:?}");
        }
    }
    let deleted = server.api().delete(&format!("/api/v1/sessions/{}?wait=60s", id(&session))).await;
    assert_eq!(deleted.status, reqwest::StatusCode::NO_CONTENT, "{}", deleted.body);
    server.kill();
}
