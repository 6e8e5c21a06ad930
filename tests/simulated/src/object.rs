//! What there is: boxes and homes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::effect::Caller;

/// The label that says which controller an object belongs to.
pub(crate) const CONTROLLER: &str = "streamspace.controller";
/// The label that says which session a box is.
pub(crate) const SESSION: &str = "streamspace.session_id";

/// What a client gives objects.
pub(crate) type Labels = BTreeMap<String, String>;

/// A box to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBox {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) memory_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) cpu_millis: Option<u32>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Names of disks of its own.
    #[serde(default)]
    pub(crate) disks: Vec<String>,
    /// Name of a home, which must be there.
    #[serde(default)]
    pub(crate) home: Option<String>,
    /// Names of what it serves; told back as they are.
    #[serde(default)]
    pub(crate) services: Vec<String>,
}

/// What a box does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Creating,
    Stopped,
    Running,
    Failed,
    Deleting,
}

/// A change that was accepted and takes time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) kind: JobKind,
    /// When it takes effect, milliseconds since 1970 (UTC).
    pub(crate) due_ms: u64,
    /// On whose behalf.
    pub(crate) caller: Caller,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobKind {
    Create,
    Start,
    Stop,
    Delete,
}

/// A box: a machine, a container, whatever runs a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BoxRecord {
    pub(crate) name: String,
    /// Another one for a box that is made again under the same name.
    pub(crate) uid: u64,
    pub(crate) labels: Labels,
    pub(crate) image: String,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_millis: Option<u32>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Disks of its own: made with it, and gone with it.
    #[serde(default)]
    pub(crate) disks: Vec<String>,
    pub(crate) home: Option<String>,
    pub(crate) services: Vec<String>,
    pub(crate) state: State,
    /// Why it failed.
    pub(crate) reason: String,
    pub(crate) job: Option<Job>,
    /// The highest epoch in whose name it was changed.
    pub(crate) epoch: u64,
    pub(crate) made_at_ms: u64,
    pub(crate) started_at_ms: Option<u64>,
    pub(crate) ended_at_ms: Option<u64>,
    /// How often it was started.
    pub(crate) starts: u32,
    /// Loopback port of its page; another one after every start.
    pub(crate) port: Option<u16>,
}

impl BoxRecord {
    pub(crate) fn new(new: NewBox, uid: u64, now_ms: u64) -> Self {
        Self {
            name: new.name,
            uid,
            labels: new.labels,
            image: new.image,
            memory_bytes: new.memory_bytes,
            cpu_millis: new.cpu_millis,
            env: new.env,
            disks: new.disks,
            home: new.home,
            services: new.services,
            state: State::Stopped,
            reason: String::new(),
            job: None,
            epoch: 0,
            made_at_ms: now_ms,
            started_at_ms: None,
            ended_at_ms: None,
            starts: 0,
            port: None,
        }
    }

    pub(crate) fn is_of(&self, controller: Option<&str>) -> bool {
        controller.is_none_or(|controller| label(&self.labels, CONTROLLER) == controller)
    }
}

/// Storage that outlives boxes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Home {
    pub(crate) name: String,
    pub(crate) uid: u64,
    pub(crate) labels: Labels,
    pub(crate) made_at_ms: u64,
    /// What boxes have written, by path.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
}

/// The value of a label; empty where there is none.
pub(crate) fn label<'a>(labels: &'a Labels, key: &str) -> &'a str {
    labels.get(key).map_or("", String::as_str)
}
