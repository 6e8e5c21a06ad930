//! What has to hold when nobody kills the server any more.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use streamspace_tests::api::Api;
use streamspace_tests::simulated::Simulated;

use crate::driver::{Driver, Held, LIMITED, Wished};
use crate::effects::Ledger;
use crate::stage::{Stage, keep_evidence};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Holds the users still, waits until everything is as they wish it, and tells how long that took.
pub(crate) async fn whole(
    stage: &Stage,
    driver: &Driver,
    ledger: &mut Ledger,
    limit: Duration,
) -> Result<Duration> {
    let began = Instant::now();
    let _pause = driver.pause().await;
    match settled(&stage.simulated, driver, ledger, limit).await? {
        Ok(()) => Ok(began.elapsed()),
        Err(amiss) => broken(&keep_evidence(&stage.simulated, Some(stage.data()))?, &amiss),
    }
}

/// Waits until everything is as users wish it who hold still; or what is amiss.
pub(crate) async fn settled(
    simulated: &Simulated,
    driver: &Driver,
    ledger: &mut Ledger,
    limit: Duration,
) -> Result<Result<(), Vec<String>>> {
    let held_still = Instant::now();
    let api = driver.api()?;
    let told = driver.told().await;
    loop {
        let mut amiss = driver.complaints().await;
        amiss.extend(ledger.read(&effects_after(simulated, ledger.len()).await));
        if !amiss.is_empty() {
            return Ok(Err(amiss));
        }
        let open = differences(&api, simulated, &told).await;
        if open.is_empty() {
            return Ok(Ok(()));
        }
        if held_still.elapsed() > limit {
            return Ok(Err(open));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is amiss, as an error.
pub(crate) fn broken<T>(kept: &Path, amiss: &[String]) -> Result<T> {
    let shown = amiss.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
    bail!("{} amiss (evidence in {}):\n  {shown}", amiss.len(), kept.display())
}

async fn effects_after(simulated: &Simulated, after: usize) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let page = simulated.get(&format!("/effects?after={}", after + all.len())).await;
        match page["effects"].as_array().map(Vec::as_slice).unwrap_or_default() {
            [] => return all,
            more => all.extend_from_slice(more),
        }
    }
}

async fn differences(api: &Api, simulated: &Simulated, told: &Wished) -> Vec<String> {
    match api.all_sessions().await {
        Ok(sessions) => compare(&sessions, &simulated.boxes().await, told),
        Err(error) => vec![format!("the sessions cannot be listed: {error:#}")],
    }
}

/// What is not as it is wished, or is there although nobody wishes it.
fn compare(sessions: &[Value], boxes: &[Value], told: &Wished) -> Vec<String> {
    let mut amiss = Vec::new();
    let mut boxes_of: HashMap<&str, Vec<&Value>> = HashMap::new();
    for one in boxes {
        let session = one["labels"]["streamspace.session_id"].as_str().unwrap_or_default();
        boxes_of.entry(session).or_default().push(one);
    }
    let mut sessions: HashMap<&str, &Value> =
        sessions.iter().filter_map(|session| Some((session["id"].as_str()?, session))).collect();
    for Held { id, state } in &told.held {
        let Some(session) = sessions.remove(id.as_str()) else {
            amiss.push(format!("lost: the session {id}, wished {state}"));
            continue;
        };
        let state = match *state {
            LIMITED if session["state"] == "terminated" => "terminated",
            LIMITED => "running",
            state => state,
        };
        let (phase, found) = match state {
            "running" => ("Running", Some("running")),
            "hibernated" => ("Hibernated", Some("stopped")),
            _ => ("Terminated", None),
        };
        let boxes = boxes_of.remove(id.as_str()).unwrap_or_default();
        let states: Vec<_> = boxes.iter().filter_map(|one| one["state"].as_str()).collect();
        let settled = session["status"]["operation"].is_null()
            && session["status"]["observed_generation"] == session["generation"];
        if session["state"] != state || session["phase"] != phase || !settled {
            amiss.push(format!("not as wished ({state}): {session}"));
        } else if states != found.into_iter().collect::<Vec<_>>() {
            amiss.push(format!("its boxes are {states:?}: {session}"));
        }
    }
    for id in &told.strangers {
        let boxes = boxes_of.remove(id.as_str()).unwrap_or_default();
        let states: Vec<_> = boxes.iter().filter_map(|one| one["state"].as_str()).collect();
        if states != ["running"] {
            amiss.push(format!("to be left alone: the box of {id} is {states:?}"));
        }
    }
    amiss.extend(sessions.values().map(|session| format!("wished by nobody: {session}")));
    amiss.extend(boxes_of.values().flatten().map(|one| format!("of no session: {one}")));
    amiss
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session(id: &str, state: &str, phase: &str) -> Value {
        let status = json!({"operation": null, "observed_generation": 2});
        json!({"id": id, "state": state, "phase": phase, "generation": 2, "status": status})
    }

    fn held(id: &str, state: &'static str) -> Held {
        Held { id: id.to_owned(), state }
    }

    fn told(held: &[Held]) -> Wished {
        Wished { held: held.to_vec(), strangers: Vec::new() }
    }

    fn a_box(session: &str, state: &str) -> Value {
        json!({"labels": {"streamspace.session_id": session}, "state": state})
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let wished = [held("a", "running"), held("b", "hibernated"), held("c", "terminated")];
        let sessions = [
            session("a", "running", "Running"),
            session("b", "hibernated", "Hibernated"),
            session("c", "terminated", "Terminated"),
        ];
        let boxes = [a_box("a", "running"), a_box("b", "stopped")];
        assert_eq!(compare(&sessions, &boxes, &told(&wished)), Vec::<String>::new());

        let one = |sessions: &[Value], boxes: &[Value], wished: &[Held], what: &str| {
            let amiss = compare(sessions, boxes, &told(wished));
            assert!(amiss.len() == 1 && amiss[0].starts_with(what), "{what}: {amiss:?}");
        };
        one(&sessions[..2], &boxes, &wished, "lost");
        one(&sessions, &boxes, &wished[..2], "wished by nobody");
        one(&sessions, &boxes[..1], &wished, "its boxes are []");
        one(&sessions, &[boxes.as_slice(), &[a_box("a", "running")]].concat(), &wished, "its boxes are [");
        one(&sessions, &[boxes.as_slice(), &[a_box("x", "running")]].concat(), &wished, "of no session");
        one(&sessions, &[boxes.as_slice(), &[a_box("c", "running")]].concat(), &wished, "its boxes are [");
        one(&sessions, &[a_box("a", "running"), a_box("b", "running")], &wished, "its boxes are [");
        let mut open = sessions.clone();
        open[0]["status"]["operation"] = json!({"kind": "create"});
        one(&open, &boxes, &wished, "not as wished");
        open[0] = session("a", "hibernated", "Running");
        one(&open, &boxes, &wished, "not as wished");
    }

    #[test]
    fn what_is_limited_runs_or_is_terminated_and_what_is_ignored_stays() {
        let limited = [held("a", LIMITED)];
        let running = [session("a", "running", "Running")];
        let terminated = [session("a", "terminated", "Terminated")];
        let its_box = [a_box("a", "running")];
        assert_eq!(compare(&running, &its_box, &told(&limited)), Vec::<String>::new());
        assert_eq!(compare(&terminated, &[], &told(&limited)), Vec::<String>::new());
        assert_eq!(compare(&running, &[], &told(&limited)).len(), 1);
        assert_eq!(compare(&terminated, &its_box, &told(&limited)).len(), 1);
        assert_eq!(compare(&[session("a", "hibernated", "Hibernated")], &[], &told(&limited)).len(), 1);

        let strangers = Wished { held: Vec::new(), strangers: vec!["x".to_owned()] };
        assert_eq!(compare(&[], &[a_box("x", "running")], &strangers), Vec::<String>::new());
        for boxes in [vec![], vec![a_box("x", "stopped")], vec![a_box("x", "running"), a_box("x", "running")]]
        {
            assert_eq!(compare(&[], &boxes, &strangers).len(), 1, "{boxes:?}");
        }
    }
}
