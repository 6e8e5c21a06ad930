//! What an operator can set.

mod database;

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::{Overcommit, Quota};
use crate::placement::PlacementStrategy;
pub(crate) use database::DatabasePlace;
pub use database::DatabaseUrl;

/// Settings of the API server.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Holds the database, the administrator's token and the lock. Made if it is not there.
    pub data_dir: PathBuf,
    /// The database.
    pub database: DatabaseUrl,
    /// How long a database server that does not answer is waited for at the start.
    pub database_wait: Duration,

    /// How long other servers over the same database wait for a sign of this one before they take over its work.
    pub server_lease: Duration,
    /// How often this server gives that sign.
    pub server_renewal: Duration,

    /// How long one call to a controller may take.
    pub call_timeout: Duration,
    /// How long a claim on a session holds; in any case 20 s longer than `call_timeout`.
    pub lease: Duration,
    /// The longest pause between two looks at work in progress; the first ones come sooner.
    pub longest_look_pause: Duration,
    /// How long the creation (or waking, or hibernation) of a session may take over all its retries.
    pub operation_limit: Duration,
    /// Calls in flight at once for one controller, unless [`Control::limit_calls`](crate::Control::limit_calls) says
    /// otherwise.
    pub calls_per_controller: u32,
    /// How long a call under way may take to end after the cancellation.
    pub drain_limit: Duration,

    /// How often all sessions of a controller are listed.
    pub observe_interval: Duration,
    /// How long one controller may take to show all its sessions.
    pub observe_limit: Duration,
    /// How long a session that its backend loses or changes again and again waits before it is set right the second
    /// time; every further time doubles it.
    pub repair_pause: Duration,
    /// How long an object of an unknown session is left alone before it is removed unasked; `None` = for ever.
    pub drift_grace: Option<Duration>,
    /// How long a deletion by force waits for its controller's word.
    pub force_after: Duration,
    /// How long a session waits for a controller that can take it; then it has failed.
    pub placement_limit: Duration,
    /// Which of several controllers takes a session that all of them can take.
    pub placement_strategy: PlacementStrategy,
    /// How many times what controllers have is given away.
    pub overcommit: Overcommit,
    /// How often a controller is probed, and the most that lies between two signs of life of a remote one.
    pub health_interval: Duration,
    /// How long a probe may take.
    pub probe_timeout: Duration,
    /// So many failed probes in a row make a controller offline, unless it gives signs of life by itself.
    pub offline_after: u32,
    /// How long another process of a remote controller waits for a sign of life of the active one before it takes over.
    pub instance_lease: Duration,
    /// Whether calls to remote controllers may leave this machine unencrypted.
    pub allow_insecure_endpoints: bool,
    /// How long a request waits for the first probe of a controller.
    pub first_probe_wait: Duration,

    /// What the sessions of one user may take together, unless something else was set for them.
    pub quota: Quota,
    /// How often sessions are looked for that have reached their idle timeout or their longest duration.
    pub policy_interval: Duration,

    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// The longest time that a request may ask to wait.
    pub wait_limit: Duration,
    /// How long the answer to an `Idempotency-Key` is kept.
    pub keep_idempotency_keys: Duration,
    /// How long the id of a deleted session is remembered.
    pub keep_tombstones: Duration,

    /// How long entries of the audit log are kept.
    pub keep_audit: Duration,
    /// How long events are kept.
    pub keep_events: Duration,
    /// So many events of one session are kept at most.
    pub events_per_session: u32,
    /// A listener that is behind by more events reads on from the database.
    pub event_backlog: usize,
    /// How often a listener hears that the connection lives.
    pub event_heartbeat: Duration,
    /// Connections that listen to events: of one user, and of all.
    pub event_listeners: (usize, usize),
    /// Requests that follow the output of sessions: of one user, and of all.
    pub log_followers: (usize, usize),
    /// WebSockets and other upgraded connections to sessions: of one session, and of all.
    pub gateway_connections: (usize, usize),
    /// That somebody uses a session through the gateway is written down this often.
    pub activity_interval: Duration,
}

impl ControlConfig {
    /// The defaults, with everything kept in one folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            database: DatabaseUrl::sqlite(data_dir.join("streamspace.db")),
            data_dir,
            database_wait: Duration::from_secs(60),
            server_lease: Duration::from_millis(2500),
            server_renewal: Duration::from_millis(600),
            call_timeout: Duration::from_secs(60),
            lease: Duration::from_secs(90),
            longest_look_pause: Duration::from_secs(3),
            operation_limit: Duration::from_secs(600),
            // A backend is waited for, not computed: this has nothing to do with the number of processors.
            calls_per_controller: 16,
            drain_limit: Duration::from_secs(10),
            observe_interval: Duration::from_secs(30),
            observe_limit: Duration::from_secs(60),
            repair_pause: Duration::from_secs(10),
            drift_grace: None,
            force_after: Duration::from_secs(60),
            placement_limit: Duration::from_secs(24 * 3600),
            placement_strategy: PlacementStrategy::default(),
            overcommit: Overcommit::default(),
            health_interval: Duration::from_secs(30),
            probe_timeout: Duration::from_secs(5),
            offline_after: 2,
            instance_lease: Duration::from_secs(15),
            allow_insecure_endpoints: false,
            first_probe_wait: Duration::from_secs(6),
            quota: Quota::default(),
            policy_interval: Duration::from_secs(5),
            body_limit: 1 << 20,
            wait_limit: Duration::from_secs(300),
            keep_idempotency_keys: Duration::from_secs(24 * 3600),
            keep_tombstones: Duration::from_secs(30 * 24 * 3600),
            keep_audit: Duration::from_secs(365 * 24 * 3600),
            keep_events: Duration::from_secs(7 * 24 * 3600),
            events_per_session: 1000,
            event_backlog: 1024,
            event_heartbeat: Duration::from_secs(25),
            event_listeners: (32, 2048),
            log_followers: (8, 256),
            gateway_connections: (128, 8192),
            activity_interval: Duration::from_secs(15),
        }
    }

    /// How often a process of a remote controller is to give a sign of life: two may be lost.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.health_interval.min(self.instance_lease / 3)
    }
}

impl Default for ControlConfig {
    /// Keeps everything in `./data`.
    fn default() -> Self {
        Self::new("data")
    }
}
