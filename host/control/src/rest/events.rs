//! `GET /api/v1/sessions/{id}/events`, and how an event looks from outside.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::auth::Caller;
use super::problem::Problem;
use super::query::Parameters;
use super::sessions::unknown;
use crate::control::Shared;
use crate::domain::{Event, EventCursor, Generation, SessionId};
use crate::store::{EventQuery, EventScope};

/// Events on a page, if the caller does not say.
const DEFAULT_LIMIT: u32 = 100;
/// Events on a page at most.
const LARGEST_LIMIT: u32 = 1000;

/// An event as callers see it: in lists and on WebSockets.
#[derive(Debug, Serialize)]
pub(super) struct EventView<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    cursor: String,
    time: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    reason: &'a str,
    message: &'a str,
    data: &'a Value,
}

impl<'a> EventView<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
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

#[derive(Serialize)]
struct Page<'a> {
    items: Vec<EventView<'a>>,
    next_cursor: Option<String>,
}

/// Oldest first: `after` the last one seen goes on where an earlier answer ended.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let mut parameters = Parameters::read(&mut parts, &["after", "limit"]).await?;
    let after = parameters.take("after", read_cursor);
    let limit = parameters.take("limit", |text| match text.parse::<u32>() {
        Ok(limit) if (1..=LARGEST_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(format!("must be a number from 1 to {LARGEST_LIMIT}")),
    });
    parameters.finish()?;
    let Path(id) = path.map_err(|_| unknown())?;
    let id = SessionId::parse(&id).map_err(|_| unknown())?;
    // The events outlive the session.
    let owner = match shared.store.session_owner(&id).await? {
        Some(owner) => Some(owner),
        None => shared.store.event_owner(&id).await?,
    };
    if !owner.is_some_and(|owner| caller.sees(&owner)) {
        return Err(unknown());
    }

    let limit = limit.unwrap_or(DEFAULT_LIMIT);
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
    Ok(Json(Page { items: events.iter().map(EventView::new).collect(), next_cursor }).into_response())
}

pub(super) fn read_cursor(text: &str) -> Result<EventCursor, String> {
    EventCursor::parse(text).ok_or_else(|| "not a cursor of an event".to_owned())
}
