//! Users, their tokens, and who the caller is.

mod tokens;
mod users;

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Caller;
use super::extract::{Json, NoParameters, Query};
use super::openapi::Refused;
use super::problem::Problem;
use crate::control::Shared;
use crate::domain::{Role, Token, User};

/// The longest name or address, in bytes.
const LONGEST_LINE: usize = 256;

/// The paths of users and tokens.
pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::default()
        .routes(routes!(me))
        .routes(routes!(tokens::list_own, tokens::create_own))
        .routes(routes!(tokens::delete_own))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get, users::patch, users::delete))
}

/// Who calls.
#[derive(Serialize, ToSchema)]
struct Me<'a> {
    user_id: &'a str,
    /// What they may do with this token.
    role: Role,
    user: User,
    token: &'a Token,
}

/// Read who calls
///
/// And what they may do with this token.
#[utoipa::path(
    get,
    path = "/api/v1/me",
    operation_id = "get_me",
    tag = "Accounts",
    responses((status = 200, body = Me<'_>, description = "The caller."), Refused<400>, Refused<503>),
)]
async fn me(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    _: Query<NoParameters>,
) -> Result<Response, Problem> {
    let user = shared.store.user(&caller.user_id).await?;
    let user = user.ok_or_else(|| Problem::unauthorized("the user is not known any more"))?;
    let me = Me { user_id: &caller.user_id, role: caller.role, user, token: &caller.token };
    Ok(Json(me).into_response())
}
