//! Objects that no session explains, on the simulated infrastructure: its listings shrink and fail, and its log of effects
//! says what was really touched.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use reqwest::Method;
use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;
use streamspace_tests::{provided, until};
use tempfile::TempDir;

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
        let installation = Installation::new()?.plugins(plugins.path()).config(&format!(
            "[[controller]]\nname = \"simulated-local\"\nplugin = \"simulated\"\n\
             [controller.endpoints.api]\nhttp = \"unix://{}\"\n",
            simulated.socket().display()
        ));
        Some(Self { simulated, installation, _plugins: plugins })
    }

    fn start(&self) -> Server {
        self.installation.start()
    }

    /// A running box that the server did not make, with these marks or none.
    async fn make(&self, session: &str, controller: Option<&str>) {
        let labels = match controller {
            Some(controller) => json!({
                "streamspace.controller": controller,
                "streamspace.session_id": session,
                "streamspace.user_id": "alice",
            }),
            None => json!({}),
        };
        let body = json!({"name": format!("ss-{session}"), "labels": labels});
        let (status, answer) = self.simulated.send(Method::POST, "/foreign", Some(&body)).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Which boxes there are, by their session.
    async fn boxes(&self) -> Vec<String> {
        let boxes = self.simulated.boxes().await;
        let names = boxes.iter().map(|found| found["name"].as_str().unwrap());
        names.map(|name| name.trim_start_matches("ss-").to_owned()).collect()
    }

    /// Has everything listed so often, by rules that every listing is hit by, and gives the rules back.
    async fn listed(&self, api: &Api, session: &str, rule: Value, times: u64) {
        self.simulated.rules(json!([rule])).await;
        until("so many listings", async || {
            // Asks for one out of turn.
            api.post(&format!("/api/v1/sessions/{session}/retry"), &json!({})).await;
            let knobs = self.simulated.get("/knobs").await;
            (knobs["rules"][0]["hits"].as_u64().unwrap() >= times).then_some(())
        })
        .await;
    }
}

