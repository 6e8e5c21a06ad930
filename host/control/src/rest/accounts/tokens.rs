//! Tokens: one's own under `/api/v1/tokens`, everybody's under `/api/v1/admin/tokens` for administrators.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use chrono::{DateTime, Utc};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{LONGEST_LINE, Page};
use crate::control::Shared;
use crate::domain::{GoDuration, Role, Token, now, sha256_hex};
use crate::rest::auth::Caller;
use crate::rest::body::read;
use crate::rest::create::{expect_json, read_body};
use crate::rest::problem::{FieldError, Problem};
use crate::rest::query::{Parameters, read_cursor, write_cursor};
use crate::rest::validate::Faults;
use crate::store::{Position, TokenCreated};

/// What every secret begins with, so that people and scanners of leaked secrets know one when they see it.
const PREFIX: &str = "ss_";
/// A user with more tokens than that has lost track of them.
const MOST_TOKENS: u32 = 100;

/// A new token as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    #[serde(default, alias = "user")]
    user_id: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    expires_in: Option<String>,
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
}

/// A token at its creation: the only time that its secret is shown.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    token: &'a Token,
    secret: &'a str,
}

/// `GET /api/v1/tokens`.
pub(super) async fn list_own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    page(&shared, request, &["limit", "cursor"], Some(caller.user_id)).await
}

/// `GET /api/v1/admin/tokens`.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    page(&shared, request, &["user_id", "limit", "cursor"], None).await
}

async fn page(
    shared: &Shared,
    request: Request,
    allowed: &[&str],
    user_id: Option<String>,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let mut parameters = Parameters::read(&mut parts, allowed).await?;
    let user_id = user_id.or(parameters.take("user_id", |text| Ok(text.to_owned())));
    let limit = parameters.limit();
    let after = parameters.take("cursor", read_cursor);
    parameters.finish()?;
    // One more than asked for tells whether there is a next page.
    let mut items = shared.store.tokens(user_id.as_deref(), after.as_ref(), limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next_cursor = items
        .last()
        .filter(|_| more)
        .map(|last| write_cursor(&Position { created_at: last.created_at, id: last.id.clone() }));
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// `POST /api/v1/tokens`: for oneself.
pub(super) async fn create_own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let new = body(&shared, request).await?;
    if new.user_id.as_ref().is_some_and(|user| *user != caller.user_id) {
        let message = "only administrators may make tokens for others, under /api/v1/admin/tokens";
        return Err(Problem::forbidden_field("user_id", message));
    }
    make(&shared, &caller, new).await
}

/// `POST /api/v1/admin/tokens`: for anybody.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let new = body(&shared, request).await?;
    make(&shared, &caller, new).await
}

async fn make(shared: &Shared, caller: &Caller, new: NewToken) -> Result<Response, Problem> {
    let at = now();
    let mut faults = Faults::default();
    if new.name.trim().is_empty() {
        faults.add("name", "must not be empty");
    }
    faults.line("name", &new.name, LONGEST_LINE);
    let user_id = new.user_id.unwrap_or_else(|| caller.user_id.clone());
    let asked = new.role.as_deref().and_then(Role::parse);
    if new.role.is_some() && asked.is_none() {
        faults.add("role", "must be user, operator or admin");
    }
    let expires_at = expiry(&mut faults, new.expires_in, new.expires_at, at);
    faults.finish()?;
    if asked.is_some_and(|role| role > caller.role) {
        let message = format!("must not be above your own role, {}", caller.role.as_str());
        return Err(Problem::forbidden_field("role", &message));
    }
    let role = match asked {
        Some(role) => role,
        // As much as both may do.
        None => {
            let user = shared.store.user(&user_id).await?.ok_or_else(no_such_user)?;
            user.role.min(caller.role)
        }
    };

    let secret = format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()));
    let token = Token {
        id: Token::new_id(),
        name: new.name,
        user_id,
        role,
        created_by: caller.user_id.clone(),
        created_at: at,
        expires_at,
        last_used_at: None,
    };
    match shared.store.create_token(token, &sha256_hex(&secret), MOST_TOKENS).await? {
        TokenCreated::Stored(token) => {
            tracing::info!(
                token = token.id,
                target_user = token.user_id,
                role = token.role.as_str(),
                "a token was made"
            );
            // It must stay nowhere on its way.
            let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            let made = Json(Made { token: &token, secret: &secret });
            Ok((StatusCode::CREATED, uncached, made).into_response())
        }
        TokenCreated::NoSuchUser => Err(no_such_user()),
        TokenCreated::AboveUser(role) => Err(Problem::invalid(vec![FieldError::new(
            "role",
            format!("must not be above the user's role, {}", role.as_str()),
        )])),
        TokenCreated::TooMany => {
            let detail = format!("the user has {MOST_TOKENS} tokens already; delete one first");
            Err(Problem::conflict("too-many", &detail))
        }
    }
}

/// `DELETE /api/v1/tokens/{id}`: one's own. It is refused from this moment on.
pub(super) async fn delete_own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    revoke(&shared, path, request, Some(&caller.user_id)).await
}

/// `DELETE /api/v1/admin/tokens/{id}`.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    revoke(&shared, path, request, None).await
}

async fn revoke(
    shared: &Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
    of: Option<&str>,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("there is no token with this id");
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let Path(id) = path.map_err(|_| unknown())?;
    if !shared.store.delete_token(&id, of).await? {
        return Err(unknown());
    }
    tracing::info!(token = id, "a token was revoked");
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn no_such_user() -> Problem {
    Problem::invalid(vec![FieldError::new("user_id", "there is no user with this id")])
}

/// Until when a token is taken; a time in the past is a slip of the pen.
fn expiry(
    faults: &mut Faults,
    after: Option<String>,
    at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let after = faults.parsed("expires_in", after, GoDuration::parse);
    if after.is_some() && at.is_some() {
        faults.add("expires_in", "must not be given beside expires_at");
    }
    if at.is_some_and(|at| at <= now) {
        faults.add("expires_at", "is in the past");
    }
    let after = after.and_then(|after| {
        let end =
            chrono::Duration::from_std(after.length()).ok().and_then(|length| now.checked_add_signed(length));
        if end.is_none() {
            faults.add("expires_in", "is too long");
        }
        end
    });
    // Years of five digits would sort before the present.
    let end = after.or(at)?;
    if end.timestamp() > 253_402_300_799 {
        faults.add(if after.is_some() { "expires_in" } else { "expires_at" }, "is too far away");
    }
    Some(chrono::SubsecRound::trunc_subsecs(end, 6))
}

async fn body(shared: &Shared, request: Request) -> Result<NewToken, Problem> {
    let (mut parts, body) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    expect_json(&parts.headers)?;
    let body = read_body(Request::from_parts(parts, body), shared.config.body_limit).await?;
    read(&body)
}
