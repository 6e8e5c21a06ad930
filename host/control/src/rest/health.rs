//! Liveness and readiness.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::Json;
use super::openapi::Refused;
use super::problem::Problem;
use crate::control::Shared;
use crate::store::StoreError;

/// A database that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// All is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`; otherwise the answer is a problem.
    status: &'static str,
}

const WELL: Json<Health> = Json(Health { status: "ok" });

/// Whether the process serves requests
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "is_alive",
    tag = "Operation",
    security(()),
    responses((status = 200, body = Health, description = "It does.")),
)]
pub(super) async fn alive() -> Json<Health> {
    WELL
}

/// Whether the database answers
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "is_ready",
    tag = "Operation",
    security(()),
    responses((status = 200, body = Health, description = "It does."), Refused<503>),
)]
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Json<Health>, Problem> {
    look(&shared).await.map(|()| WELL)
}

/// Whether the server is ready, and why not.
pub(crate) async fn look(shared: &Shared) -> Result<(), Problem> {
    match tokio::time::timeout(PATIENCE, shared.store.ping()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(%error, "not ready");
            let why = match error {
                StoreError::Unavailable { outage, .. } => outage.explanation(),
                _ => "the database does not answer",
            };
            Err(Problem::unavailable("not-ready", why))
        }
        Err(_) => Err(Problem::unavailable("not-ready", "the database does not answer in time")),
    }
}
