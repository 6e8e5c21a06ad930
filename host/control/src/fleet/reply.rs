//! Answers of a controller, in the words of the domain.

use chrono::{DateTime, Utc};
use streamspace_proto::controller::v1 as proto;

use super::call::CallError;
use crate::domain::{Condition, ConditionStatus, Phase, condition_type, now};

/// The contract's limit for a handle, in bytes.
const LARGEST_HANDLE: usize = 64 * 1024;
/// The backend's names are cut there.
const LONGEST_NODE_ID: usize = 1024;
/// More conditions than that from a backend are dropped.
const MOST_CONDITIONS: usize = 32;

/// What a controller answered to a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// To be called again with the handle.
    InProgress {
        /// What it wants back.
        handle: Vec<u8>,
        /// How far it is.
        message: String,
    },
    /// Done, or taken over: this is how the session stands.
    Stands(Observation),
    /// Nothing of the session is left.
    Gone,
    /// A deletion that did not get there yet.
    NotGone(String),
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
}

/// Whether a session can be used, and why not.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Readiness {
    pub(crate) status: ConditionStatus,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Reply {
    fn progress(handle: Vec<u8>, message: String) -> Result<Self, CallError> {
        if handle.len() > LARGEST_HANDLE {
            return Err(CallError::unusable_reply(format!("a handle of {} bytes", handle.len())));
        }
        Ok(Self::InProgress { handle, message })
    }

    pub(crate) fn created(answer: proto::CreateSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message);
        }
        Ok(Self::Stands(Observation {
            phase: phase(&answer.phase)?,
            node_id: node_id(answer.node_id),
            conditions: None,
            message: answer.message,
        }))
    }

    pub(crate) fn deleted(answer: proto::DeleteSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message);
        }
        Ok(if answer.success { Self::Gone } else { Self::NotGone(answer.message) })
    }

    pub(crate) fn hibernated(answer: proto::HibernateSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message);
        }
        let (phase, message) = (phase(&answer.phase)?, answer.message);
        Ok(Self::Stands(Observation { phase, node_id: None, conditions: None, message }))
    }

    pub(crate) fn woken(answer: proto::WakeSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message);
        }
        let (phase, message) = (phase(&answer.phase)?, answer.message);
        Ok(Self::Stands(Observation { phase, node_id: None, conditions: None, message }))
    }
}

impl Observation {
    pub(crate) fn read(answer: proto::SessionStatusResponse) -> Result<Self, CallError> {
        let conditions: Vec<_> = answer.conditions.into_iter().take(MOST_CONDITIONS).map(condition).collect();
        Ok(Self {
            phase: phase(&answer.phase)?,
            node_id: node_id(answer.node_id),
            conditions: Some(conditions),
            message: String::new(),
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
    (!text.is_empty() && text.len() <= LONGEST_NODE_ID).then_some(text)
}

fn condition(wire: proto::Condition) -> Condition {
    let since = wire
        .last_transition_time
        .and_then(|time| {
            DateTime::<Utc>::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or(0))
        })
        .unwrap_or_else(now);
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
    fn only_success_is_gone() {
        let answer = |success| proto::DeleteSessionResponse { success, ..Default::default() };
        assert_eq!(Reply::deleted(answer(true)).unwrap(), Reply::Gone);
        assert_eq!(Reply::deleted(answer(false)).unwrap(), Reply::NotGone(String::new()));
    }
}
