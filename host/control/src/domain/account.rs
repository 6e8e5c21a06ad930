//! Who may use the server, and with what.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// What somebody may do. The order is that of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Their own sessions.
    User,
    /// Everything about sessions, templates and controllers.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::User, Self::Operator, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }

    /// Reads what the store has. A role that is not known gets no rights beyond its own sessions.
    pub fn stored(text: &str) -> Self {
        Self::parse(text).unwrap_or(Self::User)
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// Their name for ever; sessions have it in `user_id`.
    pub id: String,
    /// What they call themselves.
    pub username: String,
    /// Unique, if it is known.
    #[schema(required)]
    pub email: Option<String>,
    /// For people.
    pub full_name: String,
    /// The most that their tokens can do.
    pub role: Role,
    /// Who vouches for them; `local` = this server.
    pub provider: String,
    /// Whether their tokens are taken.
    pub active: bool,
    /// When they were made known.
    pub created_at: DateTime<Utc>,
    /// When that last changed.
    pub updated_at: DateTime<Utc>,
}

/// A token, without its secret, of which there is only a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Token {
    /// What it is called in the API.
    pub id: String,
    /// For people.
    pub name: String,
    /// Who calls with it.
    pub user_id: String,
    /// The most that it can do; its user's role is a limit as well.
    pub role: Role,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it is taken; absent = for ever.
    #[schema(required)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to a few minutes.
    #[schema(required)]
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Token {
    /// A new id: `tok-` and twelve hexadecimal digits.
    pub fn new_id() -> String {
        format!("tok-{}", hex::encode(rand::random::<[u8; 6]>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_by_power() {
        assert!(Role::User < Role::Operator && Role::Operator < Role::Admin);
        assert_eq!(Role::stored("emperor"), Role::User);
        for role in [Role::User, Role::Operator, Role::Admin] {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
    }
}
