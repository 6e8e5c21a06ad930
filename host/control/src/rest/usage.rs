//! `GET /api/v1/sessions/{id}/metrics`: what a session uses. What was not measured is absent, never zero.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use streamspace_proto::controller::v1 as proto;
use utoipa::ToSchema;

use super::backend::{client_of, problem, require_running};
use super::extract::{Json, NoParameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use super::sessions::VisibleRecord;
use crate::control::Shared;
use crate::domain::{ByteQuantity, Session, SessionId, SessionSpec};

/// Sessions whose last sample is kept.
const MOST_SAMPLES: usize = 10_000;
/// Two samples that are closer say more about the clock than about the session.
const SHORTEST_WINDOW: chrono::Duration = chrono::Duration::seconds(1);
/// Measures of the backend's own that are shown.
const MOST_CUSTOM: usize = 64;

/// Totals since the session's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
struct Counters {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cpu_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    network_rx_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    network_tx_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    disk_read_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    disk_write_bytes: Option<u64>,
}

impl From<proto::ResourceCounters> for Counters {
    fn from(wire: proto::ResourceCounters) -> Self {
        let proto::ResourceCounters {
            cpu_ns,
            network_rx_bytes,
            network_tx_bytes,
            disk_read_bytes,
            disk_write_bytes,
        } = wire;
        Self { cpu_ns, network_rx_bytes, network_tx_bytes, disk_read_bytes, disk_write_bytes }
    }
}

/// What the counters grew by, in a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
struct Rates {
    /// Between the two samples.
    window_seconds: f64,
    /// Processors used; 1.5 = one and a half.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cpu_cores: Option<f64>,
    /// The same of the session's limit, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    network_rx_bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    network_tx_bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    disk_read_bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    disk_write_bytes_per_second: Option<f64>,
}

/// Counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at: DateTime<Utc>,
    counters: Counters,
}

impl Sample {
    /// What happened since an earlier sample. A counter that went back began anew: then its rate is not known.
    fn since(&self, earlier: &Self, spec: &SessionSpec) -> Rates {
        let window_seconds = (self.at - earlier.at).as_seconds_f64();
        let rate = |now: Option<u64>, then: Option<u64>| {
            let grown = now?.checked_sub(then?)?;
            Some(grown as f64 / window_seconds)
        };
        let (now, then) = (&self.counters, &earlier.counters);
        let cpu_cores = rate(now.cpu_ns, then.cpu_ns).map(|nanos| nanos / 1e9);
        let limit = spec.resources.cpu.as_ref().map(|cpu| cpu.millicores() as f64 / 1000.0);
        Rates {
            window_seconds,
            cpu_cores,
            cpu_percent: cpu_cores.zip(limit).map(|(cores, limit)| cores / limit * 100.0),
            network_rx_bytes_per_second: rate(now.network_rx_bytes, then.network_rx_bytes),
            network_tx_bytes_per_second: rate(now.network_tx_bytes, then.network_tx_bytes),
            disk_read_bytes_per_second: rate(now.disk_read_bytes, then.disk_read_bytes),
            disk_write_bytes_per_second: rate(now.disk_write_bytes, then.disk_write_bytes),
        }
    }
}

/// The last samples, by session.
#[derive(Default)]
pub(super) struct Samples {
    last: Mutex<HashMap<SessionId, (Sample, Option<Rates>)>>,
}

impl Samples {
    /// Takes a sample in, and says what is known about rates.
    fn add(&self, session: &Session, sample: Sample) -> Option<Rates> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = match last.get(&session.id) {
            Some((earlier, rates)) => {
                let window = sample.at - earlier.at;
                if window >= chrono::Duration::zero() && window < SHORTEST_WINDOW {
                    // The earlier one stays, so that the window grows.
                    return *rates;
                }
                // A clock that went back tells nothing.
                (window >= SHORTEST_WINDOW).then(|| sample.since(earlier, &session.spec))
            }
            None => None,
        };
        if last.len() >= MOST_SAMPLES && !last.contains_key(&session.id) {
            let oldest = last.iter().min_by_key(|(_, (sample, _))| sample.at).map(|(id, _)| id.clone());
            oldest.map(|id| last.remove(&id));
        }
        last.insert(session.id.clone(), (sample, rates));
        rates
    }
}

/// What a session uses. What was not measured is absent.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub(crate) struct UsageView<'a> {
    session_id: &'a SessionId,
    /// When it was measured; absent where the controller does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sampled_at: Option<DateTime<Utc>>,
    usage: NowView,
    counters: Counters,
    /// Absent until there are two samples whose times are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rates: Option<Rates>,
    /// Measures of the backend's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    custom: BTreeMap<String, String>,
}

/// What is used at the moment.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageNow)]
struct NowView {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    memory_bytes: Option<u64>,
    /// Of the session's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    memory_percent: Option<f64>,
    /// In the backend's own words, e.g. `250m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cpu: Option<String>,
}

/// Read what a session uses
///
/// Of one that runs. What was not measured is absent, and rates begin with the second call.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}/metrics",
    operation_id = "get_session_metrics",
    tag = "Watching",
    params(VisibleRecord),
    responses(
        (status = 200, body = UsageView<'_>, description = "What it uses."),
        Refused<400>,
        Refused<409>,
        Refused<502>,
        Refused<503>,
    ),
)]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    _: Query<NoParameters>,
    Path(VisibleRecord(record)): Path<VisibleRecord>,
) -> Result<Response, Problem> {
    Ok(Json(measure(&shared, &record.session).await?).into_response())
}

