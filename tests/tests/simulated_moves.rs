//! A session that moves between two controllers of the simulated infrastructure, while the server is killed at every instant
//! of it: the wish is kept, nothing is made twice and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use serde_json::{Value, json};
use streamspace_tests::api::{Answer, Api};
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;
use streamspace_tests::{provided, until};
use tempfile::TempDir;

/// From the wish to the session that runs on the other controller.
const INSTANTS: [&str; 13] = [
    "store.written.migrate",
    "store.committed.migrate",
    "control.migrate.committed",
    "control.operation.claimed",
    "control.delete.claimed",
    "call.ended.delete_session",
    "control.delete.replied",
    "control.delete.recorded",
    "control.create.claimed",
    "call.begun.create_session",
    "call.ended.create_session",
    "control.create.replied",
    "control.create.recorded",
];

struct Stage {
    simulated: Simulated,
    installation: Installation,
    _plugins: TempDir,
}

impl Stage {
    fn new() -> Option<Self> {
        let plugin = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
        let simulated = Simulated::start()?;
        let plugins = tempfile::tempdir().unwrap();
        std::fs::copy(plugin, plugins.path().join("simulated.wasm")).unwrap();
        let controller = |name: &str| {
            format!(
                "[[controller]]\nname = \"{name}\"\nplugin = \"simulated\"\n\
                 [controller.endpoints.api]\nhttp = \"unix://{}\"\n",
                simulated.socket().display()
            )
        };
        let both = controller("one") + &controller("two");
        let installation = Installation::new()?.plugins(plugins.path()).config(&both);
        Some(Self { simulated, installation, _plugins: plugins })
    }

    /// Has a server die at an instant of a move, or so long after it was asked for; whether the wish must be known.
    async fn killed(&self, instant: Option<&str>, session: &str, target: &str) -> bool {
        let Some(instant) = instant else {
            let doomed = self.installation.start();
            let api = doomed.api();
            let death = async {
                tokio::time::sleep(Duration::from_millis(40)).await;
                doomed.kill();
            };
            let (answer, ()) = tokio::join!(migrate(&api, session, target), death);
            return answer.is_ok_and(|answer| answer.status.is_success());
        };
        let doomed = self.installation.start_to_die_at(instant);
        // A refusal passes the points of a transaction as well, and changes nothing.
        two_healthy(&doomed).await;
        // Whether the answer comes before the end is a race; both are fine.
        let _ = migrate(&doomed.api(), session, target).await;
        doomed.died().await;
        instant != "store.written.migrate"
    }
}

/// A server that has just started knows nothing of its controllers yet, and refuses until it does.
async fn migrate(api: &Api, session: &str, target: &str) -> Result<Answer, reqwest::Error> {
    let path = format!("/api/v1/sessions/{session}/migrate");
    loop {
        let answer = api.try_post(&path, &json!({"controller_id": target})).await?;
        if answer.status != reqwest::StatusCode::CONFLICT {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn two_healthy(server: &Server) -> [String; 2] {
    until("two healthy controllers", async || {
        let all = server.api().get("/api/v1/admin/controllers").await.body;
        let healthy = all.as_array()?.iter().filter(|one| one["status"] == "healthy");
        let ids: Vec<_> = healthy.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        ids.try_into().ok()
    })
    .await
}

#[tokio::test]
async fn at_every_instant_of_a_move() {
    let Some(stage) = Stage::new() else { return };
    let mut server = stage.installation.start();
    let both = two_healthy(&server).await;
    let request = json!({
        "user_id": "u",
        "controller_id": both[0],
        "spec": {"base_image": "any", "resources": {"memory": "64Mi"}},
    });
    let session = server.api().create_running(&request).await["id"].as_str().unwrap().to_owned();
    let mut at = 0;
    for instant in INSTANTS.into_iter().map(Some).chain([None]) {
        println!("{instant:?}");
        server.kill();
        let target = &both[1 - at];
        let known = stage.killed(instant, &session, target).await;
        server = stage.installation.start();
        let api = server.api();
        let seen: Value = until("it runs, and nothing is under way", async || {
            let seen = api.get(&format!("/api/v1/sessions/{session}")).await.body;
            let rests = seen["status"]["operation"].is_null() && seen["moving_to"].is_null();
            (seen["phase"] == "Running" && rests).then_some(seen)
        })
        .await;
        let arrived = seen["controller_id"] == json!(target);
        assert!(arrived || !known, "{instant:?}: the wish was lost: {seen}");
        if arrived {
            at = 1 - at;
        }
        let boxes = stage.simulated.boxes().await;
        assert_eq!(boxes.len(), 1, "{instant:?}: {boxes:?}");
        assert_eq!(boxes[0]["labels"]["streamspace.controller"], json!(both[at]), "{instant:?}: {boxes:?}");
        // What is reserved is where it is.
        for (number, id) in both.iter().enumerate() {
            let told = api.get(&format!("/api/v1/admin/controllers/{id}")).await.body;
            assert_eq!(told["reserved"]["sessions"], json!(u64::from(number == at)), "{instant:?}: {told}");
        }
    }
    // Of every generation of the wish each kind of effect came to pass once.
    let mut effects: Vec<String> = Vec::new();
    for effect in stage.simulated.effects().await {
        let kind = effect["kind"].as_str().unwrap();
        if kind.starts_with("box.") && effect["origin"] != "itself" {
            effects.push(format!("{kind} {}", effect["generation"]));
        }
    }
    let all = effects.len();
    effects.sort_unstable();
    effects.dedup();
    assert_eq!(effects.len(), all, "something was done twice: {effects:?}");

    let deleted = server.api().delete(&format!("/api/v1/sessions/{session}?wait=60s")).await;
    assert_eq!(deleted.status, reqwest::StatusCode::NO_CONTENT, "{}", deleted.body);
    assert!(stage.simulated.boxes().await.is_empty());
    server.kill();
}
