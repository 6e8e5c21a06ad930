//! `GET /api/v1/sessions/{id}/events`, and how an event looks from outside.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::Caller;
use super::extract::{Found, InPath, Json, ParameterSet, Parameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use super::sessions::VisibleSession;
use crate::control::Shared;
use crate::domain::{Event, EventCursor, Generation, SessionId};
use crate::store::{EventQuery, EventScope};

/// Events on a page, if the caller does not say.
const DEFAULT_LIMIT: u32 = 100;
/// Events on a page at most.
const LARGEST_LIMIT: u32 = 1000;

/// An event: in lists and on WebSockets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventView<'a> {
    /// What happened, like `session.phase_changed`.
    #[serde(rename = "type")]
    kind: &'a str,
    /// Its place in the order of all events.
    cursor: String,
    time: DateTime<Utc>,
    /// The session it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    session_id: Option<&'a str>,
    /// The owner of that session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<&'a str>,
    /// The controller it is about, if it is about no session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    controller_id: Option<&'a str>,
    /// The session's generation at the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    generation: Option<Generation>,
    /// Why, in one word for programs; may be empty.
    reason: &'a str,
    /// Why, in a sentence for people; may be empty.
    message: &'a str,
    /// The details, by type.
    data: &'a Value,
}

impl<'a> EventView<'a> {
    pub(crate) fn new(event: &'a Event) -> Self {
        Self {
            kind: &event.kind,
            cursor: event.cursor.to_string(),
            time: event.at,
            session_id: event.session_id.as_deref(),
            user_id: event.user_id.as_deref(),
            controller_id: event.controller_id.as_deref(),
            generation: event.generation,
            reason: &event.reason,
            message: &event.message,
            data: &event.data,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
struct Page<'a> {
    items: Vec<EventView<'a>>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which events are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only those after this one: `next_cursor`, or the cursor of the last event that was seen.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,19}$")]
    after: Option<EventCursor>,
    /// Events on a page.
    #[param(minimum = 1, maximum = 1000, default = 100, required = false)]
    limit: u32,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        Self {
            after: given.take("after", read_cursor),
            limit: given.number("limit", LARGEST_LIMIT).unwrap_or(DEFAULT_LIMIT),
        }
    }
}

/// List what happened to a session
///
/// Oldest first; also of deleted sessions, for 7 days.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}/events",
    operation_id = "list_session_events",
    tag = "Watching",
    params(Wanted, RememberedSession),
    responses((status = 200, body = Page<'_>, description = "A page of them."), Refused<400>, Refused<503>),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(wanted): Query<Wanted>,
    Path(RememberedSession(id)): Path<RememberedSession>,
) -> Result<Response, Problem> {
    let (events, next_cursor) = page(&shared, id, wanted).await?;
    Ok(Json(Page { items: events.iter().map(EventView::new).collect(), next_cursor }).into_response())
}

/// A page of a session's events, and the cursor of the next one.
pub(crate) async fn page(
    shared: &Shared,
    id: SessionId,
    Wanted { after, limit }: Wanted,
) -> Result<(Vec<Event>, Option<String>), Problem> {
    let query = EventQuery {
        scope: EventScope { user_id: None, sessions: vec![id] },
        after: after.unwrap_or(EventCursor::START),
        // One more than asked for tells whether there is a next page.
        limit: limit + 1,
    };
    let mut events = shared.store.events(&query).await?.events;
    let more = events.len() > limit as usize;
    events.truncate(limit as usize);
    let next_cursor = events.last().filter(|_| more).map(|last| last.cursor.to_string());
    Ok((events, next_cursor))
}

/// A session whose events the caller may see: they outlive it.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(crate) struct RememberedSession(
    /// The session's id.
    pub(crate) SessionId,
);

impl InPath for RememberedSession {
    async fn find(name: String, caller: &Caller, shared: &Shared) -> Found<Self> {
        let Ok(id) = SessionId::parse(&name) else { return Ok(None) };
        let owner = match shared.store.session_owner(&id).await? {
            Some(owner) => Some(owner),
            None => shared.store.event_owner(&id).await?,
        };
        Ok(owner.is_some_and(|owner| caller.sees(&owner)).then_some(Self(id)))
    }

    fn unknown() -> Problem {
        VisibleSession::unknown()
    }
}

pub(super) fn read_cursor(text: &str) -> Result<EventCursor, String> {
    EventCursor::parse(text).ok_or_else(|| "not a cursor of an event".to_owned())
}
