//! `GET /api/v1/sessions/{id}/access`: how a client reaches the session through this server. Where the backend has it,
//! and with which password, never leaves the server.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use serde::Serialize;
use streamspace_proto::controller::v1 as proto;

use super::auth::Caller;
use super::backend::{client_of, problem, record_of, require_running};
use super::problem::Problem;
use super::query::Parameters;
use crate::control::Shared;
use crate::domain::{Session, shortened};
use crate::gateway::service::way_in;

#[derive(Serialize)]
struct AccessView<'a> {
    session_id: &'a str,
    url: String,
    services: Vec<ServiceView>,
}

/// One way in.
#[derive(Serialize)]
struct ServiceView {
    name: String,
    /// `http`, `vnc` or `tcp`.
    kind: &'static str,
    /// Where this server offers it; absent where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let record = record_of(&shared, &caller, path).await?;
    let session = &record.session;
    require_running(session)?;
    let client = client_of(&shared, session)?;
    let request = proto::GetSessionAccessRequest {
        session_id: session.id.to_string(),
        node_id: session.node_id.clone(),
        service: String::new(),
    };
    let answer = client.access(request, shared.config.call_timeout).await;
    let answer = answer.map_err(|error| problem(&session.spec, &error))?;
    let services = answer.points.iter().map(|point| service(session, point)).collect();
    Ok(Json(AccessView { session_id: session.id.as_str(), url: session.url(), services }).into_response())
}

fn service(session: &Session, point: &proto::AccessPoint) -> ServiceView {
    use proto::access_point::Target;
    let (kind, url) = match (way_in(session, &point.service), &point.target) {
        (Some((kind, url)), _) => (kind, Some(url)),
        (None, Some(Target::Http(_))) => ("http", None),
        (None, _) => ("tcp", None),
    };
    ServiceView { name: shortened(&point.service), kind, url }
}
