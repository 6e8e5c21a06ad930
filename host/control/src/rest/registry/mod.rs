//! Controllers that run elsewhere: what lets them in, their registration, and their signs of life.

mod credential;
mod heartbeat;
mod join_tokens;
mod keys;
mod refusals;
mod register;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::Shared;
pub(super) use refusals::Refusals;

/// The version of what controllers and servers say to each other here.
const API_VERSION: &str = "v1alpha1";

/// What administrators do.
pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::default()
        .routes(routes!(join_tokens::list, join_tokens::create))
        .routes(routes!(join_tokens::delete))
}

/// What controllers do, which have tokens of their own.
pub(super) fn of_controllers() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::default().routes(routes!(register::register)).routes(routes!(heartbeat::heartbeat))
}
