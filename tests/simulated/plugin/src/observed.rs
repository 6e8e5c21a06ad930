//! What a box means as a session.

use streamspace_sdk::{
    Condition, ConditionStatus, Error, ErrorExt as _, ErrorKind, Outcome, Ownership, Phase, Progress, Result,
    SessionEntry, SessionState,
};

use crate::api::{Box, JobKind, State};
use crate::names;

/// Milliseconds between two looks at work that goes on.
const POLL_MS: u32 = 200;

/// A box as an entry of a listing.
pub(crate) fn entry(found: &Box) -> SessionEntry {
    SessionEntry {
        state: state(found),
        user_id: found.label(names::USER).to_owned(),
        spec_hash: found.label(names::SPEC_HASH).to_owned(),
        spec: None,
        wish: None,
        ownership: Ownership::Owned,
        external_ref: None,
        epoch: found.label(names::EPOCH).parse().unwrap_or_default(),
        created_at_ms: Some(found.made_at_ms),
        ext: Vec::new(),
    }
}

/// A box as a session's state.
pub(crate) fn state(found: &Box) -> SessionState {
    let (phase, ready, reason, message) = explain(found);
    let status = if ready { ConditionStatus::Yes } else { ConditionStatus::No };
    let condition = Condition {
        kind: "Ready".to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    SessionState {
        session_id: found.session().to_owned(),
        node_id: Some(format!("{}/{}", found.name, found.uid)),
        phase,
        conditions: vec![condition],
        last_activity_ms: None,
        usage: None,
        ext: Vec::new(),
    }
}

/// Phase, readiness, and why.
fn explain(found: &Box) -> (Phase, bool, &'static str, &str) {
    match (found.state, found.under_way()) {
        (State::Creating, _) => (Phase::Pending, false, "Creating", "the box is being made"),
        (State::Deleting, _) => (Phase::Pending, false, "Removing", "the box is being removed"),
        (State::Stopped | State::Failed, Some(JobKind::Start)) => {
            (Phase::Pending, false, "Starting", "the box is being started")
        }
        (State::Running, Some(JobKind::Stop)) => {
            (Phase::Running, false, "Stopping", "the box is being stopped")
        }
        (State::Running, _) => (Phase::Running, true, "Running", ""),
        (State::Failed, _) => (Phase::Failed, false, "Failed", &found.reason),
        (State::Stopped, _) if found.starts == 0 => {
            (Phase::Pending, false, "NotStarted", "the box is made and was never started")
        }
        (State::Stopped, _) => (Phase::Hibernated, false, "Stopped", "the box is stopped"),
    }
}

/// Work that goes on at a box.
pub(crate) fn in_progress(found: &Box) -> Outcome {
    let state = state(found);
    let message = state.conditions.first().map(|ready| ready.message.clone()).unwrap_or_default();
    Outcome::InProgress(Progress {
        // There is nothing to remember: every step looks first.
        handle: b"look".to_vec(),
        poll_after_ms: POLL_MS,
        message,
        conditions: state.conditions,
        ext: Vec::new(),
    })
}

/// That nothing is left of a session.
pub(crate) fn terminated(session: &str) -> SessionState {
    SessionState {
        session_id: session.to_owned(),
        node_id: None,
        phase: Phase::Terminated,
        conditions: Vec::new(),
        last_activity_ms: None,
        usage: None,
        ext: Vec::new(),
    }
}

/// Refuses a caller who has been replaced: somebody with a higher epoch has changed the box already.
pub(crate) fn fence(found: &Box, epoch: u64) -> Result<()> {
    if epoch == 0 || epoch >= found.epoch {
        return Ok(());
    }
    let message = format!("the box was changed in epoch {}, this call is of epoch {epoch}", found.epoch);
    Err(Error::new(ErrorKind::StaleEpoch, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Job;
    use crate::api::tests::found;

    #[test]
    fn every_state_has_a_phase_and_a_reason() {
        let job = |state, kind| Box { job: Some(Job { kind }), ..found(state) };
        for (found, phase, reason) in [
            (found(State::Creating), Phase::Pending, "Creating"),
            (found(State::Running), Phase::Running, "Running"),
            (found(State::Stopped), Phase::Hibernated, "Stopped"),
            (Box { starts: 0, ..found(State::Stopped) }, Phase::Pending, "NotStarted"),
            (found(State::Failed), Phase::Failed, "Failed"),
            (found(State::Deleting), Phase::Pending, "Removing"),
            (job(State::Stopped, JobKind::Start), Phase::Pending, "Starting"),
            (job(State::Running, JobKind::Stop), Phase::Running, "Stopping"),
        ] {
            let seen = state(&found);
            assert_eq!((seen.phase, seen.conditions[0].reason.as_str()), (phase, reason));
            assert_eq!(seen.conditions[0].status == ConditionStatus::Yes, reason == "Running");
        }
    }

    #[test]
    fn marks_carry_over_to_the_entry() {
        let entry = entry(&found(State::Running));
        let marks = (entry.state.session_id.as_str(), entry.user_id.as_str(), entry.spec_hash.as_str());
        assert_eq!(marks, ("s1", "alice", "h1"));
        assert_eq!((entry.epoch, entry.state.node_id.as_deref()), (7, Some("ss-s1/1")));
    }

    #[test]
    fn who_was_replaced_is_refused() {
        let found = found(State::Running);
        for allowed in [0, 7, 8] {
            fence(&found, allowed).unwrap();
        }
        assert_eq!(fence(&found, 6).unwrap_err().kind, ErrorKind::StaleEpoch);
    }
}
