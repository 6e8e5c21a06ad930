//! `PATCH /api/v1/sessions/{id}`, `POST …/hibernate`, `POST …/wake`, `POST …/heartbeat`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::extract::{InPath as _, JsonText, NoParameters, Path, Query, Waiting, read_strictly};
use super::idempotency::RepeatKey;
use super::openapi::Refused;
use super::problem::{FieldError, Problem};
use super::sessions::{VisibleRecord, VisibleSession, wait_until};
use super::view::SessionView;
use crate::control::Shared;
use crate::domain::{Actor, SessionId, WishedState, now};
use crate::store::{ActivitySign, IdempotencyKey, NewWish, SessionRecord, Wished};

/// Signs of a user that follow each other sooner than that are one.
const ACTIVITY_GRAIN: Duration = Duration::from_secs(5);

/// A merge patch (RFC 7396) of what callers may change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SessionPatch)]
pub(super) struct Patch {
    /// What is wanted. Absent = left as it is; `null` would remove it, which makes no sense.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = WishedState, required = false)]
    state: Option<String>,
}

/// A field that is there has a value.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// What a request wants of a session.
pub(crate) struct Wanted {
    pub(crate) by: Actor,
    pub(crate) state: WishedState,
    pub(crate) wait: Option<Duration>,
    pub(crate) key: Option<IdempotencyKey>,
}

