//! Answers of a controller, in the words of the domain.

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use streamspace_proto::controller::v1 as proto;

use super::call::CallError;
use crate::domain::{Condition, ConditionStatus, Phase, condition_type, now};

/// The contract's limit for a handle, in bytes.
const LARGEST_HANDLE: usize = 64 * 1024;
/// The backend's names are cut there.
const LONGEST_NODE_ID: usize = 1024;
/// More conditions than that from a backend are dropped.
const MOST_CONDITIONS: usize = 32;
/// A controller may not ask to be asked again sooner …
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// … or later than that.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a controller answered to a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// To be called again with the handle.
    InProgress(Progress),
    /// Done, or taken over: this is how the session stands.
    Stands(Observation),
    /// Nothing of the session is left.
    Gone,
    /// A deletion that did not get there yet.
    NotGone(String),
}

/// Work that goes on. Texts are as they came, like those of an [`Observation`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    /// What the controller wants back.
    pub(crate) handle: Vec<u8>,
    /// How far it is.
    pub(crate) message: String,
    /// When to go on, within sensible limits; absent = as the caller likes.
    pub(crate) poll_after: Option<Duration>,
    /// What goes on, for machines, if it says so.
    pub(crate) conditions: Option<Vec<Condition>>,
}

/// How a session stands at its backend. Texts are as they came: secrets have to be taken out before anything else
/// happens to them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// The phase.
    pub(crate) phase: Phase,
    /// The backend's name of the object, if it said one.
    pub(crate) node_id: Option<String>,
    /// The backend's own conditions, if it reports any in this answer.
    pub(crate) conditions: Option<Vec<Condition>>,
    /// The backend's own words, if there are any besides those in its conditions.
    pub(crate) message: String,
    /// The last sign of a user, if the backend knows of one.
    pub(crate) last_activity: Option<DateTime<Utc>>,
}

/// Whether a session can be used, and why not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Readiness {
    pub(crate) status: ConditionStatus,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Reply {
    fn progress(
        handle: Vec<u8>,
        message: String,
        poll_after: Option<prost_types::Duration>,
        said: Vec<proto::Condition>,
    ) -> Result<Self, CallError> {
        if handle.len() > LARGEST_HANDLE {
            return Err(CallError::unusable_reply(format!("a handle of {} bytes", handle.len())));
        }
        let conditions = (!said.is_empty()).then(|| conditions(said));
        Ok(Self::InProgress(Progress { handle, message, poll_after: poll_after.map(pause), conditions }))
    }

    pub(crate) fn created(answer: proto::CreateSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message, answer.poll_after, answer.conditions);
        }
        let said = conditions(answer.conditions);
        Ok(Self::Stands(Observation::answered(&answer.phase, answer.node_id, answer.message, said)?))
    }

    pub(crate) fn deleted(answer: proto::DeleteSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message, answer.poll_after, answer.conditions);
        }
        Ok(if answer.success { Self::Gone } else { Self::NotGone(answer.message) })
    }

    pub(crate) fn hibernated(answer: proto::HibernateSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message, answer.poll_after, answer.conditions);
        }
        let said = conditions(answer.conditions);
        Ok(Self::Stands(Observation::answered(&answer.phase, String::new(), answer.message, said)?))
    }

    pub(crate) fn woken(answer: proto::WakeSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message, answer.poll_after, answer.conditions);
        }
        let said = conditions(answer.conditions);
        Ok(Self::Stands(Observation::answered(&answer.phase, String::new(), answer.message, said)?))
    }
}

impl Observation {
    pub(crate) fn read(answer: proto::SessionStatusResponse) -> Result<Self, CallError> {
        let last_activity = answer.last_activity.and_then(time);
        let said = conditions(answer.conditions);
        let read = Self::answered(&answer.phase, answer.node_id, String::new(), said)?;
        Ok(Self { last_activity, ..read })
    }

    /// What was said replaces what was said before, also if it is nothing.
    fn answered(
        phase_text: &str,
        node: String,
        message: String,
        said: Vec<Condition>,
    ) -> Result<Self, CallError> {
        Ok(Self {
            phase: phase(phase_text)?,
            node_id: node_id(node),
            conditions: Some(said),
            message,
            last_activity: None,
        })
    }

    /// The backend's own word on whether the session can be used, if it said one.
    pub(crate) fn own_ready(&self) -> Option<&Condition> {
        self.conditions.as_ref()?.iter().find(|condition| condition.kind == condition_type::READY)
    }

    /// Ready is what runs, unless the backend denies it. Its reason and message are taken unless they belong to a
    /// status that contradicts.
    pub(crate) fn readiness(&self) -> Readiness {
        let own = self.own_ready();
        let denied = own.is_some_and(|own| own.status == ConditionStatus::False);
        let runs = self.phase == Phase::Running;
        let status = if runs && !denied { ConditionStatus::True } else { ConditionStatus::False };
        let own = own.filter(|own| own.status == status || own.status == ConditionStatus::Unknown);
        let reason = match own.map(|own| own.reason.as_str()).filter(|reason| !reason.is_empty()) {
            Some(reason) => reason,
            None if runs && denied => "NotReady",
            None => self.phase.as_str(),
        };
        let message = own.map_or(&self.message, |own| &own.message);
        Readiness { status, reason: reason.to_owned(), message: message.clone() }
    }
}

