//! Answers of a controller, in the words of the domain.

use chrono::{DateTime, Utc};
use streamspace_proto::controller::v1 as proto;

use super::call::{CallError, shorten};
use crate::domain::{Condition, ConditionStatus, Phase, now};

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

/// How a session stands at its backend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// The phase.
    pub(crate) phase: Phase,
    /// The backend's name of the object, if it said one.
    pub(crate) node_id: Option<String>,
    /// The backend's own conditions, if it reports any in this answer.
    pub(crate) conditions: Option<Vec<Condition>>,
    /// The backend's own words.
    pub(crate) message: String,
}

impl Reply {
    fn progress(handle: Vec<u8>, mut message: String) -> Result<Self, CallError> {
        if handle.len() > LARGEST_HANDLE {
            return Err(CallError::unusable_reply(format!("a handle of {} bytes", handle.len())));
        }
        shorten(&mut message);
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
            message: cut(answer.message),
        }))
    }

    pub(crate) fn deleted(answer: proto::DeleteSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message);
        }
        Ok(if answer.success { Self::Gone } else { Self::NotGone(cut(answer.message)) })
    }

    pub(crate) fn hibernated(answer: proto::HibernateSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message);
        }
        let (phase, message) = (phase(&answer.phase)?, cut(answer.message));
        Ok(Self::Stands(Observation { phase, node_id: None, conditions: None, message }))
    }

    pub(crate) fn woken(answer: proto::WakeSessionResponse) -> Result<Self, CallError> {
        if answer.in_progress {
            return Self::progress(answer.handle, answer.message);
        }
        let (phase, message) = (phase(&answer.phase)?, cut(answer.message));
        Ok(Self::Stands(Observation { phase, node_id: None, conditions: None, message }))
    }
}

impl Observation {
    pub(crate) fn read(answer: proto::SessionStatusResponse) -> Result<Self, CallError> {
        let conditions: Vec<_> = answer.conditions.into_iter().take(MOST_CONDITIONS).map(condition).collect();
        let message = conditions
            .iter()
            .find(|condition| condition.kind == crate::domain::condition_type::READY)
            .map(|ready| ready.message.clone())
            .unwrap_or_default();
        Ok(Self {
            phase: phase(&answer.phase)?,
            node_id: node_id(answer.node_id),
            conditions: Some(conditions),
            message,
        })
    }
}

/// An absent phase is "not there yet"; an unknown word is not guessed at.
fn phase(text: &str) -> Result<Phase, CallError> {
    if text.is_empty() {
        return Ok(Phase::Pending);
    }
    Phase::parse(text).ok_or_else(|| CallError::unusable_reply(format!("unknown phase {text:?}")))
}

fn node_id(text: String) -> Option<String> {
    (!text.is_empty() && text.len() <= LONGEST_NODE_ID).then_some(text)
}

fn cut(mut text: String) -> String {
    shorten(&mut text);
    text
}

fn condition(wire: proto::Condition) -> Condition {
    let since = wire
        .last_transition_time
        .and_then(|time| {
            DateTime::<Utc>::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap_or(0))
        })
        .unwrap_or_else(now);
    Condition {
        kind: cut(wire.r#type),
        status: ConditionStatus::from_wire(&wire.status),
        reason: cut(wire.reason),
        message: cut(wire.message),
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
    fn only_success_is_gone() {
        let answer = |success| proto::DeleteSessionResponse { success, ..Default::default() };
        assert_eq!(Reply::deleted(answer(true)).unwrap(), Reply::Gone);
        assert_eq!(Reply::deleted(answer(false)).unwrap(), Reply::NotGone(String::new()));
    }
}