/// Change what is wanted of a session
///
/// The last wish wins. The same wish again changes nothing, unless the session failed: then it is tried again.
#[utoipa::path(
    patch,
    path = "/api/v1/sessions/{id}",
    operation_id = "change_session",
    tag = "Sessions",
    params(Waiting, VisibleSession, RepeatKey),
    request_body(content(
        (Patch = "application/json"),
        (Patch = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, body = SessionView<'_>, description = "Nothing is left to do for this wish."),
        (status = 202, body = SessionView<'_>, description = "It is under way."),
        Refused<400>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(Waiting { wait }): Query<Waiting>,
    key: RepeatKey,
    Path(VisibleSession(id)): Path<VisibleSession>,
    JsonText(body): JsonText,
) -> Result<Answer, Problem> {
    let Patch { state } = read_strictly(&body)?;
    let state = state.map(|text| {
        let fault = || FieldError::new("state", "must be running, hibernated or terminated");
        WishedState::parse(&text).ok_or_else(|| Problem::invalid(vec![fault()]))
    });
    let Some(state) = state.transpose()? else {
        // A patch of nothing.
        let record = shared.store.session(&id).await?.ok_or_else(VisibleSession::unknown)?;
        return Ok(Answer::of(&record));
    };
    let key = key.bound_to(&wanted(&Method::PATCH, &id, "", &body), &caller, &shared);
    wish(&shared, id, Wanted { by: caller.actor(), state, wait, key }).await
}

/// Hibernate a session
///
/// Nothing runs then, and everything is kept.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/hibernate",
    operation_id = "hibernate_session",
    tag = "Sessions",
    params(Waiting, VisibleSession, RepeatKey),
    responses(
        (status = 200, body = SessionView<'_>, description = "It is hibernated."),
        (status = 202, body = SessionView<'_>, description = "It is under way."),
        Refused<400>,
        Refused<409>,
        Refused<503>,
    ),
)]
pub(super) async fn hibernate(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(Waiting { wait }): Query<Waiting>,
    key: RepeatKey,
    Path(VisibleSession(id)): Path<VisibleSession>,
) -> Result<Answer, Problem> {
    let key = key.bound_to(&wanted(&Method::POST, &id, "/hibernate", b""), &caller, &shared);
    wish(&shared, id, Wanted { by: caller.actor(), state: WishedState::Hibernated, wait, key }).await
}

/// Wake a session
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/wake",
    operation_id = "wake_session",
    tag = "Sessions",
    params(Waiting, VisibleSession, RepeatKey),
    responses(
        (status = 200, body = SessionView<'_>, description = "It runs."),
        (status = 202, body = SessionView<'_>, description = "It is under way."),
        Refused<400>,
        Refused<409>,
        Refused<503>,
    ),
)]
pub(super) async fn wake(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(Waiting { wait }): Query<Waiting>,
    key: RepeatKey,
    Path(VisibleSession(id)): Path<VisibleSession>,
) -> Result<Answer, Problem> {
    let key = key.bound_to(&wanted(&Method::POST, &id, "/wake", b""), &caller, &shared);
    wish(&shared, id, Wanted { by: caller.actor(), state: WishedState::Running, wait, key }).await
}

/// Say that somebody uses a session
///
/// Requests through the gateway count by themselves.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/heartbeat",
    operation_id = "beat_session",
    tag = "Sessions",
    params(VisibleRecord),
    responses((status = 204, description = "It is noted."), Refused<400>, Refused<503>),
)]
pub(super) async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    _: Query<NoParameters>,
    Path(VisibleRecord(record)): Path<VisibleRecord>,
) -> Result<StatusCode, Problem> {
    beat(&shared, record).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Notes that somebody uses a session.
pub(crate) async fn beat(
    shared: &Shared,
    SessionRecord { session, .. }: SessionRecord,
) -> Result<(), Problem> {
    let at = now();
    // It counts at once on this server, even if it is not written down.
    shared.activity.noted(&session.id, at);
    // What is known is recent enough: no write for every beat.
    let grain = ACTIVITY_GRAIN.min(shared.config.activity_interval);
    let recent = |known: DateTime<Utc>| (at - known).to_std().is_ok_and(|age| age < grain);
    if !session.last_activity.is_some_and(recent) {
        shared.store.record_activity(vec![ActivitySign { session_id: session.id, at }]).await?;
    }
    Ok(())
}

/// Everything that a request says about what it wants.
pub(crate) fn wanted(method: &Method, id: &SessionId, verb: &str, body: &[u8]) -> Vec<u8> {
    let mut all = format!("{method} /api/v1/sessions/{id}{verb}\n").into_bytes();
    all.extend_from_slice(body);
    all
}

/// Stores a wish and answers as soon as it is durable, or, if asked to wait, as soon as it was fulfilled, finally
/// failed or replaced by another.
pub(crate) async fn wish(shared: &Shared, id: SessionId, wanted: Wanted) -> Result<Answer, Problem> {
    let Wanted { by, state, wait, key } = wanted;
    let mut listener = shared.changes.subscribe();
    let new = NewWish { by, session_id: id.clone(), state, idempotency: key, render: SessionView::render };
    let (record, body) = match shared.store.wish(new).await? {
        Wished::Stored(record) => {
            streamspace_failpoint::hit("control.patch.committed");
            tracing::info!(session = %id, state = state.as_str(), "a session is wished otherwise");
            shared.changes.changed(&id);
            shared.wake.notify_one();
            (*record, None)
        }
        Wished::Unchanged(record) => (*record, None),
        Wished::Replayed { response } => {
            let record = shared.store.session(&id).await?.ok_or_else(VisibleSession::unknown)?;
            (record, Some(response))
        }
        Wished::KeyMismatch => {
            let detail = "this Idempotency-Key was used for another request";
            return Err(Problem::conflict("idempotency-key", detail));
        }
        Wished::OverQuota(excess) => return Err(Problem::over_quota(excess)),
        Wished::Deleting => return Err(Problem::conflict("deleting", "the session is being deleted")),
        Wished::Unsupported => {
            let detail = "the session's controller cannot hibernate sessions";
            return Err(Problem::conflict("unsupported", detail));
        }
        Wished::NoRoom => {
            let detail =
                "the session's controller has no room for it to run now; what it had, others have got";
            return Err(Problem::conflict("no-room", detail));
        }
        Wished::NoSuchSession => return Err(VisibleSession::unknown()),
    };
    let Some(wait) = wait else {
        return Ok(body.map_or_else(|| Answer::of(&record), Answer::replayed));
    };
    let wished = record.session.generation;
    let enough = |now: &SessionRecord| now.session.generation != wished || now.is_answered();
    // Gone in the meantime: then the first answer is the last there is.
    let last = wait_until(shared, &mut listener, &id, wait, enough).await?;
    Ok(Answer::of(&last.unwrap_or(record)))
}

/// A session of which something was wished.
pub(crate) struct Answer {
    /// Nothing is left to do for the wish.
    pub(crate) settled: bool,
    /// As JSON.
    pub(crate) session: String,
}

impl Answer {
    pub(crate) fn of(record: &SessionRecord) -> Self {
        Self { settled: record.is_answered(), session: SessionView::render(record) }
    }

    /// What was answered to an earlier request with the same key.
    pub(super) fn replayed(session: String) -> Self {
        Self { settled: false, session }
    }
}

/// 200 when nothing is left to do for the session's wish, 202 until then.
impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = if self.settled { StatusCode::OK } else { StatusCode::ACCEPTED };
        (status, [(header::CONTENT_TYPE, "application/json")], self.session).into_response()
    }
}
