//! What has to hold when nobody kills the server any more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use streamspace_tests::api::Api;

use crate::driver::{Driver, Held};
use crate::effects::Ledger;
use crate::stage::{Stage, keep_evidence};

/// How long it may take until everything is as it is wished.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Holds the users still, waits until everything is as they wish it, and tells how long that took.
pub(crate) async fn whole(stage: &Stage, driver: &Driver, ledger: &mut Ledger) -> Result<Duration> {
    let began = Instant::now();
    let _pause = driver.pause().await;
    let held_still = Instant::now();
    let api = driver.api()?;
    let held = driver.held().await;
    loop {
        let mut amiss = driver.complaints().await;
        amiss.extend(ledger.read(&effects_after(stage, ledger.len()).await));
        if !amiss.is_empty() {
            return broken(stage, &amiss);
        }
        let open = differences(&api, stage, &held).await;
        if open.is_empty() {
            return Ok(began.elapsed());
        }
        if held_still.elapsed() > LIMIT {
            return broken(stage, &open);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn broken(stage: &Stage, amiss: &[String]) -> Result<Duration> {
    let kept = keep_evidence(stage)?;
    let shown = amiss.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
    bail!("{} amiss (evidence in {}):\n  {shown}", amiss.len(), kept.display())
}

async fn effects_after(stage: &Stage, after: usize) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let page = stage.simulated.get(&format!("/effects?after={}", after + all.len())).await;
        match page["effects"].as_array().map(Vec::as_slice).unwrap_or_default() {
            [] => return all,
            more => all.extend_from_slice(more),
        }
    }
}

/// What is not as it is wished, or is there although nobody wishes it.
async fn differences(api: &Api, stage: &Stage, held: &[Held]) -> Vec<String> {
    let mut amiss = Vec::new();
    let sessions = match api.all_sessions().await {
        Ok(sessions) => sessions,
        Err(error) => return vec![format!("the sessions cannot be listed: {error:#}")],
    };
    let mut boxes: HashMap<String, Vec<Value>> = HashMap::new();
    for one in stage.simulated.boxes().await {
        let session = one["labels"]["streamspace.session_id"].as_str().unwrap_or_default().to_owned();
        boxes.entry(session).or_default().push(one);
    }
    let mut sessions: HashMap<&str, &Value> =
        sessions.iter().filter_map(|session| Some((session["id"].as_str()?, session))).collect();
    for Held { id, state } in held {
        let Some(session) = sessions.remove(id.as_str()) else {
            amiss.push(format!("lost: the session {id}, wished {state}"));
            continue;
        };
        let (phase, found) = match *state {
            "running" => ("Running", Some("running")),
            "hibernated" => ("Hibernated", Some("stopped")),
            _ => ("Terminated", None),
        };
        let boxes = boxes.remove(id).unwrap_or_default();
        let states: Vec<_> = boxes.iter().filter_map(|one| one["state"].as_str()).collect();
        let settled = session["status"]["operation"].is_null()
            && session["status"]["observed_generation"] == session["generation"];
        if session["state"] != *state || session["phase"] != phase || !settled {
            amiss.push(format!("not as wished ({state}): {session}"));
        } else if states != found.into_iter().collect::<Vec<_>>() {
            amiss.push(format!("its boxes are {states:?}: {session}"));
        }
    }
    amiss.extend(sessions.values().map(|session| format!("wished by nobody: {session}")));
    amiss.extend(boxes.values().flatten().map(|one| format!("of no session: {one}")));
    amiss
}
