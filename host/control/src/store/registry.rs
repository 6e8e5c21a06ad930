//! Controllers that register from elsewhere.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{
    Capabilities, ControllerId, Epoch, InstanceRole, InstanceStatus, JoinToken, Place, Registration,
};

/// What became of a new join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinTokenCreated {
    /// It is stored.
    Stored(JoinToken),
    /// There are too many already.
    TooMany,
}

/// What a controller came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token that lets new ones in.
    Join(JoinToken),
    /// One that a controller got when it registered.
    Own(OwnToken),
}

/// A controller's own token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnToken {
    /// The controller that got it …
    pub controller_id: ControllerId,
    /// … and which of its processes.
    pub instance: String,
    /// Until when it is taken.
    pub expires_at: DateTime<Utc>,
    /// There is a newer one already.
    pub replaced: bool,
}

/// A process of a controller registers.
#[derive(Debug, Clone)]
pub struct Enrollment {
    /// The hash of the token that it came with.
    pub credential_hash: String,
    /// What it says of its controller.
    pub registration: Registration,
    /// What the controller can do, until it is asked.
    pub capabilities: Capabilities,
    /// Its name.
    pub instance: String,
    /// Certificates that its own comes from.
    pub ca: String,
    /// The hash of its new token.
    pub token_hash: String,
    /// How long the new token is taken. The one before it is taken as long as it would have been, until this one is used.
    pub token_life: Duration,
    /// How long it keeps its role without being heard of.
    pub lease: Duration,
    /// The request.
    pub request_id: Option<String>,
}

/// What became of an [`Enrollment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// It is stored.
    Registered(Registered),
    /// Nothing is stored.
    Refused(EnrollmentRefusal),
}

/// A registered process of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The controller.
    pub id: ControllerId,
    /// No call under a lower epoch may change anything.
    pub epoch: Epoch,
    /// Whether it is called.
    pub role: InstanceRole,
    /// Until when the new token is taken.
    pub token_expires_at: DateTime<Utc>,
}

/// Why a process of a controller may not register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrollmentRefusal {
    /// The token is not good, or not any more.
    Token,
    /// The join token is for another type or name.
    NotLetIn,
    /// The controller is known already, and the join token does not name it.
    Known,
    /// The token is another controller's.
    Another,
    /// The controller is part of a server.
    Embedded,
    /// The controller has too many processes.
    TooMany,
    /// The active process has the same name, is elsewhere, and may live.
    Elsewhere,
}

/// A process of a controller lives.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Its controller.
    pub id: ControllerId,
    /// Its name.
    pub instance: String,
    /// The hash of the token that it came with.
    pub token_hash: String,
    /// How long the token before that one is taken, once this one is used.
    pub token_overlap: Duration,
    /// How it does.
    pub status: InstanceStatus,
    /// How many sessions it has, if it says so.
    pub current_sessions: Option<u32>,
    /// Memory in use, in its own words.
    pub memory: String,
    /// Processors in use, in its own words.
    pub cpu: String,
    /// How long it keeps its role without being heard of.
    pub lease: Duration,
    /// The request.
    pub request_id: Option<String>,
}

/// What a heartbeat found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Whether it is called.
    pub role: InstanceRole,
    /// It was not before.
    pub activated: bool,
    /// No call under a lower epoch may change anything.
    pub epoch: Epoch,
    /// The controller gets no new sessions.
    pub draining: bool,
}

/// A remote controller, and where it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteController {
    /// The controller.
    pub id: ControllerId,
    /// Its type.
    pub controller_type: String,
    /// The epoch of whoever drives it.
    pub epoch: Epoch,
    /// The place of the server that drives it.
    pub active_server: Option<String>,
    /// The process that is called.
    pub place: Place,
}
