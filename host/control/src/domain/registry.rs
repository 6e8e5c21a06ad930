//! Controllers that run elsewhere: what lets them in, and the processes that serve them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControllerId;

/// The longest name of an instance, in characters.
pub const LONGEST_INSTANCE: usize = 64;

/// What lets controllers in that are not known yet, without its secret, of which there is only a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct JoinToken {
    /// What it is called in the API.
    pub id: String,
    /// For people.
    pub name: String,
    /// The one type of controllers that it lets in; absent = any.
    #[schema(required)]
    pub controller_type: Option<String>,
    /// The one name of controllers that it lets in; absent = any.
    #[schema(required)]
    pub controller_name: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it is taken.
    pub expires_at: DateTime<Utc>,
    /// When a controller last registered with it.
    #[schema(required)]
    pub last_used_at: Option<DateTime<Utc>>,
}

impl JoinToken {
    /// A new id: `join-` and twelve hexadecimal digits.
    pub fn new_id() -> String {
        format!("join-{}", hex::encode(rand::random::<[u8; 6]>()))
    }

    /// Whether it lets this controller in.
    pub fn lets_in(&self, controller_type: &str, name: &str) -> bool {
        self.controller_type.as_deref().is_none_or(|only| only == controller_type)
            && self.controller_name.as_deref().is_none_or(|only| only == name)
    }

    /// Whether it lets in one controller and no other.
    pub fn is_for_one(&self) -> bool {
        self.controller_type.is_some() && self.controller_name.is_some()
    }
}

/// Where a process of a controller is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The process; empty = the one and only.
    pub instance: String,
    /// Its address as it was registered; empty = it connects by itself.
    pub endpoint: String,
    /// Certificates in PEM that its own has to come from; empty = those that the system trusts.
    pub ca: String,
}

/// What a process of a controller says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceStatus {
    /// All is well.
    Healthy,
    /// Something is wrong.
    Unhealthy,
    /// It is about to end; another one is to go on.
    Draining,
}

impl InstanceStatus {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Healthy, Self::Unhealthy, Self::Draining].into_iter().find(|status| status.as_str() == text)
    }
}

/// What a process is to its controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceRole {
    /// It is called.
    Active,
    /// It waits until the active one is not heard of any more.
    Standby,
}

impl InstanceRole {
    /// Of whether it is the active one.
    pub fn of(active: bool) -> Self {
        if active { Self::Active } else { Self::Standby }
    }
}

/// A process of a remote controller, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Whose.
    pub controller_id: ControllerId,
    /// Its name; empty = the one and only.
    pub instance: String,
    /// Where it is called; empty = it connects by itself.
    pub endpoint: String,
    /// What it is.
    pub role: InstanceRole,
    /// What it last said of itself.
    pub status: InstanceStatus,
    /// How many sessions it said it has.
    pub current_sessions: Option<u32>,
    /// Memory in use, in its own words.
    pub memory: String,
    /// Processors in use, in its own words.
    pub cpu: String,
    /// Until then it keeps its role without being heard of.
    pub lease_until: DateTime<Utc>,
    /// When it last registered.
    pub registered_at: DateTime<Utc>,
    /// When it was last heard of.
    pub last_heartbeat: DateTime<Utc>,
}

/// The public half of the key that a server signs its calls with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKey {
    /// Names it.
    pub kid: String,
    /// The key, in base64url.
    pub public_key: String,
}

#[cfg(test)]
mod tests {
    use super::super::now;
    use super::*;

    #[test]
    fn a_join_token_lets_in_whom_it_names() {
        let token = |controller_type: Option<&str>, name: Option<&str>| JoinToken {
            id: JoinToken::new_id(),
            name: "t".into(),
            controller_type: controller_type.map(str::to_owned),
            controller_name: name.map(str::to_owned),
            created_by: "admin".into(),
            created_at: now(),
            expires_at: now(),
            last_used_at: None,
        };
        assert!(token(None, None).lets_in("docker", "a"));
        assert!(token(Some("docker"), None).lets_in("docker", "b"));
        assert!(!token(Some("docker"), None).lets_in("kvm", "b"));
        let one = token(Some("docker"), Some("a"));
        assert!(one.is_for_one() && one.lets_in("docker", "a") && !one.lets_in("docker", "b"));
        assert!(!token(None, Some("a")).is_for_one());
    }

    #[test]
    fn names_of_states_are_read_back() {
        for status in [InstanceStatus::Healthy, InstanceStatus::Unhealthy, InstanceStatus::Draining] {
            assert_eq!(InstanceStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(InstanceStatus::parse("fine"), None);
    }
}
