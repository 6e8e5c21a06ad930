//! Reading and deleting sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::auth::Caller;
use super::problem::Problem;
use super::query::{Parameters, read_cursor, write_cursor};
use super::view::SessionView;
use crate::changes::Listener;
use crate::control::Shared;
use crate::domain::{MAX_ID_BYTES, Phase, SessionId, WishedState};
use crate::store::{Deletion, Position, SessionFilter, SessionRecord, StoreError};

/// Whoever waits looks so often, even if told of no change.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Page<'a> {
    items: Vec<SessionView<'a>>,
    next_cursor: Option<String>,
}

/// `GET /api/v1/sessions`.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let allowed =
        ["user_id", "state", "phase", "template_id", "controller_id", "controller_type", "limit", "cursor"];
    let mut parameters = Parameters::read(&mut parts, &allowed).await?;
    let mut filter = SessionFilter {
        user_id: parameters.take("user_id", short),
        state: parameters.take("state", |text| {
            WishedState::parse(text).ok_or_else(|| "must be running, hibernated or terminated".to_owned())
        }),
        phase: parameters.take("phase", |text| {
            let expected = "must be Pending, Running, Hibernated, Failed or Terminated";
            Phase::parse(text).ok_or_else(|| expected.to_owned())
        }),
        template_id: parameters.take("template_id", short),
        controller_id: parameters.take("controller_id", short),
        controller_type: parameters.take("controller_type", short),
    };
    let limit = parameters.limit();
    let after = parameters.take("cursor", read_cursor);
    parameters.finish()?;

    if !caller.sees_all() {
        if filter.user_id.as_ref().is_some_and(|user| *user != caller.user_id) {
            let message = "only operators may see the sessions of others";
            return Err(Problem::forbidden_field("user_id", message));
        }
        filter.user_id = Some(caller.user_id);
    }
    // One more than asked for tells whether there is a next page.
    let mut records = shared.store.sessions(&filter, after.as_ref(), limit + 1).await?;
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next_cursor = records.last().filter(|_| more).map(|last| {
        let session = &last.session;
        write_cursor(&Position { created_at: session.created_at, id: session.id.to_string() })
    });
    let items = records.iter().map(SessionView::new).collect();
    Ok(Json(Page { items, next_cursor }).into_response())
}

fn short(text: &str) -> Result<String, String> {
    if text.len() > MAX_ID_BYTES {
        Err(format!("longer than {MAX_ID_BYTES} bytes"))
    } else {
        Ok(text.to_owned())
    }
}

/// `GET /api/v1/sessions/{id}`.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let id = find(&shared, &caller, path).await?;
    let record = shared.store.session(&id).await?.ok_or_else(unknown)?;
    Ok(Json(SessionView::new(&record)).into_response())
}

/// `DELETE /api/v1/sessions/{id}`.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let mut parameters = Parameters::read(&mut parts, &["wait", "purge_home"]).await?;
    let wait = parameters.wait(shared.config.wait_limit);
    let purge_home = parameters.flag("purge_home");
    parameters.finish()?;
    let id = find(&shared, &caller, path).await?;

    let mut listener = shared.changes.subscribe();
    let deletion = shared.store.request_deletion(&id, purge_home).await?;
    streamspace_failpoint::hit("control.delete.committed");
    shared.changes.changed(&id);
    shared.wake.notify_one();

    let remaining = match (deletion, wait) {
        (Deletion::NoSuchSession, _) => return Err(unknown()),
        // The wish is stored, and that is all that can be told.
        (Deletion::WishedUnreadable, _) => {
            let body = Json(json!({ "id": id.as_str(), "deleting": true }));
            return Ok((StatusCode::ACCEPTED, body).into_response());
        }
        (Deletion::Wished(record), None) => Some(*record),
        (Deletion::Wished(_), Some(wait)) => wait_until(&shared, &mut listener, &id, wait, |_| false).await?,
    };
    Ok(match remaining {
        Some(record) => (StatusCode::ACCEPTED, Json(SessionView::new(&record))).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

pub(super) fn unknown() -> Problem {
    Problem::not_found("there is no session with this id")
}

/// The id of a session that the caller may see. One they may not see does not exist for them.
pub(super) async fn find(
    shared: &Shared,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<SessionId, Problem> {
    let Path(id) = path.map_err(|_| unknown())?;
    let id = SessionId::parse(&id).map_err(|_| unknown())?;
    let owner = shared.store.session_owner(&id).await?;
    if owner.is_some_and(|owner| caller.sees(&owner)) { Ok(id) } else { Err(unknown()) }
}

/// Waits until a session is as wanted or gone (then `None`), the time is up, or the server stops.
pub(super) async fn wait_until(
    shared: &Shared,
    listener: &mut Listener,
    id: &SessionId,
    wait: Duration,
    enough: impl Fn(&SessionRecord) -> bool,
) -> Result<Option<SessionRecord>, StoreError> {
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let Some(record) = shared.store.session(id).await? else { return Ok(None) };
        if enough(&record) || tokio::time::Instant::now() >= deadline || shared.stopping.is_cancelled() {
            return Ok(Some(record));
        }
        tokio::select! {
            () = listener.changed(id) => {}
            () = shared.stopping.cancelled() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = tokio::time::sleep(LOOK_ANYWAY) => {}
        }
    }
}
