//! `GET /api/v1/sessions/{id}/access`: how a client reaches the session through this server. Where the backend has it,
//! and with which password, never leaves the server.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use streamspace_proto::controller::v1 as proto;
use utoipa::ToSchema;

use super::backend::{client_of, problem, require_running};
use super::extract::{Json, NoParameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use super::sessions::VisibleRecord;
use crate::control::Shared;
use crate::domain::{Session, SessionId, shortened};
use crate::gateway::service::{main_service, way_in};

/// The ways to a session.
#[derive(Serialize, ToSchema)]
#[schema(as = Access)]
pub(crate) struct AccessView<'a> {
    session_id: &'a SessionId,
    /// Where a browser reaches it.
    url: String,
    services: Vec<ServiceView>,
}

/// One way in.
#[derive(Serialize, ToSchema)]
#[schema(as = Service)]
struct ServiceView {
    name: String,
    /// `http`, `vnc` or `tcp`.
    kind: &'static str,
    /// Where this server offers it; absent where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    url: Option<String>,
}

/// List the ways to a session
///
/// Of one that runs. Addresses and passwords of the backend are never shown.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}/access",
    operation_id = "get_session_access",
    tag = "Access",
    params(VisibleRecord),
    responses(
        (status = 200, body = AccessView<'_>, description = "The ways."),
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
    Ok(Json(ways(&shared, &record.session).await?).into_response())
}

/// Asks for the ways to a session.
pub(crate) async fn ways<'a>(shared: &Shared, session: &'a Session) -> Result<AccessView<'a>, Problem> {
    require_running(session)?;
    let client = client_of(shared, session)?;
    let request = proto::GetSessionAccessRequest {
        session_id: session.id.to_string(),
        node_id: session.node_id.clone(),
        service: String::new(),
    };
    let points = client.ways(request, main_service(session), shared.config.call_timeout).await;
    let points = points.map_err(|error| problem(&session.spec, &error))?;
    let services = points.iter().map(|point| service(session, point)).collect();
    Ok(AccessView { session_id: &session.id, url: session.url(), services })
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
