//! What is measured of calls to controllers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::CallError;
use crate::domain::ControllerId;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    controller: String,
    verb: &'static str,
    result: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verb {
    controller: String,
    verb: &'static str,
}

/// All controllers.
#[derive(Debug, Clone)]
pub(crate) struct CallMetrics {
    calls: Family<Outcome, Counter>,
    seconds: Family<Verb, Histogram, fn() -> Histogram>,
}

impl CallMetrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        // From a millisecond in memory to the minute that a call may take.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.5, 13));
        let metrics = Self { calls: Family::default(), seconds: Family::new_with_constructor(seconds) };
        let help = "Calls to controllers, by gRPC code";
        registry.register("controller_calls", help, metrics.calls.clone());
        let help = "How long calls to controllers took";
        registry.register("controller_call_duration_seconds", help, metrics.seconds.clone());
        metrics
    }

    pub(super) fn of(&self, id: &ControllerId) -> ControllerCalls {
        ControllerCalls { metrics: self.clone(), controller: id.to_string() }
    }
}

/// One controller.
#[derive(Debug, Clone)]
pub(super) struct ControllerCalls {
    metrics: CallMetrics,
    controller: String,
}

impl ControllerCalls {
    /// Makes a call and notes how it ended.
    pub(super) async fn measured<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let begun = Instant::now();
        let answer = call.await;
        let controller = self.controller.clone();
        let result = match &answer {
            Ok(_) => "Ok".to_owned(),
            Err(error) => format!("{:?}", error.code),
        };
        let seconds = begun.elapsed().as_secs_f64();
        self.metrics.seconds.get_or_create(&Verb { controller: controller.clone(), verb }).observe(seconds);
        self.metrics.calls.get_or_create(&Outcome { controller, verb, result }).inc();
        answer
    }
}
