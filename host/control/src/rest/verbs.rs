//! `POST /api/v1/sessions/{id}/retry`, `POST …/forget`: what ends the waiting of a session.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use http::{Method, StatusCode};

use super::auth::{Caller, Operator};
use super::extract::{InPath as _, NoParameters, Path, Query, Waiting};
use super::idempotency::RepeatKey;
use super::openapi::Refused;
use super::problem::Problem;
use super::sessions::{VisibleSession, wait_until};
use super::view::SessionView;
use super::wish::{Answer, wanted};
use crate::control::Shared;
use crate::domain::SessionId;
use crate::store::{NewRetry, Retried, SessionRecord};

/// Try a session again
///
/// What waits is tried at once, with all its time again, and what failed anew.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/retry",
    operation_id = "retry_session",
    tag = "Sessions",
    params(Waiting, VisibleSession, RepeatKey),
    responses(
        (status = 200, body = SessionView<'_>, description = "Nothing is left to do."),
        (status = 202, body = SessionView<'_>, description = "It is under way."),
        Refused<400>,
        Refused<409>,
        Refused<503>,
    ),
)]
pub(super) async fn retry(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(Waiting { wait }): Query<Waiting>,
    key: RepeatKey,
    Path(VisibleSession(id)): Path<VisibleSession>,
) -> Result<Answer, Problem> {
    try_again(&shared, &caller, id, key, wait).await
}

/// Tries a session again, and waits for the outcome if that is asked as well.
pub(crate) async fn try_again(
    shared: &Shared,
    caller: &Caller,
    id: SessionId,
    key: RepeatKey,
    wait: Option<Duration>,
) -> Result<Answer, Problem> {
    let mut listener = shared.changes.subscribe();
    let idempotency = key.bound_to(&wanted(&Method::POST, &id, "/retry", b""), caller, shared);
    let new =
        NewRetry { by: caller.actor(), session_id: id.clone(), idempotency, render: SessionView::render };
    let (record, body) = match shared.store.retry(new).await? {
        Retried::Stored(record) => {
            tracing::info!(session = %id, "a session is tried again");
            shared.changes.changed(&id);
            shared.wake.notify_one();
            (*record, None)
        }
        Retried::NothingToDo(record) => (*record, None),
        Retried::Replayed { response } => {
            let record = shared.store.session(&id).await?.ok_or_else(VisibleSession::unknown)?;
            (record, Some(response))
        }
        Retried::KeyMismatch => {
            let detail = "this Idempotency-Key was used for another request";
            return Err(Problem::conflict("idempotency-key", detail));
        }
        Retried::Unreadable => {
            let detail = "the session cannot be read: it can only be forgotten, or deleted by force";
            return Err(Problem::conflict("unreadable", detail));
        }
        Retried::NoSuchSession => return Err(VisibleSession::unknown()),
    };
    if let Some(controller) = record.session.controller_id() {
        // What is in doubt is looked at as well.
        shared.fleet.probe_now(controller);
        shared.asked.put(controller.clone());
    }
    let Some(wait) = wait else {
        return Ok(body.map_or_else(|| Answer::of(&record), Answer::replayed));
    };
    let tried = record.session.generation;
    let enough = |now: &SessionRecord| now.session.generation != tried || now.is_answered();
    // Gone in the meantime: then the first answer is the last there is.
    let last = wait_until(shared, &mut listener, &id, wait, enough).await?;
    Ok(Answer::of(&last.unwrap_or(record)))
}

/// Forget a session
///
/// Without the word of its controller, for one that does not come back. What it has of the session is removed when it is
/// seen. Also for a session that cannot be read. For operators.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/forget",
    operation_id = "forget_session",
    tag = "Sessions",
    params(VisibleSession),
    responses(
        (status = 204, description = "It is forgotten."),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn forget(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    _: Query<NoParameters>,
    Path(VisibleSession(id)): Path<VisibleSession>,
) -> Result<StatusCode, Problem> {
    let_go(&shared, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets a session without the word of its controller.
pub(crate) async fn let_go(shared: &Shared, caller: &Caller, id: SessionId) -> Result<(), Problem> {
    let forgotten = shared.store.forget_session(caller.actor(), &id, shared.config.keep_tombstones).await?;
    let forgotten = forgotten.ok_or_else(VisibleSession::unknown)?;
    let controller = forgotten.controller_id.as_deref();
    tracing::warn!(session = %id, controller, "a session was forgotten without the word of its controller");
    shared.changes.changed(&id);
    // There may be room where there was none.
    shared.wake.notify_one();
    Ok(())
}
