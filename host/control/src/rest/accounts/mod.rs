//! Users, their tokens, and who the caller is.

mod tokens;
mod users;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{delete, get};
use axum::{Extension, Router};
use serde::Serialize;
use serde_json::json;

use super::auth::Caller;
use super::problem::Problem;
use super::query::Parameters;
use crate::control::Shared;

/// The longest name or address, in bytes.
const LONGEST_LINE: usize = 256;

/// The paths of users and tokens.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/tokens", get(tokens::list_own).post(tokens::create_own))
        .route("/api/v1/tokens/{id}", delete(tokens::delete_own))
        .route("/api/v1/admin/tokens", get(tokens::list).post(tokens::create))
        .route("/api/v1/admin/tokens/{id}", delete(tokens::delete))
        .route("/api/v1/admin/users", get(users::list).post(users::create))
        .route("/api/v1/admin/users/{id}", get(users::get).patch(users::patch).delete(users::delete))
}

#[derive(Serialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

/// `GET /api/v1/me`: who calls, and what they may do with this token.
async fn me(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let user = shared.store.user(&caller.user_id).await?;
    let user = user.ok_or_else(|| Problem::unauthorized("the user is not known any more"))?;
    Ok(Json(json!({
        "user_id": caller.user_id,
        "role": caller.role,
        "user": user,
        "token": caller.token,
    }))
    .into_response())
}
