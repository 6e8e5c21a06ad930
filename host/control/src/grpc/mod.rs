//! `streamspace.api.v1`: the API for gRPC clients, on the port of REST. Nothing is decided here. A call is read into what
//! the function behind the REST handler takes, and what that gives is shown with the REST API's own views: the two cannot
//! come to differ.

mod admin;
mod call;
mod contract;
mod health;
mod sessions;
mod status;
mod templates;
mod watch;

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use streamspace_proto::api::v1 as proto;
use tonic::Status;
use tonic::server::NamedService;
use tower::Service;
use tower_http::catch_panic::CatchPanicLayer;

use crate::control::Shared;
use crate::rest::auth::{bearer, who};
use crate::rest::credential::Credential;
use crate::rest::extract::media_type;
use crate::rest::problem::Problem;
pub(crate) use contract::Contract;

/// The services of gRPC clients, each method under its own path.
pub(crate) fn router(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    use proto::admin_service_server::AdminServiceServer;
    use proto::session_service_server::SessionServiceServer;
    use proto::template_service_server::TemplateServiceServer;
    use proto::watch_service_server::WatchServiceServer;

    let (contract, limit) = (&shared.contract, shared.config.body_limit);
    let sessions = SessionServiceServer::new(sessions::Sessions(Arc::clone(shared)));
    let templates = TemplateServiceServer::new(templates::Templates(Arc::clone(shared)));
    let admin = AdminServiceServer::new(admin::Admin(Arc::clone(shared)));
    let watch = WatchServiceServer::new(watch::Watch(Arc::clone(shared)));
    let mut authenticated = Router::new();
    authenticated = serve(authenticated, contract, sessions.max_decoding_message_size(limit));
    authenticated = serve(authenticated, contract, templates.max_decoding_message_size(limit));
    authenticated = serve(authenticated, contract, admin.max_decoding_message_size(limit));
    authenticated = serve(authenticated, contract, watch.max_decoding_message_size(limit));
    // Nobody says who they are to ask for these, as under /readyz and /api/openapi.json.
    let health = serve(Router::new(), contract, health::service(Arc::clone(shared)));
    authenticated
        .route_layer(from_fn_with_state(Arc::clone(shared), authenticate))
        .merge(health)
        .merge(contract.reflection())
        .route_layer(from_fn(calls_only))
        .route_layer(CatchPanicLayer::custom(panicked))
}

fn serve<S>(router: Router<Arc<Shared>>, contract: &Contract, service: S) -> Router<Arc<Shared>>
where
    S: Service<Request, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    contract.methods(S::NAME).fold(router, |router, path| router.route_service(&path, service.clone()))
}

/// Whether a request is a call: the media type says so.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|essence| {
        essence.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
    })
}

/// The answer to a call of what is not there.
pub(crate) fn unknown_method() -> Response {
    Status::unimplemented("there is no such method").into_http()
}

/// What an answer would have for a status over plain HTTP, as far as its head tells: a stream that breaks later has begun
/// well.
pub(crate) fn status_of(response: &Response) -> StatusCode {
    Status::from_header_map(response.headers())
        .map_or_else(|| response.status(), |status| status::over_http(status.code()))
}

/// Lets only calls through.
async fn calls_only(request: Request, next: Next) -> Response {
    if is_call(request.headers()) {
        next.run(request).await
    } else {
        Problem::unsupported_media_type_but("application/grpc").into_response()
    }
}

/// Lets only calls with a valid token through, and says whose they are.
async fn authenticate(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    match who(&shared, request.headers(), request.extensions()).await {
        Ok(caller) => {
            let credential = bearer(request.headers()).map(Credential::of);
            request.extensions_mut().insert(caller);
            if let Some(credential) = credential {
                request.extensions_mut().insert(credential);
            }
            next.run(request).await
        }
        Err(problem) => Status::from(problem).into_http(),
    }
}

fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    crate::rest::log_panic(cause.as_ref());
    Status::from(Problem::internal()).into_http()
}
