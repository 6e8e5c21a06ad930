//! What a box means as a session.

use streamspace_sdk::{
    Condition, ConditionStatus, Error, ErrorExt as _, ErrorKind, Outcome, Ownership, Phase, Progress, Result,
    SessionEntry, SessionState, handle,
};

use crate::api::{Box, JobKind, State};
use crate::names;

/// Milliseconds between two looks at work that goes on.
const POLL_MS: u32 = 200;

/// Version of the handles that this plugin writes. `handles/` has those of this version and of others.
const HANDLE_VERSION: u32 = 1;

/// All that the next step is told. There is nothing to remember: every step looks first, and reads no handle.
const HANDLE: &str = "look";

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
    let mut conditions = vec![Condition::new("Ready", status, reason, message)];
    let unenforced = found.label(names::UNENFORCED);
    if !unenforced.is_empty() {
        conditions.push(Condition::limits_not_enforced(&unenforced.split(',').collect::<Vec<_>>()));
    }
    let node_id = Some(format!("{}/{}", found.name, found.uid));
    SessionState { node_id, conditions, ..SessionState::new(found.session(), phase) }
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
pub(crate) fn in_progress(found: &Box) -> Result<Outcome> {
    let conditions = state(found).conditions;
    let message = conditions.first().map(|ready| ready.message.clone()).unwrap_or_default();
    let progress = Progress::new(handle::write(HANDLE_VERSION, HANDLE)?, POLL_MS, message);
    Ok(Outcome::InProgress(Progress { conditions, ..progress }))
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
    fn a_size_that_cannot_be_enforced_is_told() {
        assert_eq!(state(&found(State::Running)).conditions.len(), 1);
        let mut asked = found(State::Running);
        asked.labels.insert(names::UNENFORCED.to_owned(), "spec.home_size,spec.resources.storage".to_owned());
        let told = &state(&asked).conditions[1];
        assert_eq!((told.kind.as_str(), told.status), ("LimitsEnforced", ConditionStatus::No));
        assert!(told.message.ends_with("spec.home_size, spec.resources.storage"), "{}", told.message);
    }

    #[test]
    fn handles_are_those_of_this_version() {
        let Ok(Outcome::InProgress(progress)) = in_progress(&found(State::Creating)) else { panic!() };
        assert_eq!(progress.handle, include_bytes!("../handles/1/create-look"));
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
