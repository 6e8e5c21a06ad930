//! `PATCH /api/v1/sessions/{id}`, `POST …/hibernate`, `POST …/wake`, `POST …/heartbeat`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{StatusCode, header};
use serde::Deserialize;

use super::auth::Caller;
use super::body::read_strictly;
use super::create::{expect_json, idempotency_key, read_body};
use super::problem::{FieldError, Problem};
use super::query::Parameters;
use super::sessions::{find, unknown, wait_until};
use super::view::SessionView;
use crate::control::Shared;
use crate::domain::{SessionId, WishedState, now, sha256_hex};
use crate::store::{ActivitySign, IdempotencyKey, NewWish, SessionRecord, Wished};

/// Signs of a user that follow each other sooner than that are one.
const ACTIVITY_GRAIN: chrono::Duration = chrono::Duration::seconds(5);

/// A merge patch (RFC 7396) of what callers may change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    /// Absent = left as it is. `null` would remove it, which makes no sense.
    #[serde(default, deserialize_with = "given")]
    state: Option<String>,
}

/// A field that is there has a value.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// What a request wants of a session.
struct Wanted {
    state: WishedState,
    wait: Option<Duration>,
    key: Option<IdempotencyKey>,
}

/// `PATCH /api/v1/sessions/{id}`.
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let wait = wait(&shared, &mut parts).await?;
    expect_json(&parts.headers)?;
    let id = find(&shared, &caller, path).await?;
    let request = Request::from_parts(parts.clone(), body);
    let body = read_body(request, shared.config.body_limit).await?;
    let Patch { state } = read_strictly(&body)?;
    let state = state.map(|text| {
        let fault = || FieldError::new("state", "must be running, hibernated or terminated");
        WishedState::parse(&text).ok_or_else(|| Problem::invalid(vec![fault()]))
    });
    let Some(state) = state.transpose()? else {
        // A patch of nothing.
        let record = shared.store.session(&id).await?.ok_or_else(unknown)?;
        return Ok(answer(&record));
    };
    let key = bound_key(&shared, &caller, &parts, &body)?;
    wish(&shared, id, Wanted { state, wait, key }).await
}

/// `POST /api/v1/sessions/{id}/hibernate`.
pub(super) async fn hibernate(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    verb(&shared, &caller, path, request, WishedState::Hibernated).await
}

/// `POST /api/v1/sessions/{id}/wake`.
pub(super) async fn wake(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    verb(&shared, &caller, path, request, WishedState::Running).await
}

/// A wish that the path alone says: there is no body to read.
async fn verb(
    shared: &Shared,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    request: Request,
    state: WishedState,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let wait = wait(shared, &mut parts).await?;
    let id = find(shared, caller, path).await?;
    let key = bound_key(shared, caller, &parts, b"")?;
    wish(shared, id, Wanted { state, wait, key }).await
}

/// `POST /api/v1/sessions/{id}/heartbeat`: somebody uses the session.
pub(super) async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let session_id = find(&shared, &caller, path).await?;
    let record = shared.store.session(&session_id).await?.ok_or_else(unknown)?;
    let at = now();
    // What is known is recent enough: no write for every beat.
    if record.session.last_activity.is_none_or(|known| at - known >= ACTIVITY_GRAIN) {
        shared.store.record_activity(vec![ActivitySign { session_id, at }]).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn wait(shared: &Shared, parts: &mut Parts) -> Result<Option<Duration>, Problem> {
    let mut parameters = Parameters::read(parts, &["wait"]).await?;
    let wait = parameters.wait(shared.config.wait_limit);
    parameters.finish()?;
    Ok(wait)
}

/// The request's key, bound to its method, path and body.
fn bound_key(
    shared: &Shared,
    caller: &Caller,
    parts: &Parts,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(key) = idempotency_key(&parts.headers)? else { return Ok(None) };
    let mut bound = format!("{} {}\n", parts.method, parts.uri.path()).into_bytes();
    bound.extend_from_slice(body);
    Ok(Some(IdempotencyKey {
        caller: caller.user_id.clone(),
        key,
        body_hash: sha256_hex(&bound),
        keep: shared.config.keep_idempotency_keys,
    }))
}

/// Stores a wish and answers as soon as it is durable, or, if asked to wait, as soon as it was fulfilled, finally
/// failed or replaced by another.
async fn wish(shared: &Shared, id: SessionId, wanted: Wanted) -> Result<Response, Problem> {
    let Wanted { state, wait, key } = wanted;
    let mut listener = shared.changes.subscribe();
    let new = NewWish { session_id: id.clone(), state, idempotency: key, render: SessionView::render };
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
            let record = shared.store.session(&id).await?.ok_or_else(unknown)?;
            (record, Some(response))
        }
        Wished::KeyMismatch => {
            let detail = "this Idempotency-Key was used for another request";
            return Err(Problem::conflict("idempotency-key", detail));
        }
        Wished::Deleting => return Err(Problem::conflict("deleting", "the session is being deleted")),
        Wished::Unsupported => {
            let detail = "the session's controller cannot hibernate sessions";
            return Err(Problem::conflict("unsupported", detail));
        }
        Wished::NoSuchSession => return Err(unknown()),
    };
    let Some(wait) = wait else {
        return Ok(body.map_or_else(|| answer(&record), |body| json(StatusCode::ACCEPTED, body)));
    };
    let wished = record.session.generation;
    let enough = |now: &SessionRecord| now.session.generation != wished || now.is_answered();
    // Gone in the meantime: then the first answer is the last there is.
    let last = wait_until(shared, &mut listener, &id, wait, enough).await?;
    Ok(answer(&last.unwrap_or(record)))
}

/// 200 when nothing is left to do for the session's wish, 202 until then.
fn answer(record: &SessionRecord) -> Response {
    let status = if record.is_answered() { StatusCode::OK } else { StatusCode::ACCEPTED };
    json(status, SessionView::render(record))
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
