//! Constructors of records with more fields than most plugins have something to say about.

use crate::{
    Capabilities, Capacity, Condition, ConditionStatus, Error, ErrorKind, Health, Phase, Progress, Report,
    Result, SessionSpec, SessionState,
};

impl Condition {
    /// A condition.
    pub fn new(kind: &str, status: ConditionStatus, reason: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), status, reason: reason.to_owned(), message: message.into() }
    }

    /// What is said of sizes that were asked for and that the backend cannot hold a session to; see
    /// [`SessionSpec::sizes`].
    pub fn limits_not_enforced(fields: &[&str]) -> Self {
        let message = format!("the backend cannot enforce {}", fields.join(", "));
        Self::new("LimitsEnforced", ConditionStatus::No, "Unsupported", message)
    }
}

impl SessionSpec {
    /// The sizes of storage that are asked for, by their fields. A backend that cannot enforce one says so.
    pub fn sizes(&self) -> Vec<&'static str> {
        let asked = [
            ("spec.resources.storage", self.resources.storage_bytes.is_some()),
            ("spec.home_size", self.home.as_ref().is_some_and(|home| home.size_bytes.is_some())),
            ("spec.volume_mounts.size", self.volumes.iter().any(|volume| volume.size_bytes.is_some())),
        ];
        asked.into_iter().filter(|(_, is_asked)| *is_asked).map(|(field, _)| field).collect()
    }
}

impl SessionState {
    /// A session of which nothing but its phase is known.
    pub fn new(session_id: &str, phase: Phase) -> Self {
        Self {
            session_id: session_id.to_owned(),
            node_id: None,
            phase,
            conditions: Vec::new(),
            last_activity_ms: None,
            usage: None,
            ext: Vec::new(),
        }
    }
}

impl Progress {
    /// Work that goes on, to be looked at after some milliseconds.
    pub fn new(handle: Vec<u8>, poll_after_ms: u32, message: impl Into<String>) -> Self {
        Self { handle, poll_after_ms, message: message.into(), conditions: Vec::new(), ext: Vec::new() }
    }
}

impl Capabilities {
    /// A backend that can make and remove sessions, and nothing more.
    pub const NONE: Self = Self {
        hibernation: false,
        gpu: false,
        persistent_storage: false,
        networking: false,
        metrics: false,
        logs: false,
        watch: false,
        ext: Vec::new(),
    };
}

impl Capacity {
    /// Nothing is known of it.
    pub const UNKNOWN: Self = Self {
        max_sessions: None,
        total_memory_bytes: None,
        available_memory_bytes: None,
        total_cpu_millis: None,
        available_cpu_millis: None,
        total_storage_bytes: None,
        available_storage_bytes: None,
    };
}

impl Report {
    /// A backend that is well.
    pub fn healthy(capabilities: Capabilities, capacity: Capacity) -> Self {
        Self {
            health: Health::Healthy,
            message: String::new(),
            backend_version: String::new(),
            current_sessions: 0,
            capabilities,
            capacity,
            labels: Vec::new(),
            ext: Vec::new(),
        }
    }

    /// The same backend when a look at it fails. Its condition is what was asked for, and so the failure is a report;
    /// a grant that is missing is no condition of the backend.
    pub fn but_failing(self, error: Error) -> Result<Self> {
        match error.kind {
            ErrorKind::Denied => Err(error),
            _ => Ok(Self { health: Health::Unhealthy, message: error.message, ..self }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorExt as _, Home, Resources, Volume};

    #[test]
    fn every_size_that_is_asked_for_is_told() {
        let resources =
            Resources { memory_bytes: Some(1), cpu_millis: None, storage_bytes: None, gpus: 0, ext: vec![] };
        let volume =
            |size_bytes| Volume { name: "a".into(), mount_path: "/a".into(), read_only: false, size_bytes };
        let mut spec = SessionSpec {
            image: String::new(),
            resources,
            ports: vec![],
            env: vec![],
            volumes: vec![volume(None)],
            home: Some(Home { key: "k".into(), mount_path: "/config".into(), size_bytes: None }),
            vnc: None,
            web_app: None,
            labels: vec![],
            options: "{}".into(),
            ext: vec![],
        };
        assert!(spec.sizes().is_empty());
        spec.resources.storage_bytes = Some(1);
        spec.home.as_mut().unwrap().size_bytes = Some(1);
        spec.volumes.push(volume(Some(1)));
        assert_eq!(spec.sizes(), ["spec.resources.storage", "spec.home_size", "spec.volume_mounts.size"]);
        let told = Condition::limits_not_enforced(&spec.sizes());
        assert!(spec.sizes().iter().all(|field| told.message.contains(field)), "{told:?}");
    }

    #[test]
    fn a_failing_backend_is_a_report_and_a_missing_grant_is_none() {
        let report = || Report::healthy(Capabilities { logs: true, ..Capabilities::NONE }, Capacity::UNKNOWN);
        let failing = report().but_failing(Error::new(ErrorKind::Unavailable, "no route")).unwrap();
        assert_eq!((failing.health, failing.message.as_str()), (Health::Unhealthy, "no route"));
        assert!(failing.capabilities.logs);
        let denied = report().but_failing(Error::new(ErrorKind::Denied, "no grant")).unwrap_err();
        assert_eq!(denied.kind, ErrorKind::Denied);
    }
}
