//! The REST API.

mod accounts;
pub(crate) mod auth;
mod authenticator;
mod body;
mod controllers;
mod create;
mod health;
mod plugins;
pub(crate) mod problem;
mod query;
mod sessions;
mod templates;
mod validate;
mod view;
mod wish;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderName, Request};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::control::Shared;
use problem::Problem;

/// Follows a request through logs and answers.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All of the API, and beside it what else is served.
pub(crate) fn router(shared: Arc<Shared>, beside: Router) -> Router {
    let limit = shared.config.body_limit;
    let authenticated = Router::new()
        .route("/api/v1/sessions", get(sessions::list).post(create::create))
        .route("/api/v1/sessions/{id}", get(sessions::get).patch(wish::patch).delete(sessions::delete))
        .route("/api/v1/sessions/{id}/hibernate", post(wish::hibernate))
        .route("/api/v1/sessions/{id}/wake", post(wish::wake))
        .route("/api/v1/sessions/{id}/heartbeat", post(wish::heartbeat))
        .route("/api/v1/admin/controllers", get(controllers::list))
        .route("/api/v1/admin/plugins", get(plugins::list))
        .route("/api/v1/admin/plugins/{name}", get(plugins::get))
        .route(
            "/api/v1/admin/controllers/{id}",
            get(controllers::get).patch(controllers::patch).delete(controllers::delete),
        )
        .merge(accounts::routes())
        .merge(templates::routes())
        .route_layer(from_fn_with_state(Arc::clone(&shared), auth::authenticate));
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(limit));
    Router::new()
        .merge(authenticated)
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(beside.with_state(()))
        .fallback(|| async { Problem::not_found("there is nothing under this path") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(shared)
        .layer(layers)
}

fn span<B>(request: &Request<B>) -> Span {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    tracing::info_span!(
        "request",
        id = id.unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
        user = tracing::field::Empty,
    )
}

fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let message = cause
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(message, "a request panicked");
    Problem::internal().into_response()
}