/// Asks what a session uses.
pub(crate) async fn measure<'a>(shared: &Shared, session: &'a Session) -> Result<UsageView<'a>, Problem> {
    require_running(session)?;
    let client = client_of(shared, session)?;
    let request = proto::GetSessionMetricsRequest {
        session_id: session.id.to_string(),
        node_id: session.node_id.clone(),
        handle: Vec::new(),
    };
    let answer = client.metrics(request, shared.config.call_timeout).await;
    let answer = answer.map_err(|error| problem(&session.spec, &error))?;

    // When a controller does not say, nobody knows: it may have measured long before it was asked.
    let sampled_at = answer.sampled_at.as_ref().and_then(time);
    let counters = answer.counters.map(Counters::from).unwrap_or_default();
    let rates = sampled_at.and_then(|at| shared.kept.samples.add(session, Sample { at, counters }));
    let scrub = |text: &str| session.spec.scrub(text);
    let custom = answer.custom_metrics.iter().map(|(name, value)| (scrub(name), scrub(value)));
    Ok(UsageView {
        session_id: &session.id,
        sampled_at,
        usage: usage(session, answer.usage.unwrap_or_default()),
        counters,
        rates,
        custom: custom.take(MOST_CUSTOM).collect(),
    })
}

/// An empty text or a zero of the wire is "not measured", and what is no number is no measure either.
fn usage(session: &Session, wire: proto::ResourceUsage) -> NowView {
    let memory_bytes = ByteQuantity::parse(&wire.memory).ok().map(|memory| memory.bytes());
    let said = Some(f64::from(wire.memory_percent)).filter(|percent| *percent > 0.0 && percent.is_finite());
    let limit = session.spec.resources.memory.as_ref().map(|memory| memory.bytes() as f64);
    let computed = memory_bytes.zip(limit).map(|(used, limit)| used as f64 / limit * 100.0);
    NowView {
        memory_bytes,
        memory_percent: said.or(computed),
        cpu: (!wire.cpu.is_empty()).then(|| session.spec.scrub(&wire.cpu)),
    }
}

pub(super) fn time(wire: &prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(wire.seconds, u32::try_from(wire.nanos).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CpuQuantity, Phase, Wish, WishedState, test_session};

    fn sample(second: f64, cpu_ns: u64, rx: Option<u64>) -> Sample {
        let at = DateTime::from_timestamp_micros((second * 1e6) as i64).unwrap();
        Sample {
            at,
            counters: Counters { cpu_ns: Some(cpu_ns), network_rx_bytes: rx, ..Counters::default() },
        }
    }

    #[test]
    fn rates_come_from_two_samples() {
        let mut session = test_session(Wish::State(WishedState::Running), true, Phase::Running);
        session.spec.resources.cpu = CpuQuantity::parse("500m").ok();
        let samples = Samples::default();
        assert_eq!(samples.add(&session, sample(100.0, 0, None)), None);
        let rates = samples.add(&session, sample(104.0, 1_000_000_000, Some(10))).unwrap();
        assert_eq!((rates.window_seconds, rates.cpu_cores, rates.cpu_percent), (4.0, Some(0.25), Some(50.0)));
        assert_eq!(rates.network_rx_bytes_per_second, None, "there was no earlier value");
        assert_eq!(rates.disk_read_bytes_per_second, None, "not measured is not zero");
        // Too close: what is known stays, and the window grows.
        assert_eq!(samples.add(&session, sample(104.5, 1_100_000_000, Some(20))), Some(rates));
        let rates = samples.add(&session, sample(106.0, 1_000_000_000, Some(30))).unwrap();
        assert_eq!((rates.cpu_cores, rates.network_rx_bytes_per_second), (Some(0.0), Some(10.0)));
        // Counters that began anew, and a clock that went back.
        let rates = samples.add(&session, sample(108.0, 5, Some(40))).unwrap();
        assert_eq!((rates.cpu_cores, rates.network_rx_bytes_per_second), (None, Some(5.0)));
        assert_eq!(samples.add(&session, sample(50.0, 9, Some(50))), None);
    }

    #[test]
    fn what_was_not_measured_is_absent() {
        let session = test_session(Wish::State(WishedState::Running), true, Phase::Running);
        let shown = |memory_percent| {
            let wire = proto::ResourceUsage { memory_percent, ..Default::default() };
            serde_json::to_value(usage(&session, wire)).unwrap()
        };
        assert_eq!(shown(12.5), serde_json::json!({"memory_percent": 12.5}));
        for odd in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(shown(odd), serde_json::json!({}), "{odd}");
        }
    }

    #[test]
    fn samples_are_bounded() {
        let samples = Samples::default();
        let mut first = None;
        for second in 0..=MOST_SAMPLES {
            let session = test_session(Wish::State(WishedState::Running), true, Phase::Running);
            samples.add(&session, sample(second as f64, 0, None));
            first.get_or_insert(session.id);
        }
        let last = samples.last.lock().unwrap();
        assert_eq!(last.len(), MOST_SAMPLES);
        assert!(!last.contains_key(&first.unwrap()));
    }
}
