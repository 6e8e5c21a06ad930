//! What operators see of controllers, and say about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use http::StatusCode;
use serde::Deserialize;

use super::auth::Caller;
use super::body::read;
use super::create::{expect_json, read_body};
use super::problem::Problem;
use super::query::Parameters;
use super::validate::Faults;
use super::view::ControllerView;
use crate::control::Shared;
use crate::domain::ControllerId;
use crate::reconcile::PLACEMENTS;
use crate::store::{ControllerChange, ControllerDeletion};

/// `GET /api/v1/admin/controllers`: all of them, as a plain array.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let controllers = shared.store.controllers().await?;
    Ok(Json(controllers.iter().map(ControllerView::new).collect::<Vec<_>>()).into_response())
}

/// `GET /api/v1/admin/controllers/{id}`.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let id = id(path)?;
    let controller = shared.store.controller(&id).await?.ok_or_else(unknown)?;
    Ok(Json(ControllerView::new(&controller)).into_response())
}

/// What an operator says about a controller, as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ControllerPatch {
    draining: Option<bool>,
    /// `null` takes the operator's label away; those of the registration come back then.
    labels: BTreeMap<String, Option<String>>,
}

/// `PATCH /api/v1/admin/controllers/{id}`.
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let id = id(path)?;
    let (mut parts, body) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    expect_json(&parts.headers)?;
    let body = read_body(Request::from_parts(parts, body), shared.config.body_limit).await?;
    let patch: ControllerPatch = read(&body)?;
    let mut faults = Faults::default();
    let set = patch.labels.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
    faults.labels("labels", &set.collect());
    faults.finish()?;
    let change = ControllerChange { draining: patch.draining, labels: patch.labels };
    let controller = shared.store.change_controller(&id, change).await?.ok_or_else(unknown)?;
    tracing::info!(controller = %id, draining = controller.draining, "an operator changed a controller");
    // There may be room now where there was none.
    if shared.store.retry_unplaced(PLACEMENTS).await? > 0 {
        shared.wake.notify_one();
    }
    Ok(Json(ControllerView::new(&controller)).into_response())
}

/// `DELETE /api/v1/admin/controllers/{id}`. One of the server's own configuration comes back, as a new one, when
/// the server starts again.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let id = id(path)?;
    match shared.store.delete_controller(&id).await? {
        ControllerDeletion::Deleted => {
            shared.fleet.detach(&id);
            tracing::info!(controller = %id, "a controller was removed");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ControllerDeletion::NoSuchController => Err(unknown()),
        ControllerDeletion::HasSessions(count) => {
            let detail = format!("{count} sessions are placed on it; drain it and delete them first");
            Err(Problem::conflict("has-sessions", &detail))
        }
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no controller with this id")
}

fn id(path: Result<Path<String>, PathRejection>) -> Result<ControllerId, Problem> {
    let Path(id) = path.map_err(|_| unknown())?;
    ControllerId::parse(&id).map_err(|_| unknown())
}
