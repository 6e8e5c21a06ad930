//! Controllers: who runs sessions, and what they can do.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ControllerId, Ledger, Requirement};

/// What a controller says about itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The kind of backend: `docker`, `kubernetes`, `kvm`, …
    pub controller_type: String,
    /// Unique within its type.
    pub name: String,
    /// Where it serves; empty for one within this process.
    pub endpoint: String,
    /// What placement may choose by.
    pub labels: BTreeMap<String, String>,
}

/// The label by which controllers say that they share the homes of users: those with the same value do.
pub const HOME_STORAGE: &str = "stream.space/home-storage";

/// How a controller is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControllerStatus {
    /// It answers, and reaches its backend.
    Healthy,
    /// It answers, but something is wrong; or it has just stopped answering.
    Unhealthy,
    /// It does not answer.
    Offline,
}

impl ControllerStatus {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Offline => "offline",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Healthy, Self::Unhealthy, Self::Offline].into_iter().find(|status| status.as_str() == text)
    }
}

/// What a controller can do, as it last said itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Capabilities {
    /// Its own version.
    pub version: String,
    /// Sessions can be stopped and go on later.
    pub supports_hibernation: bool,
    /// Sessions can use a GPU.
    pub supports_gpu: bool,
    /// Homes can outlive their session.
    pub supports_persistent_storage: bool,
    /// Sessions have a network.
    pub supports_networking: bool,
    /// It reports changes of its backend by itself.
    pub supports_watch: bool,
    /// How much it has.
    pub capacity: Capacity,
    /// Labels it gives itself; those of its registration win.
    pub labels: BTreeMap<String, String>,
}

/// How much a controller has, in the backend's own quantities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Capacity {
    /// How many sessions it takes; 0 = no limit of its own.
    pub max_sessions: u32,
    /// All memory.
    pub total_memory: String,
    /// All processors.
    pub total_cpu: String,
    /// All storage.
    pub total_storage: String,
    /// Free memory.
    pub available_memory: String,
    /// Free processors.
    pub available_cpu: String,
    /// Free storage.
    pub available_storage: String,
}

impl Capacity {
    /// Whether it says how much is free.
    pub fn tells_available(&self) -> bool {
        let free = [&self.available_memory, &self.available_cpu, &self.available_storage];
        free.into_iter().any(|said| !said.is_empty())
    }
}

/// A controller as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its name, for ever.
    pub id: ControllerId,
    /// The kind of backend.
    pub controller_type: String,
    /// Unique within its type.
    pub name: String,
    /// Where it serves; empty for one within a server, and for one that connects by itself.
    pub endpoint: String,
    /// It runs in processes of its own, which register.
    pub remote: bool,
    /// How it is doing.
    pub status: ControllerStatus,
    /// Why it is not healthy.
    pub message: String,
    /// What it can do; absent until it first said so.
    pub capabilities: Option<Capabilities>,
    /// The labels of its registration.
    pub labels: BTreeMap<String, String>,
    /// Labels that an operator gave it; they win over all others.
    pub operator_labels: BTreeMap<String, String>,
    /// It gets no new sessions.
    pub draining: bool,
    /// How many sessions are placed on it.
    pub sessions: u32,
    /// What it has, and what of it is given to sessions.
    pub ledger: Ledger,
    /// Grows with every session that is placed on any controller, and was so much when it last got one.
    pub last_placed: u64,
    /// The place of the server that drives it; absent = none does.
    pub active_server: Option<String>,
    /// When it last answered.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// When it first registered.
    pub created_at: DateTime<Utc>,
    /// When its row last changed.
    pub updated_at: DateTime<Utc>,
}

impl Controller {
    /// The value of a label, wherever it comes from.
    pub fn label(&self, key: &str) -> Option<&str> {
        let own = self.capabilities.as_ref().and_then(|capabilities| capabilities.labels.get(key));
        self.operator_labels.get(key).or_else(|| self.labels.get(key)).or(own).map(String::as_str)
    }

    /// Whether it can do what is required.
    pub fn supports(&self, requirement: Requirement) -> bool {
        let Some(can) = &self.capabilities else { return false };
        match requirement {
            Requirement::Hibernation => can.supports_hibernation,
            Requirement::Gpu => can.supports_gpu,
            Requirement::PersistentStorage => can.supports_persistent_storage,
            Requirement::Networking => can.supports_networking,
        }
    }
}