/// An absent phase is "not there yet"; an unknown word is not guessed at.
fn phase(text: &str) -> Result<Phase, CallError> {
    if text.is_empty() {
        return Ok(Phase::Pending);
    }
    Phase::parse(text).ok_or_else(|| CallError::unusable_reply(format!("unknown phase {text}")))
}

fn node_id(text: String) -> Option<String> {
    (!text.is_empty() && text.len() <= LONGEST_NODE_ID && !text.contains('\0')).then_some(text)
}

fn pause(asked: prost_types::Duration) -> Duration {
    // A negative one is no pause at all.
    Duration::try_from(asked).unwrap_or_default().clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// Nothing that happened is yet to come: a clock that is ahead must not make it last.
fn time(wire: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    let time = DateTime::from_timestamp(wire.seconds, u32::try_from(wire.nanos).unwrap_or(0))?;
    Some(time.trunc_subsecs(6).min(now()))
}

fn conditions(wire: Vec<proto::Condition>) -> Vec<Condition> {
    wire.into_iter().take(MOST_CONDITIONS).map(condition).collect()
}

fn condition(wire: proto::Condition) -> Condition {
    let since = wire.last_transition_time.and_then(time).unwrap_or_else(now);
    Condition {
        kind: wire.r#type,
        status: ConditionStatus::from_wire(&wire.status),
        reason: wire.reason,
        message: wire.message,
        since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_or_refused() {
        let pending = Reply::created(proto::CreateSessionResponse::default()).unwrap();
        assert!(matches!(pending, Reply::Stands(Observation { phase: Phase::Pending, .. })));
        let odd = proto::CreateSessionResponse { phase: "running".into(), ..Default::default() };
        assert!(Reply::created(odd).is_err());
        let huge = proto::CreateSessionResponse {
            in_progress: true,
            handle: vec![0; LARGEST_HANDLE + 1],
            ..Default::default()
        };
        assert!(Reply::created(huge).is_err());
    }

    #[test]
    fn ready_is_what_runs_and_is_not_denied() {
        let ready = |phase: Phase, status: &str, reason: &str| {
            let conditions = vec![proto::Condition {
                r#type: "Ready".into(),
                status: status.into(),
                reason: reason.into(),
                message: "why".into(),
                ..Default::default()
            }];
            let phase = phase.as_str().to_owned();
            let answer = proto::SessionStatusResponse { phase, conditions, ..Default::default() };
            let found = Observation::read(answer).unwrap().readiness();
            (found.status, found.reason, found.message)
        };
        let expect = |status, reason: &str, message: &str| (status, reason.to_owned(), message.to_owned());
        use ConditionStatus::{False, True};
        assert_eq!(ready(Phase::Running, "False", "Unhealthy"), expect(False, "Unhealthy", "why"));
        assert_eq!(ready(Phase::Running, "False", ""), expect(False, "NotReady", "why"));
        assert_eq!(ready(Phase::Running, "True", "Healthy"), expect(True, "Healthy", "why"));
        assert_eq!(ready(Phase::Running, "Unknown", ""), expect(True, "Running", "why"));
        assert_eq!(ready(Phase::Pending, "True", "Healthy"), expect(False, "Pending", ""));
        assert_eq!(ready(Phase::Failed, "False", "OutOfMemory"), expect(False, "OutOfMemory", "why"));
    }

    #[test]
    fn progress_says_when_to_go_on_within_limits() {
        for (seconds, nanos, pause) in [
            (0, 1, SHORTEST_PAUSE),
            (-5, 0, SHORTEST_PAUSE),
            (2, 500_000_000, Duration::from_millis(2500)),
            (i64::MAX, 0, LONGEST_PAUSE),
        ] {
            let answer = proto::WakeSessionResponse {
                in_progress: true,
                poll_after: Some(prost_types::Duration { seconds, nanos }),
                ..Default::default()
            };
            let Reply::InProgress(progress) = Reply::woken(answer).unwrap() else { panic!("no progress") };
            assert_eq!((progress.poll_after, progress.conditions), (Some(pause), None));
        }
    }

    #[test]
    fn activity_is_never_yet_to_come() {
        let seen = |seconds| {
            let last_activity = Some(prost_types::Timestamp { seconds, nanos: 0 });
            let answer = proto::SessionStatusResponse { last_activity, ..Default::default() };
            Observation::read(answer).unwrap().last_activity.unwrap()
        };
        assert_eq!(seen(1_700_000_000).timestamp(), 1_700_000_000);
        assert!(seen(now().timestamp() + 3600) <= now());
    }

    #[test]
    fn only_success_is_gone() {
        let answer = |success| proto::DeleteSessionResponse { success, ..Default::default() };
        assert_eq!(Reply::deleted(answer(true)).unwrap(), Reply::Gone);
        assert_eq!(Reply::deleted(answer(false)).unwrap(), Reply::NotGone(String::new()));
    }
}
