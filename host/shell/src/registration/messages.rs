//! What a controller and an API server say to each other over REST.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use streamspace_call_auth::Jwks;
use streamspace_proto::span::GoDuration;
use streamspace_runtime::contract::plugin::{Health, Report};

/// Between two signs of life, where the server does not say.
const USUAL_INTERVAL: Duration = Duration::from_secs(30);

/// The version of these messages.
pub(super) const API_VERSION: &str = "v1alpha1";

/// Characters of a backend's version that are passed on.
const MOST_OF_A_VERSION: usize = 128;

/// The body of `POST /api/v1/controllers/register`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Registration {
    /// The kind of backend.
    #[serde(rename = "type")]
    pub controller_type: String,
    /// Unique within its type.
    pub name: String,
    /// Where it is called: `grpc://host:port` or `grpcs://host:port`; empty = it connects by itself.
    pub endpoint: String,
    /// What it can do, as far as it is known yet.
    pub capabilities: Capabilities,
    /// What placement may choose by.
    pub labels: BTreeMap<String, String>,
    /// This process, of several for one controller.
    pub instance: String,
    /// Who vouches for its certificate, in PEM; absent = somebody whom the server's system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// What a controller can do. The answers of its gRPC service win.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Version of the backend.
    pub version: String,
    /// Sessions can be stopped and go on later.
    pub supports_hibernation: bool,
    /// Sessions can use a GPU.
    pub supports_gpu: bool,
    /// Homes can outlive their session.
    pub supports_persistent_storage: bool,
    /// Ports of sessions can be reached.
    pub supports_networking: bool,
    /// It reports changes of its backend by itself.
    pub supports_watch: bool,
    /// How much it has.
    pub capacity: Capacity,
}

/// How much a controller has. What is absent is not known, or has no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// How many sessions it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// A quantity of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// A quantity of processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// A quantity of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}

impl From<&Report> for Capabilities {
    fn from(report: &Report) -> Self {
        let can = &report.capabilities;
        let has = &report.capacity;
        let version = report.backend_version.replace(char::is_control, " ");
        Self {
            version: version.chars().take(MOST_OF_A_VERSION).collect(),
            supports_hibernation: can.hibernation,
            supports_gpu: can.gpu,
            supports_persistent_storage: can.persistent_storage,
            supports_networking: can.networking,
            supports_watch: can.watch,
            capacity: Capacity {
                max_sessions: has.max_sessions,
                memory: has.total_memory_bytes.and_then(bytes),
                cpu: has.total_cpu_millis.and_then(millis),
                storage: has.total_storage_bytes.and_then(bytes),
            },
        }
    }
}

/// Nothing is no quantity.
fn bytes(value: u64) -> Option<String> {
    (value > 0).then(|| value.to_string())
}

fn millis(value: u64) -> Option<String> {
    (value > 0).then(|| format!("{value}m"))
}

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Registered {
    /// Which controller this is: the mark on all that it makes, and the audience of calls to it.
    pub controller_id: String,
    /// What it comes with from now on.
    pub auth_token: String,
    /// Until when that is taken.
    #[serde(default)]
    token_expires_at: Option<DateTime<Utc>>,
    /// The version of these messages.
    pub api_version: String,
    /// No call under a lower epoch may change anything.
    #[serde(default)]
    pub epoch: u64,
    /// How long to wait before the next sign of life, at most.
    #[serde(default)]
    heartbeat_interval: Option<GoDuration>,
    /// How long this process is the active one without being heard of, if it is.
    #[serde(default)]
    lease: Option<GoDuration>,
    /// What this process is to the controller.
    #[serde(default)]
    pub role: Role,
    /// Whose calls to take.
    pub keys: Jwks,
}

impl Registered {
    /// How long the token is taken, if the server says so.
    pub fn token_life(&self) -> Option<Duration> {
        Some((self.token_expires_at? - Utc::now()).to_std().unwrap_or_default())
    }

    /// How long to wait before the next sign of life, at most.
    pub fn interval(&self) -> Duration {
        self.heartbeat_interval.as_ref().map_or(USUAL_INTERVAL, GoDuration::length)
    }

    /// How long this process is the active one without being heard of.
    pub fn lease(&self) -> Duration {
        lease(self.lease.as_ref(), self.interval())
    }
}

/// Two signs of life may be lost: no server's lease is shorter than that.
fn lease(told: Option<&GoDuration>, interval: Duration) -> Duration {
    told.map_or(interval * 3, GoDuration::length)
}

/// What a process is to its controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It is called.
    #[default]
    Active,
    /// It waits until the active one is not heard of any more.
    Standby,
}

/// The body of `POST /api/v1/controllers/{id}/heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    /// How it is.
    pub status: InstanceStatus,
    /// Sessions that it has.
    pub current_sessions: u32,
    /// What is used of the backend, as far as it is known.
    pub resource_usage: ResourceUsage,
    /// This process, as it registered.
    pub instance: String,
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceStatus {
    /// It reaches its backend.
    Healthy,
    /// It does not.
    Unhealthy,
    /// It is about to end, and another process may take over.
    Draining,
}

/// What is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ResourceUsage {
    /// A quantity of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// A quantity of processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
}

impl Heartbeat {
    /// Of a process that saw its backend last like this; none = it did not see it.
    pub fn of(instance: &str, report: Option<&Report>) -> Self {
        let healthy = report.is_some_and(|report| report.health == Health::Healthy);
        Self {
            status: if healthy { InstanceStatus::Healthy } else { InstanceStatus::Unhealthy },
            current_sessions: report.map_or(0, |report| report.current_sessions),
            resource_usage: report.map(ResourceUsage::from).unwrap_or_default(),
            instance: instance.to_owned(),
        }
    }
}

impl From<&Report> for ResourceUsage {
    fn from(report: &Report) -> Self {
        let has = &report.capacity;
        let used = |all: Option<u64>, left: Option<u64>| Some(all?.saturating_sub(left?));
        Self {
            memory: used(has.total_memory_bytes, has.available_memory_bytes).and_then(bytes),
            cpu: used(has.total_cpu_millis, has.available_cpu_millis).and_then(millis),
        }
    }
}

/// The answer to a sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HeartbeatAnswer {
    /// What is wanted of the controller.
    #[serde(default)]
    pub state: WantedState,
    /// How long to wait before the next sign of life, at most.
    #[serde(default)]
    heartbeat_interval: Option<GoDuration>,
    /// How long this process is the active one without being heard of, if it is.
    #[serde(default)]
    lease: Option<GoDuration>,
    /// No call under a lower epoch may change anything.
    #[serde(default)]
    pub epoch: u64,
    /// What this process is to the controller.
    #[serde(default)]
    pub role: Role,
    /// Whose calls to take.
    pub keys: Jwks,
}

impl HeartbeatAnswer {
    /// How long to wait before the next sign of life, at most.
    pub fn interval(&self) -> Duration {
        self.heartbeat_interval.as_ref().map_or(USUAL_INTERVAL, GoDuration::length)
    }

    /// How long this process is the active one without being heard of.
    pub fn lease(&self) -> Duration {
        lease(self.lease.as_ref(), self.interval())
    }
}

/// What is wanted of a controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedState {
    /// Sessions.
    #[default]
    Serve,
    /// No new ones.
    Drain,
}