async fn list(api: &Api) -> Value {
    let answer = api.get("/api/v1/admin/drift").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Waits until the list has these sessions' objects and no others.
async fn listed_are(api: &Api, session: &str, sessions: &[&str]) -> Vec<Value> {
    until(&format!("{sessions:?} in the list"), async || {
        api.post(&format!("/api/v1/sessions/{session}/retry"), &json!({})).await;
        let items = list(api).await["items"].as_array().unwrap().clone();
        let mut found: Vec<_> = items.iter().map(|entry| entry["session_id"].as_str().unwrap()).collect();
        found.sort_unstable();
        (found == sessions).then(|| items.clone())
    })
    .await
}

fn unknown(number: u32) -> String {
    format!("01900000-0000-7000-8000-{number:012}")
}

#[tokio::test]
async fn what_no_session_explains_is_listed_adopted_and_removed_and_nothing_else_is_touched() {
    let Some(stage) = Stage::new() else { return };
    let server = stage.start();
    let api = server.api();
    let wanted = json!({"user_id": "u", "spec": {"base_image": "any"}});
    let session = api.create_running(&wanted).await;
    let id = session["id"].as_str().unwrap();
    let controller = session["controller_id"].as_str().unwrap();

    // While listings fail, or break off behind their first page, nothing is known of what is there.
    let failing = json!({"verb": "box.list", "fault": {"error": {"status": 500}}});
    stage.listed(&api, id, failing, 1).await;
    for number in 1..=3 {
        stage.make(&unknown(number), Some(controller)).await;
    }
    stage.make(&unknown(8), None).await;
    stage.make(&unknown(9), Some("ctrl-of-somebody")).await;
    let mut made = Vec::new();
    for number in [3, 8, 9] {
        made.push((number, stage.simulated.effects_on(&format!("ss-{}", unknown(number))).await));
    }
    let torn = json!({"verb": "box.list", "fault": "torn_body"});
    stage.listed(&api, id, torn, 3).await;
    assert_eq!(list(&api).await["items"], json!([]));
    stage.simulated.rules(json!([])).await;
    let all = [&unknown(1), &unknown(2), &unknown(3)];
    let entries = listed_are(&api, id, &all.map(String::as_str)).await;
    let of = |number| {
        let entry = entries.iter().find(|entry| entry["session_id"] == unknown(number)).unwrap();
        assert_eq!((&entry["user_id"], &entry["phase"]), (&json!("alice"), &json!("Running")));
        format!("/api/v1/admin/drift/{}", entry["id"].as_str().unwrap())
    };

    // A listing that fails takes nothing out of the list, and a server that is killed forgets nothing of it.
    let failing = json!({"verb": "box.list", "fault": {"error": {"status": 500}}});
    stage.listed(&api, id, failing, 3).await;
    assert_eq!(list(&api).await["items"].as_array().unwrap().len(), 3);
    stage.simulated.rules(json!([])).await;
    let ignored = api.post(&format!("{}/ignore", of(3)), &json!({})).await;
    assert_eq!(ignored.body["state"], "ignored", "{}", ignored.body);
    server.kill();
    let server = stage.start();
    let api = server.api();
    api.wait_for_phase(id, "Running").await;

    let adopted = api.post(&format!("{}/adopt", of(1)), &json!({"spec": {"base_image": "any"}})).await;
    assert_eq!(
        (adopted.status.as_u16(), &adopted.body["user_id"]),
        (201, &json!("alice")),
        "{}",
        adopted.body
    );
    let gone = api.delete(&format!("{}?wait=30s", of(2))).await;
    assert_eq!(gone.status, 204, "{}", gone.body);
    let left = listed_are(&api, id, &[&unknown(3)]).await;
    assert_eq!(left[0]["state"], "ignored");

    // What was adopted is driven and made again as any other.
    let adopted = unknown(1);
    api.post(&format!("/api/v1/sessions/{adopted}/hibernate?wait=30s"), &json!({})).await;
    api.wait_for_phase(&adopted, "Hibernated").await;
    api.post(&format!("/api/v1/sessions/{adopted}/wake?wait=30s"), &json!({})).await;
    stage.simulated.by_hand(&format!("ss-{adopted}"), "remove").await;
    until("made again", async || stage.boxes().await.contains(&adopted).then_some(())).await;
    api.wait_for_phase(&adopted, "Running").await;

    // Nothing but what was to be touched was.
    for (number, effects) in made {
        let name = format!("ss-{}", unknown(number));
        assert_eq!(stage.simulated.effects_on(&name).await, effects, "{number}");
    }
    for session in [id, &adopted] {
        api.delete(&format!("/api/v1/sessions/{session}?wait=60s")).await;
        api.wait_for_gone(session).await;
    }
    assert_eq!(stage.boxes().await, [unknown(3), unknown(8), unknown(9)]);
    server.stop().await;
}

#[tokio::test]
async fn a_listing_that_shrinks_has_nothing_made_or_removed() {
    let Some(stage) = Stage::new() else { return };
    let server = stage.start();
    let api = server.api();
    let wanted = json!({"user_id": "u", "spec": {"base_image": "any"}});
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(api.create_running(&wanted).await["id"].as_str().unwrap().to_owned());
    }
    // One is forgotten while its box cannot be removed; the others are then hidden.
    let lost = ids.pop().unwrap();
    let locked = json!({"verb": "box.delete", "fault": {"error": {"status": 500}}});
    stage.simulated.rules(json!([locked])).await;
    assert_eq!(api.post(&format!("/api/v1/sessions/{lost}/forget"), &json!({})).await.status, 204);
    // Still locked: what the listing before has found may be removed only now.
    let hiding = json!({"verb": "box.list", "fault": {"omit": 1.0}});
    stage.simulated.rules(json!([hiding, locked])).await;
    until("an alarm", async || {
        api.post(&format!("/api/v1/sessions/{}/retry", ids[0]), &json!({})).await;
        let alarms = list(&api).await["alarms"].clone();
        (alarms[0]["kind"] == "losses").then_some(())
    })
    .await;
    assert_eq!(stage.boxes().await.len(), 7);
    for id in &ids {
        assert_eq!(api.get(&format!("/api/v1/sessions/{id}")).await.body["phase"], "Running");
        let effects = stage.simulated.effects_on(&format!("ss-{id}")).await;
        assert_eq!(effects.iter().filter(|kind| *kind == "box.made").count(), 1, "{effects:?}");
    }
    // In order again: what was forgotten is collected, and nothing else.
    stage.simulated.rules(json!([])).await;
    until("collected", async || {
        api.post(&format!("/api/v1/sessions/{}/retry", ids[0]), &json!({})).await;
        (!stage.boxes().await.contains(&lost)).then_some(())
    })
    .await;
    until("no alarm", async || (list(&api).await["alarms"] == json!([])).then_some(())).await;
    assert_eq!(stage.boxes().await.len(), 6);
    server.stop().await;
}
