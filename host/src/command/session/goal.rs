//! Waiting for a session.

use std::time::{Duration, Instant};

use serde_json::Value;
use streamspace_control::GoDuration;

use super::model::Session;
use crate::client::{Client, ClientError};
use crate::print::note;
use crate::progress::Progress;

/// The first pause between two looks; it grows to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Reads how long to wait.
pub(super) fn patience(text: &str) -> Result<Duration, String> {
    GoDuration::parse(text).map(|duration| duration.length()).map_err(|error| error.to_string())
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Running,
    Hibernated,
    Gone,
}

impl Goal {
    /// What a session is wanted to be; none, where nothing is there to be waited for.
    pub(super) fn of(session: &Value) -> Option<Self> {
        match session["state"].as_str() {
            _ if session["deleting"] == true => Some(Self::Gone),
            Some("running") => Some(Self::Running),
            Some("hibernated") => Some(Self::Hibernated),
            _ => None,
        }
    }

    pub(super) fn state(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Hibernated => "hibernated",
            Self::Gone => "gone",
        }
    }

    /// Whether the waiting for a session as it is now has come to an end.
    fn ended(self, session: &Session) -> Option<Ended> {
        if self == Self::Gone {
            return (!session.deleting).then_some(Ended::Otherwise);
        }
        if session.deleting || session.state != self.state() {
            return Some(Ended::Otherwise);
        }
        match (session.phase.as_str(), self) {
            // Something is being done about it still.
            _ if session.status.operation.is_some() => None,
            ("Running", Self::Running) | ("Hibernated", Self::Hibernated) => Some(Ended::Reached),
            ("Failed", _) => Some(Ended::Failed),
            _ => None,
        }
    }
}

/// How the waiting came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Reached,
    /// Nothing is tried any more.
    Failed,
    /// Somebody wants it otherwise.
    Otherwise,
    TimeIsOver,
    Interrupted,
}

/// What is left to tell after the waiting.
pub(super) struct Waited {
    /// The session as it was last seen; none once it is gone.
    pub(super) session: Option<Value>,
    /// 0 when the goal was reached.
    pub(super) exit_code: u8,
}

/// Waits until a session is as wanted, tells how far it is meanwhile, and says so if it does not come to that.
/// A server that is away for a while ends nothing.
pub(super) async fn wait(
    client: &Client,
    id: &str,
    goal: Goal,
    patience: Duration,
    silent: bool,
) -> anyhow::Result<Waited> {
    let mut progress = Progress::new(silent);
    let mut seen = None;
    let watching = watch(client, id, goal, patience, &mut progress, &mut seen);
    let ended = tokio::select! {
        ended = watching => ended?,
        _ = tokio::signal::ctrl_c() => Ended::Interrupted,
    };
    drop(progress);

    let session = seen.as_ref().map(|seen| client.typed::<Session>(seen)).transpose()?;
    let (phase, why) = session
        .as_ref()
        .map_or(("unknown", String::new()), |session| (session.phase.as_str(), session.why()));
    let because = if why.is_empty() { String::new() } else { format!(": {why}") };
    let show = format!("`streamspace session get {id}` shows how far it is");
    let (exit_code, message) = match ended {
        Ended::Reached => return Ok(Waited { session: seen, exit_code: 0 }),
        Ended::Failed => (1, format!("session {id} failed{because}")),
        Ended::Otherwise if session.is_none() => (1, format!("session {id} was removed meanwhile")),
        Ended::Otherwise => (1, format!("session {id} is wanted otherwise meanwhile")),
        Ended::TimeIsOver => {
            let (state, seconds) = (goal.state(), patience.as_secs_f32());
            let is = format!("session {id} is not {state} after {seconds} s (phase {phase}{because})");
            (6, format!("{is}; it goes on: {show}"))
        }
        Ended::Interrupted => (
            130,
            format!(
                "interrupted: session {id} stays as it is (phase {phase}) and goes on: {show}, \
                 `streamspace session rm {id}` removes it"
            ),
        ),
    };
    note(&format!("streamspace: {}", crate::print::harmless(&message)));
    Ok(Waited { session: seen, exit_code })
}

