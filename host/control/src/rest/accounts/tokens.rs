//! Tokens: one's own under `/api/v1/tokens`, everybody's under `/api/v1/admin/tokens` for administrators.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::LONGEST_LINE;
use crate::control::Shared;
use crate::domain::{GoDuration, Role, Token, now, sha256_hex};
use crate::rest::auth::{Admin, Caller};
use crate::rest::cursor::{read_cursor, write_cursor};
use crate::rest::extract::{Body, Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query};
use crate::rest::openapi::Refused;
use crate::rest::problem::{FieldError, Problem};
use crate::rest::validate::Faults;
use crate::store::{Position, TokenCreated};

/// What every secret begins with, so that people and scanners of leaked secrets know one when they see it.
const PREFIX: &str = "ss_";
/// A user with more tokens than that has lost track of them.
const MOST_TOKENS: u32 = 100;

/// A new token as it is written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// For people.
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    name: String,
    /// Who calls with it; the caller if absent. For others: administrators only. Also `user`.
    #[serde(default, alias = "user")]
    user_id: Option<String>,
    /// The most that it can do: at most the caller's own role and the user's. As much as both may if absent.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    role: Option<String>,
    /// For how long it is taken. Without this and `expires_at` it does not expire.
    #[serde(default)]
    #[schema(pattern = r"^(\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)?$", example = "720h")]
    expires_in: Option<String>,
    /// Until when it is taken; not beside `expires_in`.
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
}

impl Body for NewToken {}

/// A token at its creation: the only time that its secret is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = NewTokenWithSecret)]
struct Made<'a> {
    #[serde(flatten)]
    token: &'a Token,
    secret: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TokenPage)]
struct Page {
    items: Vec<Token>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which of one's own tokens are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedOwn {
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9a-fA-F]+$")]
    cursor: Option<Position>,
}

impl ParameterSet for WantedOwn {
    fn take(given: &mut Parameters) -> Self {
        Self { limit: given.limit(), cursor: given.take("cursor", read_cursor) }
    }
}

/// Which tokens are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only those of this user.
    user_id: Option<String>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9a-fA-F]+$")]
    cursor: Option<Position>,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        let user_id = given.take("user_id", |text| Ok(text.to_owned()));
        let WantedOwn { limit, cursor } = WantedOwn::take(given);
        Self { user_id, limit, cursor }
    }
}

/// List one's own tokens
///
/// Newest first, without their secrets.
#[utoipa::path(
    get,
    path = "/api/v1/tokens",
    operation_id = "list_own_tokens",
    tag = "Accounts",
    params(WantedOwn),
    responses((status = 200, body = Page, description = "A page of them."), Refused<400>, Refused<503>),
)]
pub(super) async fn list_own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(WantedOwn { limit, cursor }): Query<WantedOwn>,
) -> Result<Response, Problem> {
    page(&shared, Wanted { user_id: Some(caller.user_id), limit, cursor }).await
}

/// List everybody's tokens
///
/// Newest first, without their secrets. For administrators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/tokens",
    operation_id = "list_tokens",
    tag = "Accounts",
    params(Wanted),
    responses((status = 200, body = Page, description = "A page of them."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Admin,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    page(&shared, wanted).await
}

async fn page(shared: &Shared, wanted: Wanted) -> Result<Response, Problem> {
    let Wanted { user_id, limit, cursor } = wanted;
    // One more than asked for tells whether there is a next page.
    let mut items = shared.store.tokens(user_id.as_deref(), cursor.as_ref(), limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next_cursor = items
        .last()
        .filter(|_| more)
        .map(|last| write_cursor(&Position { created_at: last.created_at, id: last.id.clone() }));
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// Make a token for oneself
///
/// The answer is the only one with its secret.
#[utoipa::path(
    post,
    path = "/api/v1/tokens",
    operation_id = "create_own_token",
    tag = "Accounts",
    responses(
        (
            status = 201,
            body = Made<'_>,
            description = "The token.",
            headers(("Cache-Control" = String, description = "`no-store`: the secret must stay nowhere.")),
        ),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn create_own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    _: Query<NoParameters>,
    Json(new): Json<NewToken>,
) -> Result<Response, Problem> {
    if new.user_id.as_ref().is_some_and(|user| *user != caller.user_id) {
        let message = "only administrators may make tokens for others, under /api/v1/admin/tokens";
        return Err(Problem::forbidden_field("user_id", message));
    }
    make(&shared, &caller, new).await
}

/// Make a token for anybody
///
/// The answer is the only one with its secret. For administrators.
#[utoipa::path(
    post,
    path = "/api/v1/admin/tokens",
    operation_id = "create_token",
    tag = "Accounts",
    responses(
        (
            status = 201,
            body = Made<'_>,
            description = "The token.",
            headers(("Cache-Control" = String, description = "`no-store`: the secret must stay nowhere.")),
        ),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    _: Query<NoParameters>,
    Json(new): Json<NewToken>,
) -> Result<Response, Problem> {
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
    match shared.store.create_token(caller.actor(), token, &sha256_hex(&secret), MOST_TOKENS).await? {
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

/// Revoke a token of one's own
///
/// It is refused from this moment on.
#[utoipa::path(
    delete,
    path = "/api/v1/tokens/{id}",
    operation_id = "delete_own_token",
    tag = "Accounts",
    params(AnyToken),
    responses((status = 204, description = "It is revoked."), Refused<400>, Refused<503>),
)]
pub(super) async fn delete_own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    _: Query<NoParameters>,
    Path(AnyToken(id)): Path<AnyToken>,
) -> Result<StatusCode, Problem> {
    revoke(&shared, &caller, &id, Some(&caller.user_id)).await
}

/// Revoke a token
///
/// It is refused from this moment on. For administrators.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/tokens/{id}",
    operation_id = "delete_token",
    tag = "Accounts",
    params(AnyToken),
    responses((status = 204, description = "It is revoked."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    _: Query<NoParameters>,
    Path(AnyToken(id)): Path<AnyToken>,
) -> Result<StatusCode, Problem> {
    revoke(&shared, &caller, &id, None).await
}

async fn revoke(shared: &Shared, caller: &Caller, id: &str, of: Option<&str>) -> Result<StatusCode, Problem> {
    if !shared.store.delete_token(caller.actor(), id, of).await? {
        return Err(AnyToken::unknown());
    }
    tracing::info!(token = id, "a token was revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// A token as a path names it; whether there is one is seen when it is used.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct AnyToken(
    /// The token's id.
    String,
);

impl InPath for AnyToken {
    async fn find(name: String, _: &Caller, _: &Shared) -> Found<Self> {
        Ok(Some(Self(name)))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no token with this id")
    }
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
