//! Identifiers and counters, each its own type so that one cannot stand in for another.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The longest identifier that a caller may give, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 512;

/// A text that is no identifier of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct InvalidId(&'static str);

/// Names a session: a UUID of version 7, so that the order of ids is the order of creation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "uuid", example = "01a20687-5eea-7559-98ca-252a802ce8d6")]
pub struct SessionId(String);

impl SessionId {
    /// A new id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// Reads an id in its one canonical form (lower case, hyphens).
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        match Uuid::try_parse(text) {
            Ok(uuid) if uuid.to_string() == text => Ok(Self(text.to_owned())),
            _ => Err(InvalidId("session id")),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a registered controller, for ever: `ctrl-` and twelve hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = "ctrl-50ee66fc6151")]
pub struct ControllerId(String);

impl ControllerId {
    /// A new id.
    pub fn generate() -> Self {
        let random = Uuid::new_v4().simple().to_string();
        // The first twelve digits of a version 4 UUID are all random.
        Self(format!("ctrl-{}", random.get(..12).unwrap_or(&random)))
    }

    /// Takes any text of a legal length: whether such a controller exists is another question.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() || text.len() > MAX_ID_BYTES {
            return Err(InvalidId("controller id"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one operation; it stays the same over all retries of that operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationId(String);

impl OperationId {
    /// A new id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string())
    }

    /// An id that came out of the store.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the operation began, to the millisecond: the id carries it.
    pub fn begun_at(&self) -> Option<DateTime<Utc>> {
        let (seconds, nanos) = Uuid::try_parse(&self.0).ok()?.get_timestamp()?.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The value as it goes over the wire.
            pub fn get(self) -> u64 {
                self.0
            }

            /// The next higher value.
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The value as databases keep it. No counter of a real installation comes near the limit.
            pub fn to_db(self) -> i64 {
                i64::try_from(self.0).unwrap_or(i64::MAX)
            }

            /// A value that came out of the store.
            pub fn from_db(value: i64) -> Self {
                Self(u64::try_from(value).unwrap_or(0))
            }
        }
    };
}

counter!(
    /// Counts the changes of a session's wish.
    Generation
);
counter!(
    /// A fencing number: whoever takes over gets a higher one, and work under a lower one no longer counts. Every
    /// claim of a session's operation has one, kept by the store; and so has whoever drives a controller, which
    /// travels with the calls.
    Epoch
);

impl Generation {
    /// What a new session starts with.
    pub const FIRST: Self = Self(1);
}

impl Epoch {
    /// Before the first claim.
    pub const NONE: Self = Self(0);

    /// A value that came with a call.
    pub fn from_wire(value: u64) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_have_one_form() {
        let id = SessionId::generate();
        assert_eq!(SessionId::parse(id.as_str()), Ok(id.clone()));
        assert!(SessionId::parse(&id.as_str().to_uppercase()).is_err());
        assert!(SessionId::parse(&format!("{{{id}}}")).is_err());
        assert!(SessionId::parse("").is_err());
    }

    #[test]
    fn an_operation_knows_when_it_began() {
        let before = Utc::now();
        let begun = OperationId::generate().begun_at().unwrap();
        assert!((begun - before).num_seconds().abs() < 5);
        assert_eq!(OperationId::stored("odd".into()).begun_at(), None);
    }

    #[test]
    fn controller_ids_are_short_and_unique() {
        let one = ControllerId::generate();
        assert_eq!(one.as_str().len(), "ctrl-".len() + 12);
        assert_ne!(one, ControllerId::generate());
    }
}