/// Looks again and again, and keeps what was last seen.
async fn watch(
    client: &Client,
    id: &str,
    goal: Goal,
    patience: Duration,
    progress: &mut Progress,
    seen: &mut Option<Value>,
) -> anyhow::Result<Ended> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        // A server that takes its time does not make the waiting longer.
        let left = patience.saturating_sub(begun.elapsed());
        let path = ["sessions", id];
        let Ok(looked) = tokio::time::timeout(left, client.get(&path)).await else {
            return Ok(Ended::TimeIsOver);
        };
        match looked {
            Ok(answer) => {
                let session: Session = client.typed(&answer)?;
                *seen = Some(answer);
                if let Some(ended) = goal.ended(&session) {
                    return Ok(ended);
                }
                let state = if session.deleting { "Deleting" } else { session.phase.as_str() };
                progress.show(state, &session.why());
            }
            Err(error @ ClientError::Refused { .. }) if error.exit_code() == 3 => {
                *seen = None;
                return Ok(if goal == Goal::Gone { Ended::Reached } else { Ended::Otherwise });
            }
            Err(error) if error.is_passing() => progress.show("trying again", &error.to_string()),
            Err(error) => return Err(error.into()),
        }
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(Ended::TimeIsOver);
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::client_of;

    fn ended(goal: Goal, state: &str, phase: &str, busy: bool, deleting: bool) -> Option<Ended> {
        let operation = if busy { json!({"kind": "create"}) } else { Value::Null };
        let session = json!({
            "id": "1", "user_id": "a", "state": state, "phase": phase, "deleting": deleting,
            "status": {"conditions": [], "operation": operation}, "created_at": "2026-01-01T00:00:00Z",
        });
        goal.ended(&serde_json::from_value(session).unwrap())
    }

    #[test]
    fn waiting_ends_when_nothing_better_comes() {
        let table = [
            (Goal::Running, "running", "Pending", true, false, None),
            (Goal::Running, "running", "Pending", false, false, None),
            // The phase is of the wish before.
            (Goal::Running, "running", "Running", true, false, None),
            (Goal::Running, "running", "Running", false, false, Some(Ended::Reached)),
            (Goal::Running, "running", "Failed", true, false, None),
            (Goal::Running, "running", "Failed", false, false, Some(Ended::Failed)),
            (Goal::Running, "hibernated", "Hibernated", false, false, Some(Ended::Otherwise)),
            (Goal::Running, "running", "Running", false, true, Some(Ended::Otherwise)),
            (Goal::Hibernated, "hibernated", "Running", true, false, None),
            (Goal::Hibernated, "hibernated", "Hibernated", false, false, Some(Ended::Reached)),
            (Goal::Gone, "running", "Running", true, true, None),
            (Goal::Gone, "running", "Failed", false, true, None),
        ];
        for (goal, state, phase, busy, deleting, expected) in table {
            let found = ended(goal, state, phase, busy, deleting);
            assert_eq!(found, expected, "{goal:?}: {state} {phase} {busy} {deleting}");
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_its_time_does_not_make_the_waiting_longer() {
        let router = axum::Router::new().fallback(std::future::pending::<()>);
        let client = client_of(router).await;
        let begun = Instant::now();
        let waited = wait(&client, "1", Goal::Running, Duration::from_millis(300), true).await.unwrap();
        assert_eq!((waited.session, waited.exit_code), (None, 6));
        // A single request may take half a minute.
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_session_says_what_it_is_wanted_to_be() {
        for (state, deleting, goal) in [
            ("running", false, Some(Goal::Running)),
            ("hibernated", false, Some(Goal::Hibernated)),
            ("terminated", false, None),
            ("running", true, Some(Goal::Gone)),
        ] {
            assert_eq!(
                Goal::of(&json!({ "state": state, "deleting": deleting })),
                goal,
                "{state} {deleting}"
            );
        }
    }

    #[test]
    fn patience_is_a_length_of_time() {
        assert_eq!(patience("1m30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "5", "0s", "-1m", "soon"] {
            assert!(patience(bad).is_err(), "{bad}");
        }
    }
}
