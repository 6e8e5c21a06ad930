//! The operator's view of controllers.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};

use super::auth::Caller;
use super::problem::Problem;
use super::query::Parameters;
use super::view::ControllerView;
use crate::control::Shared;
use crate::domain::ControllerId;

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
    let unknown = || Problem::not_found("there is no controller with this id");
    let Path(id) = path.map_err(|_| unknown())?;
    let id = ControllerId::parse(&id).map_err(|_| unknown())?;
    let controller = shared.store.controller(&id).await?.ok_or_else(unknown)?;
    Ok(Json(ControllerView::new(&controller)).into_response())
}
