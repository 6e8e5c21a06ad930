//! `GET /api/v1/admin/audit`: who changed what.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, SubsecRound as _, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::Operator;
use super::cursor::{read_number_cursor, write_number_cursor};
use super::extract::{Json, ParameterSet, Parameters, Query};
use super::openapi::Refused;
use super::problem::Problem;
use crate::control::Shared;
use crate::domain::AuditEntry;
use crate::store::AuditFilter;

/// Which entries are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only what this user did, or this rule of the server.
    #[param(max_length = 512)]
    actor: Option<String>,
    /// Only this, e.g. `session.create`.
    #[param(max_length = 512)]
    action: Option<String>,
    /// Only what was done to this: a session's, token's, user's or controller's id, a template's name.
    #[param(max_length = 512)]
    target: Option<String>,
    /// Not before this time (RFC 3339).
    since: Option<DateTime<Utc>>,
    /// Before this time (RFC 3339).
    until: Option<DateTime<Utc>>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9a-fA-F]+$")]
    cursor: Option<i64>,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        Self {
            actor: given.short("actor"),
            action: given.short("action"),
            target: given.short("target"),
            since: given.take("since", time),
            until: given.take("until", time),
            limit: given.limit(),
            cursor: given.take("cursor", read_number_cursor),
        }
    }
}

/// As fine as what it is compared with, and within the years that sort as they are written.
fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|_| "must be a time like 2026-01-31T09:00:00Z".to_owned())?
        .with_timezone(&Utc)
        .trunc_subsecs(6);
    let end = DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    Ok(time.clamp(DateTime::<Utc>::UNIX_EPOCH, end))
}

/// Who did something.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditActor)]
struct ActorView {
    /// `user` = a caller of the API, `system` = a rule of the server.
    kind: String,
    /// The user's id, or the rule: `configuration`, `idle-timeout`, `max-duration`, `expiry`, `drift`.
    id: String,
    /// What the user could do with the token.
    #[schema(required)]
    role: Option<String>,
    /// The token that the user called with.
    #[schema(required)]
    token_id: Option<String>,
    /// Its name at the time.
    #[schema(required)]
    token_name: Option<String>,
}

/// What something was done to.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditTarget)]
struct TargetView {
    /// `session`, `template`, `token`, `user`, `controller`, `quota`, …
    kind: String,
    /// Its id or name.
    id: String,
}

/// One change.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct EntryView {
    /// Its place: later changes have higher ones.
    id: i64,
    /// When, by the clock of the database.
    at: DateTime<Utc>,
    actor: ActorView,
    /// What was done, e.g. `session.create`.
    action: String,
    target: TargetView,
    /// What else is to be known, by action; never a secret.
    #[schema(value_type = Object)]
    details: Value,
    /// The request that asked for it: its `X-Request-Id`.
    #[schema(required)]
    request_id: Option<String>,
}

impl From<AuditEntry> for EntryView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            actor: ActorView {
                kind: entry.actor_kind,
                id: entry.actor,
                role: entry.role,
                token_id: entry.token_id,
                token_name: entry.token_name,
            },
            action: entry.action,
            target: TargetView { kind: entry.target_kind, id: entry.target },
            details: entry.details,
            request_id: entry.request_id,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
struct Page {
    items: Vec<EntryView>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Read the audit log
///
/// Newest first: every change of sessions, templates, tokens, users, controllers and quotas, with who made it. For
/// operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/audit",
    operation_id = "list_audit",
    tag = "Operation",
    params(Wanted),
    responses((status = 200, body = Page, description = "A page of it."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let Wanted { actor, action, target, since, until, limit, cursor } = wanted;
    let filter = AuditFilter { actor, action, target, since, until };
    // One more than asked for tells whether there is a next page.
    let mut entries = shared.store.audit(&filter, cursor, limit + 1).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next_cursor = entries.last().filter(|_| more).map(|last| write_number_cursor(last.id));
    let items = entries.into_iter().map(EntryView::from).collect();
    Ok(Json(Page { items, next_cursor }).into_response())
}
