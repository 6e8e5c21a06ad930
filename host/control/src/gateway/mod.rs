//! The way of browsers to sessions: `/s/<session>/…` of this server, whatever infrastructure the session runs on.
//!
//! Addresses and passwords of the backend are asked for when a connection is made, live in memory only, and never
//! reach the browser.

mod activity;
mod added;
mod address;
mod authorize;
mod connect;
mod forward;
mod headers;
mod page;
mod pool;
mod rfb;
pub(crate) mod service;
mod ticket;
mod tls;
mod way;

use std::sync::Arc;

use axum::routing::any;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::Shared;
use crate::rest::auth::authenticate;
use crate::rest::extract::Serves;
use crate::rest::openapi::behind_a_token;
pub(crate) use activity::Activity;
use connect::Connector;
use pool::Pool;

/// What the gateway's handlers share.
pub(crate) struct Gateway {
    shared: Arc<Shared>,
    connector: Arc<Connector>,
    pool: Pool,
}

impl Serves for Arc<Gateway> {
    fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Everything under `/s/`, and what of the API belongs to it. Below `/s/` applications of others answer: that is not
/// part of the API's description.
pub(crate) fn router(shared: Arc<Shared>) -> OpenApiRouter {
    let connector = Arc::new(Connector::new(Arc::clone(&shared)));
    let pool = Pool::new(Arc::clone(&connector));
    let authenticated = axum::middleware::from_fn_with_state(Arc::clone(&shared), authenticate);
    let gateway = Arc::new(Gateway { shared, connector, pool });
    let mut tickets = OpenApiRouter::default().routes(routes!(ticket::issue)).route_layer(authenticated);
    behind_a_token(tickets.get_openapi_mut());
    OpenApiRouter::default()
        .merge(tickets)
        .routes(routes!(rfb::api))
        .route("/s/{session}", any(forward::without_slash))
        .route("/s/{session}/", any(forward::forward))
        .route("/s/{session}/{*path}", any(forward::forward))
        .with_state(gateway)
}
