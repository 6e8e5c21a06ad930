//! What is measured, for Prometheus. No global state: whoever measures holds its own handle.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::fleet::CallMetrics;
use crate::store::{Census, WriterMetrics};

/// A request, by what it is of a bounded number: the template of its path, never the path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) method: &'static str,
    pub(crate) route: String,
    pub(crate) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SessionLabels {
    phase: String,
    wish: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabels {
    state: String,
}

/// Everything that is measured.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    sessions: Family<SessionLabels, Gauge>,
    drift: Family<DriftLabels, Gauge>,
    drift_alarms: Gauge,
    operations_unsettled: Gauge,
    operations_due: Gauge,
    oldest_due_seconds: Gauge<f64, AtomicU64>,
    event_lag: Gauge,
    event_listeners: Gauge,
    log_followers: Gauge,
    gateway_connections: Gauge,
    /// How long it took to compare all sessions of a controller with its backend.
    pub(crate) observation_seconds: Histogram,
    /// When the database was last counted. Held while it is, so that the answers of one moment are not mixed.
    pub(crate) counted: Mutex<Option<Instant>>,
}

impl Metrics {
    /// The metrics of the server, and those that its controllers' clients write.
    pub(crate) fn new(writer: &WriterMetrics) -> (Self, CallMetrics) {
        let mut registry = Registry::with_prefix("streamspace");
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.5, 13));
        let calls = CallMetrics::new(&mut registry);
        let metrics = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            sessions: Family::default(),
            drift: Family::default(),
            drift_alarms: Gauge::default(),
            operations_unsettled: Gauge::default(),
            operations_due: Gauge::default(),
            oldest_due_seconds: Gauge::default(),
            event_lag: Gauge::default(),
            event_listeners: Gauge::default(),
            log_followers: Gauge::default(),
            gateway_connections: Gauge::default(),
            observation_seconds: seconds(),
            counted: Mutex::default(),
            registry: Registry::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", build);
        registry.register("http_requests", "Requests by route and status", metrics.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time until the head of the answer was ready",
            metrics.request_seconds.clone(),
        );
        registry.register("sessions", "Sessions by phase and wish", metrics.sessions.clone());
        registry.register(
            "drift_objects",
            "Objects that no session explains, by what is to become of them",
            metrics.drift.clone(),
        );
        registry.register(
            "drift_alarms",
            "Controllers whose last listing is not believed",
            metrics.drift_alarms.clone(),
        );
        registry.register(
            "operations_unsettled",
            "Sessions whose wish is not fulfilled yet",
            metrics.operations_unsettled.clone(),
        );
        registry.register(
            "operations_due",
            "Steps that are due and that nobody works on",
            metrics.operations_due.clone(),
        );
        registry.register(
            "operations_oldest_due_seconds",
            "How long the longest of those has been due",
            metrics.oldest_due_seconds.clone(),
        );
        registry.register(
            "event_lag",
            "Committed events that were not handed to listeners yet",
            metrics.event_lag.clone(),
        );
        registry.register(
            "event_listeners",
            "Open WebSockets and streams that hear events",
            metrics.event_listeners.clone(),
        );
        registry.register("log_followers", "Requests that follow output", metrics.log_followers.clone());
        registry.register(
            "gateway_connections",
            "Upgraded connections to sessions",
            metrics.gateway_connections.clone(),
        );
        registry.register(
            "observation_duration_seconds",
            "Complete comparisons of a controller's sessions with its backend",
            metrics.observation_seconds.clone(),
        );
        registry.register("store_batch_jobs", "Jobs that shared a transaction", writer.batch.clone());
        registry.register(
            "store_transaction_duration_seconds",
            "Time of a transaction, its commit included",
            writer.transaction.clone(),
        );
        (Self { registry, ..metrics }, calls)
    }

    /// Notes an answered request.
    pub(crate) fn request(&self, labels: RequestLabels, seconds: f64) {
        let route = RouteLabels { method: labels.method, route: labels.route.clone() };
        self.request_seconds.get_or_create(&route).observe(seconds);
        self.requests.get_or_create(&labels).inc();
    }

    /// Takes over what was counted in the database.
    pub(crate) fn take_census(&self, census: Census) {
        self.sessions.clear();
        for (phase, wish, count) in census.sessions {
            self.sessions.get_or_create(&SessionLabels { phase, wish }).set(i64::from(count));
        }
        self.drift.clear();
        // That there is nothing to be decided is said as well.
        self.drift.get_or_create(&DriftLabels { state: "found".to_owned() }).set(0);
        for (state, count) in census.drift {
            self.drift.get_or_create(&DriftLabels { state }).set(i64::from(count));
        }
        self.drift_alarms.set(i64::from(census.drift_alarms));
        self.operations_unsettled.set(i64::from(census.operations_unsettled));
        self.operations_due.set(i64::from(census.operations_due));
        self.oldest_due_seconds.set(census.oldest_due_seconds);
    }

    /// Everything in the OpenMetrics text format, with what only the moment tells: how many listen to events, follow
    /// output and are connected to sessions.
    pub(crate) fn render(
        &self,
        event_lag: i64,
        (listeners, followers, visits): (usize, usize, usize),
    ) -> Result<String, std::fmt::Error> {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.event_lag.set(event_lag);
        self.event_listeners.set(number(listeners));
        self.log_followers.set(number(followers));
        self.gateway_connections.set(number(visits));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
