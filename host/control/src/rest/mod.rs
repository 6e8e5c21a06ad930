//! The REST API.

pub(crate) mod access;
mod accounts;
mod adopt;
mod audit;
pub(crate) mod auth;
mod authenticator;
mod backend;
mod body;
pub(crate) mod controllers;
pub(crate) mod create;
pub(crate) mod credential;
mod cursor;
mod drift;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod extract;
pub(crate) mod health;
pub(crate) mod idempotency;
mod kept;
pub(crate) mod logs;
mod metrics;
pub(crate) mod migrate;
pub(crate) mod openapi;
mod plugins;
pub(crate) mod problem;
mod prometheus;
mod quotas;
mod registry;
pub(crate) mod sessions;
pub(crate) mod templates;
pub(crate) mod usage;
mod validate;
pub(crate) mod verbs;
pub(crate) mod view;
pub(crate) mod wish;
pub(crate) mod ws;

use std::any::Any;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderName, Request};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::Span;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::Shared;
use crate::grpc;
pub(crate) use kept::Kept;
use openapi::Description;
use problem::Problem;

/// Follows a request through logs and answers.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All of the API, and beside it what else is served.
pub(crate) fn router(shared: Arc<Shared>, beside: OpenApiRouter) -> Router {
    let limit = shared.config.body_limit;
    let mut authenticated = OpenApiRouter::default()
        .routes(routes!(sessions::list, create::create))
        .routes(routes!(sessions::get, wish::patch, sessions::delete))
        .routes(routes!(access::get))
        .routes(routes!(events::list))
        .routes(routes!(explain::get))
        .routes(routes!(logs::get))
        .routes(routes!(usage::get))
        .routes(routes!(wish::hibernate))
        .routes(routes!(wish::wake))
        .routes(routes!(wish::heartbeat))
        .routes(routes!(verbs::retry))
        .routes(routes!(verbs::forget))
        .routes(routes!(migrate::post))
        .routes(routes!(drift::list))
        .routes(routes!(drift::get, drift::delete))
        .routes(routes!(drift::adopt))
        .routes(routes!(drift::ignore))
        .routes(routes!(controllers::list))
        .routes(routes!(controllers::get, controllers::patch, controllers::delete))
        .routes(routes!(audit::list))
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::get))
        .routes(routes!(ws::ticket))
        .routes(routes!(prometheus::get))
        .merge(accounts::routes())
        .merge(quotas::routes())
        .merge(registry::routes())
        .merge(templates::routes())
        .route_layer(from_fn_with_state(Arc::clone(&shared), auth::authenticate));
    openapi::behind_a_token(authenticated.get_openapi_mut());
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(limit));
    let measured = from_fn_with_state(Arc::clone(&shared), metrics::measure);
    let (router, mut api) = OpenApiRouter::with_openapi(openapi::beginning())
        .merge(authenticated)
        .merge(registry::of_controllers())
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::describe))
        // Says itself who calls: browsers cannot set the header.
        .routes(routes!(ws::open))
        .merge(beside.with_state(()))
        .split_for_parts();
    openapi::complete(&mut api);
    router
        .merge(grpc::router(&shared))
        .fallback(nothing)
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(shared)
        .layer(Extension(Description::new(&api)))
        .layer(layers)
        .layer(measured)
}

/// Nothing is served under a path.
async fn nothing(headers: HeaderMap) -> Response {
    if grpc::is_call(&headers) {
        return grpc::unknown_method();
    }
    Problem::not_found("there is nothing under this path").into_response()
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
    log_panic(cause.as_ref());
    Problem::internal().into_response()
}

pub(crate) fn log_panic(cause: &(dyn Any + Send)) {
    let message = cause
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(message, "a request panicked");
}
