//! Liveness and readiness.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::control::Shared;
use crate::store::StoreError;

/// A database that takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The process serves requests.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The database answers.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    match tokio::time::timeout(PATIENCE, shared.store.ping()).await {
        Ok(Ok(())) => Ok(Json(json!({ "status": "ok" }))),
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
