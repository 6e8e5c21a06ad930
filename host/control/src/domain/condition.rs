//! Conditions: why a session is as it is.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The condition types that the API server itself writes. All others come from the backend.
pub mod condition_type {
    /// A controller was found for the session.
    pub const SCHEDULED: &str = "Scheduled";
    /// The session can be used; if not, this says why.
    pub const READY: &str = "Ready";
    /// The session's controller, and through it the backend, answers.
    pub const CONTROLLER_REACHABLE: &str = "ControllerReachable";
    /// The backend has the session's object.
    pub const OBJECT_PRESENT: &str = "ObjectPresent";

    /// The backend was found other than it was left, by nobody's wish; the reason says how.
    pub const DRIFTED: &str = "Drifted";
    /// It is known what the session is made of. Said of adopted ones only, where it is not.
    pub const SPEC_KNOWN: &str = "SpecKnown";

    /// The session is moved to another controller.
    pub const MIGRATING: &str = "Migrating";

    /// A limit in time was reached and the session wished otherwise because of it; the reason says which.
    pub const POLICY_APPLIED: &str = "PolicyApplied";

    /// Whether the API server, and not the backend, writes this type.
    pub fn is_own(name: &str) -> bool {
        [
            SCHEDULED,
            READY,
            CONTROLLER_REACHABLE,
            OBJECT_PRESENT,
            DRIFTED,
            SPEC_KNOWN,
            MIGRATING,
            POLICY_APPLIED,
        ]
        .contains(&name)
    }
}

/// The state of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell at present.
    Unknown,
}

impl ConditionStatus {
    /// Reads what a controller sent; whatever is not a clear answer is unknown.
    pub fn from_wire(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// One statement about a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// What the statement is about, in CamelCase.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word for programs.
    pub reason: String,
    /// Why, in a sentence for people.
    pub message: String,
    /// Since when it has had this status.
    pub since: DateTime<Utc>,
}

/// All statements about a session, at most one of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// Sets one condition. `since` moves only when the status changes.
    pub fn set(&mut self, mut condition: Condition) {
        match self.0.iter_mut().find(|known| known.kind == condition.kind) {
            Some(known) => {
                if known.status == condition.status {
                    condition.since = known.since;
                }
                *known = condition;
            }
            None => self.0.push(condition),
        }
    }

    /// Replaces everything the backend said by what it says now; the API server's own conditions stay.
    pub fn replace_reported(&mut self, reported: Vec<Condition>) {
        self.0.retain(|known| {
            condition_type::is_own(&known.kind) || reported.iter().any(|new| new.kind == known.kind)
        });
        for condition in reported {
            if !condition_type::is_own(&condition.kind) {
                self.set(condition);
            }
        }
    }

    /// Whether a condition is known to hold.
    pub fn holds(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|known| known.status == ConditionStatus::True)
    }

    /// The condition of a type.
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.kind == kind)
    }

    /// All of them, in the order in which they first appeared.
    pub fn as_slice(&self) -> &[Condition] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: &str, status: ConditionStatus, second: i64) -> Condition {
        Condition {
            kind: kind.into(),
            status,
            reason: "R".into(),
            message: format!("at {second}"),
            since: DateTime::from_timestamp(second, 0).unwrap(),
        }
    }

    #[test]
    fn since_moves_with_the_status_only() {
        let mut conditions = Conditions::default();
        conditions.set(condition("Ready", ConditionStatus::False, 1));
        conditions.set(condition("Ready", ConditionStatus::False, 2));
        let ready = conditions.get("Ready").unwrap();
        assert_eq!((ready.since.timestamp(), ready.message.as_str()), (1, "at 2"));
        conditions.set(condition("Ready", ConditionStatus::True, 3));
        assert_eq!(conditions.get("Ready").unwrap().since.timestamp(), 3);
        assert_eq!(conditions.as_slice().len(), 1);
    }

    #[test]
    fn the_backend_cannot_write_our_conditions() {
        let mut conditions = Conditions::default();
        conditions.set(condition("Ready", ConditionStatus::False, 1));
        conditions.replace_reported(vec![
            condition("Ready", ConditionStatus::True, 2),
            condition("ImagePulled", ConditionStatus::True, 2),
        ]);
        assert_eq!(conditions.get("Ready").unwrap().status, ConditionStatus::False);
        assert!(conditions.get("ImagePulled").is_some());
        conditions.replace_reported(vec![]);
        assert!(conditions.get("ImagePulled").is_none());
        assert!(conditions.get("Ready").is_some());
    }
}
