//! Objects at a backend that no session explains.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ControllerId;

/// Names an entry of the drift list, for as long as its object is there: `drift-` and twelve hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "drift-50ee66fc6151")]
pub struct DriftId(String);

impl DriftId {
    /// A new id.
    pub fn generate() -> Self {
        let random = Uuid::new_v4().simple().to_string();
        Self(format!("drift-{}", random.get(..12).unwrap_or(&random)))
    }

    /// Takes any text: whether there is such an entry is another question.
    pub fn named(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DriftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names for the API and the store, and back.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            /// The name in the API and in the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads a name.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

/// Who made an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftOwnership {
    /// The controller.
    Owned,
    /// Somebody else, in a form that the controller could take over.
    Adoptable,
}

words!(DriftOwnership { Owned = "owned", Adoptable = "adoptable" });

/// Why no session explains an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftReason {
    /// There is no memory of a session of its id.
    UnknownSession,
    /// The session of its id is placed on another controller.
    OtherController,
    /// The session of its id was deleted, and so many such are back at once that nothing is removed unasked.
    DeletedSession,
}

words!(DriftReason {
    UnknownSession = "unknown_session",
    OtherController = "other_controller",
    DeletedSession = "deleted_session",
});

/// What is to become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftState {
    /// Nobody has decided.
    Found,
    /// It is to stay as it is, and nobody wants to be reminded.
    Ignored,
    /// It is being removed.
    Deleting,
}

words!(DriftState { Found = "found", Ignored = "ignored", Deleting = "deleting" });

/// What a listing shows of an object. Texts of the backend are shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftObject {
    /// The session id that it bears; may be empty if somebody else made it.
    pub session_id: String,
    /// The backend's name of what could be adopted.
    pub external_ref: String,
    /// Who made it.
    pub ownership: DriftOwnership,
    /// The backend's name of its main object.
    pub node_id: String,
    /// The phase, in the backend's word.
    pub phase: String,
    /// What the backend itself keeps as wanted, if it does.
    pub wish: String,
    /// Whose it is, if the backend knows.
    pub user_id: String,
}

impl DriftObject {
    /// What makes it one and the same in every listing of its controller.
    pub fn key(&self) -> String {
        if self.session_id.is_empty() {
            format!("ref {}", self.external_ref)
        } else {
            self.session_id.clone()
        }
    }
}

/// An entry of the drift list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Its name.
    pub id: DriftId,
    /// Where the object is.
    pub controller_id: ControllerId,
    /// What was last seen of it.
    pub object: DriftObject,
    /// Why no session explains it.
    pub reason: DriftReason,
    /// What is to become of it.
    pub state: DriftState,
    /// Why it is still there, if it was to be removed.
    pub message: String,
    /// When a listing first showed it.
    pub first_seen: DateTime<Utc>,
    /// When one last did, to the minute.
    pub last_seen: DateTime<Utc>,
}

/// What is so strange about a listing that nothing is removed because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftAlarmKind {
    /// Too many objects would be removed.
    Deletions,
    /// Too many sessions are missing.
    Losses,
}

words!(DriftAlarmKind { Deletions = "deletions", Losses = "losses" });

/// A listing that is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftAlarm {
    /// What is strange.
    pub kind: DriftAlarmKind,
    /// How many objects would be removed, or are missing.
    pub objects: usize,
    /// How many sessions are placed there.
    pub placed: usize,
}
