//! `GET /metrics`: for operators, like everything that is about more than one's own sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use tokio::time::Instant;

use super::auth::Operator;
use super::extract::{NoParameters, Query};
use super::openapi::Refused;
use super::problem::Problem;
use crate::control::Shared;

/// Counts of the database are used again for so long.
const FRESH: Duration = Duration::from_secs(5);
/// OpenMetrics 1.0; Prometheus has read it since 2.5.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The server's own metrics
///
/// OpenMetrics, for Prometheus. For operators.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "Operation",
    responses(
        (
            status = 200,
            body = String,
            content_type = "application/openmetrics-text",
            description = "OpenMetrics 1.0.",
        ),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    _: Query<NoParameters>,
) -> Result<Response, Problem> {
    let mut counted = shared.metrics.counted.lock().await;
    if counted.is_none_or(|at| at.elapsed() >= FRESH) {
        shared.metrics.take_census(shared.store.census().await?);
        *counted = Some(Instant::now());
    }
    let kept = &shared.kept;
    let open = (kept.listeners.taken(), kept.followers.taken(), kept.visits.taken());
    let text = shared.metrics.render(shared.feed.lag(), open).map_err(|error| {
        tracing::error!(%error, "metrics cannot be written");
        Problem::internal()
    })?;
    drop(counted);
    Ok(([(header::CONTENT_TYPE, FORMAT)], text).into_response())
}
