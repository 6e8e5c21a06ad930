//! Counts and times requests, by the template of their path.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use tokio::time::Instant;

use crate::control::Shared;
use crate::grpc;
use crate::metrics::RequestLabels;

/// For all paths under which there is nothing: there is no end of those.
const NO_ROUTE: &str = "none";

pub(super) async fn measure(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str).to_owned();
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = grpc::status_of(&response).as_u16();
    let labels = RequestLabels { method, route, status };
    shared.metrics.request(labels, begun.elapsed().as_secs_f64());
    response
}

/// A method may be any word; only those that mean something are told apart.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
