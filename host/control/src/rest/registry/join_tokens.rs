//! `/api/v1/admin/join-tokens`: what lets controllers in that are not known yet.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::Shared;
use crate::domain::{GoDuration, JoinToken, now, sha256_hex};
use crate::rest::auth::{Admin, Caller};
use crate::rest::cursor::{read_cursor, write_cursor};
use crate::rest::extract::{Body, Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query};
use crate::rest::openapi::Refused;
use crate::rest::problem::Problem;
use crate::rest::validate::Faults;
use crate::store::{JoinTokenCreated, Position};

/// What every secret begins with, so that people and scanners of leaked secrets know one when they see it.
const PREFIX: &str = "ssj_";
/// Who has more than that has lost track of them.
const MOST: u32 = 1000;
/// The longest name, in bytes.
const LONGEST_NAME: usize = 256;
/// How long a token is taken unless somebody says otherwise, in hours …
const USUAL_HOURS: i64 = 24;
/// … and at most, in days.
const MOST_DAYS: i64 = 3660;

/// A new join token as it is written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJoinToken {
    /// For people.
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    name: String,
    /// The one type of controllers that it lets in; any without it.
    #[serde(default)]
    #[schema(max_length = 512)]
    controller_type: Option<String>,
    /// The one name of controllers that it lets in; any without it.
    #[serde(default)]
    #[schema(max_length = 512)]
    controller_name: Option<String>,
    /// For how long it is taken.
    #[serde(default)]
    #[schema(
        pattern = r"^(\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)?$",
        default = "24h",
        example = "24h"
    )]
    expires_in: Option<String>,
}

impl Body for NewJoinToken {}

/// A join token at its creation: the only time that its secret is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = NewJoinTokenWithSecret)]
struct Made<'a> {
    #[serde(flatten)]
    token: &'a JoinToken,
    secret: &'a str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = JoinTokenPage)]
struct Page {
    items: Vec<JoinToken>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which join tokens are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedJoinTokens {
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9a-fA-F]+$")]
    cursor: Option<Position>,
}

impl ParameterSet for WantedJoinTokens {
    fn take(given: &mut Parameters) -> Self {
        Self { limit: given.limit(), cursor: given.take("cursor", read_cursor) }
    }
}

/// List join tokens
///
/// Newest first, without their secrets. For administrators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/join-tokens",
    operation_id = "list_join_tokens",
    tag = "Remote controllers",
    params(WantedJoinTokens),
    responses((status = 200, body = Page, description = "A page of them."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Admin,
    Query(WantedJoinTokens { limit, cursor }): Query<WantedJoinTokens>,
) -> Result<Response, Problem> {
    // One more than asked for tells whether there is a next page.
    let mut items = shared.store.join_tokens(cursor.as_ref(), limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next_cursor = items
        .last()
        .filter(|_| more)
        .map(|last| write_cursor(&Position { created_at: last.created_at, id: last.id.clone() }));
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// Make a join token
///
/// The answer is the only one with its secret. Controllers that it lets in get tokens of their own: it is not needed any more
/// then, and may expire. For administrators.
#[utoipa::path(
    post,
    path = "/api/v1/admin/join-tokens",
    operation_id = "create_join_token",
    tag = "Remote controllers",
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
    Json(new): Json<NewJoinToken>,
) -> Result<Response, Problem> {
    let token = validate(new, &caller)?;
    let secret = format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 32]>()));
    match shared.store.create_join_token(caller.actor(), token, &sha256_hex(&secret), MOST).await? {
        JoinTokenCreated::Stored(token) => {
            tracing::info!(token = token.id, "a join token was made");
            // It must stay nowhere on its way.
            let uncached = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            Ok((StatusCode::CREATED, uncached, Json(Made { token: &token, secret: &secret })).into_response())
        }
        JoinTokenCreated::TooMany => {
            let detail = format!("there are {MOST} join tokens already; delete one first");
            Err(Problem::conflict("too-many", &detail))
        }
    }
}

fn validate(new: NewJoinToken, caller: &Caller) -> Result<JoinToken, Problem> {
    let mut faults = Faults::default();
    if new.name.trim().is_empty() {
        faults.add("name", "must not be empty");
    }
    faults.line("name", &new.name, LONGEST_NAME);
    for (field, text) in
        [("controller_type", &new.controller_type), ("controller_name", &new.controller_name)]
    {
        if let Some(text) = text {
            faults.id(field, text);
        }
    }
    let life = faults.parsed("expires_in", new.expires_in, GoDuration::parse);
    let life = life.map_or(Some(chrono::Duration::hours(USUAL_HOURS)), |life| {
        chrono::Duration::from_std(life.length())
            .ok()
            .filter(|life| *life <= chrono::Duration::days(MOST_DAYS))
    });
    if life.is_none() {
        faults.add("expires_in", format!("more than {MOST_DAYS} days"));
    }
    faults.finish()?;
    let at = now();
    Ok(JoinToken {
        id: JoinToken::new_id(),
        name: new.name,
        controller_type: new.controller_type,
        controller_name: new.controller_name,
        created_by: caller.user_id.clone(),
        created_at: at,
        expires_at: chrono::SubsecRound::trunc_subsecs(at + life.unwrap_or_default(), 6),
        last_used_at: None,
    })
}

/// Revoke a join token
///
/// It lets nobody in from this moment on. Controllers that it has let in stay. For administrators.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/join-tokens/{id}",
    operation_id = "delete_join_token",
    tag = "Remote controllers",
    params(AnyJoinToken),
    responses((status = 204, description = "It is revoked."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    _: Query<NoParameters>,
    Path(AnyJoinToken(id)): Path<AnyJoinToken>,
) -> Result<StatusCode, Problem> {
    if !shared.store.delete_join_token(caller.actor(), &id).await? {
        return Err(AnyJoinToken::unknown());
    }
    tracing::info!(token = id, "a join token was revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// A join token as a path names it; whether there is one is seen when it is used.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct AnyJoinToken(
    /// The join token's id.
    String,
);

impl InPath for AnyJoinToken {
    async fn find(name: String, _: &Caller, _: &Shared) -> Found<Self> {
        Ok(Some(Self(name)))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no join token with this id")
    }
}
