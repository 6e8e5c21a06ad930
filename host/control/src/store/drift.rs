//! What is stored of objects that no session explains.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::SessionRecord;
use crate::domain::{
    ControllerId, Drift, DriftAlarm, DriftId, DriftObject, DriftReason, DriftState, Operation, Session,
};

/// An object that a listing shows and no session explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftSighting {
    /// What is seen of it.
    pub object: DriftObject,
    /// Why no session explains it.
    pub reason: DriftReason,
}

/// What a complete listing says of such objects.
#[derive(Debug, Clone, Default)]
pub struct DriftReport {
    /// What is new, or is to be seen anew.
    pub seen: Vec<DriftSighting>,
    /// Entries whose objects are not there any more.
    pub gone: Vec<DriftId>,
    /// Ids of deleted sessions whose objects are still there: they are not forgotten.
    pub buried: Vec<String>,
    /// Why the listing is not believed.
    pub alarm: Option<DriftAlarm>,
}

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct DriftFilter {
    /// On this controller.
    pub controller_id: Option<String>,
    /// In this state.
    pub state: Option<DriftState>,
    /// For this reason.
    pub reason: Option<DriftReason>,
    /// Of this user, as the backend says.
    pub user_id: Option<String>,
}

/// A controller whose last listing is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaisedAlarm {
    /// The controller.
    pub controller_id: ControllerId,
    /// Why.
    pub alarm: DriftAlarm,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// What an operator says about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftOrder {
    /// It stays as it is.
    Ignore,
    /// It goes, and whatever comes back under its id goes as well, for as long as that is remembered.
    Delete {
        /// How long that is.
        keep_tombstone: Duration,
    },
}

/// What became of a [`DriftOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriftOrdered {
    /// It is stored.
    Stored(Box<Drift>),
    /// It is being removed already.
    Deleting,
    /// The controller did not make it.
    Foreign,
    /// There is no such entry.
    NoSuchEntry,
}

/// A session for an object that is there.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The entry of the object.
    pub drift_id: DriftId,
    /// The session, placed on the object's controller.
    pub session: Session,
    /// Its operation, at rest.
    pub operation: Operation,
}

/// What became of an [`Adoption`].
#[derive(Debug)]
pub enum Adopted {
    /// It is stored.
    Stored(Box<SessionRecord>),
    /// The object is being removed.
    Deleting,
    /// There is a session of this id.
    IdTaken,
    /// There is no such entry.
    NoSuchEntry,
}
