//! `POST /api/v1/sessions/{id}/migrate`: a session goes on on another controller.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::Method;
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::{Caller, Operator};
use super::extract::{InPath as _, JsonText, Path, Query, Waiting, read_strictly};
use super::idempotency::RepeatKey;
use super::openapi::Refused;
use super::problem::{FieldError, Problem};
use super::sessions::{VisibleRecord, VisibleSession, wait_until};
use super::view::SessionView;
use super::wish::{Answer, wanted};
use crate::control::Shared;
use crate::domain::{ControllerId, PlacementRequest, Requirement, Session, WishedState};
use crate::placement::{Placement, PlacementStrategy};
use crate::store::{Moved, NewMove, PlacementDecision, SessionRecord};

/// Where a session is to go on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Migration)]
pub(super) struct Target {
    /// Another controller of the same type.
    #[schema(min_length = 1, max_length = 512)]
    controller_id: String,
}

/// Move a session to another controller
///
/// It is stopped and removed where it is, and then made anew on a controller of the same type. What it has in memory and
/// outside of a home that both controllers share is lost. For operators.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/migrate",
    operation_id = "migrate_session",
    tag = "Sessions",
    params(Waiting, VisibleRecord, RepeatKey),
    request_body = Target,
    responses(
        (status = 200, body = SessionView<'_>, description = "It is there."),
        (status = 202, body = SessionView<'_>, description = "It is under way."),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Query(Waiting { wait }): Query<Waiting>,
    key: RepeatKey,
    Path(VisibleRecord(record)): Path<VisibleRecord>,
    JsonText(body): JsonText,
) -> Result<Answer, Problem> {
    go(&shared, &caller, record, &body, key, wait).await
}

/// Has a session go on where a request of REST says; `body` is that request.
pub(crate) async fn go(
    shared: &Shared,
    caller: &Caller,
    record: SessionRecord,
    body: &[u8],
    key: RepeatKey,
    wait: Option<Duration>,
) -> Result<Answer, Problem> {
    let Target { controller_id } = read_strictly(body)?;
    let unknown = |message: &str| Problem::invalid(vec![FieldError::new("controller_id", message)]);
    let target = ControllerId::parse(&controller_id).map_err(|error| unknown(&error.to_string()))?;
    let id = record.session.id.clone();
    let mut listener = shared.changes.subscribe();
    let placer = Arc::new(placement_on(&target, &record.session, shared.config.placement_strategy));
    let new = NewMove {
        by: caller.actor(),
        session_id: id.clone(),
        target: target.clone(),
        placer,
        idempotency: key.bound_to(&wanted(&Method::POST, &id, "/migrate", body), caller, shared),
        render: SessionView::render,
    };
    let (record, earlier) = match shared.store.migrate(new).await? {
        Moved::Stored(record) => {
            streamspace_failpoint::hit("control.migrate.committed");
            tracing::info!(session = %id, to = %target, "a session is to be moved");
            shared.changes.changed(&id);
            shared.wake.notify_one();
            (*record, None)
        }
        Moved::Unchanged(record) => (*record, None),
        Moved::Replayed { response } => {
            let record = shared.store.session(&id).await?.ok_or_else(VisibleSession::unknown)?;
            (record, Some(response))
        }
        refused => return Err(refusal(refused)),
    };
    let Some(wait) = wait else {
        return Ok(earlier.map_or_else(|| Answer::of(&record), Answer::replayed));
    };
    let wished = record.session.generation;
    let enough = |now: &SessionRecord| now.session.generation != wished || now.is_answered();
    // Gone in the meantime: then the first answer is the last there is.
    let last = wait_until(shared, &mut listener, &id, wait, enough).await?;
    Ok(Answer::of(&last.unwrap_or(record)))
}

/// What the session asked for at first still holds, but for who should take it.
fn placement_on(target: &ControllerId, session: &Session, strategy: PlacementStrategy) -> Placement {
    let mut request = PlacementRequest {
        controller_id: Some(target.clone()),
        controller_type: None,
        ..session.placement.clone()
    };
    if session.state == WishedState::Hibernated {
        request.require.push(Requirement::Hibernation);
    }
    Placement::new(&request, &session.spec, strategy)
}

fn refusal(refused: Moved) -> Problem {
    match refused {
        Moved::KeyMismatch => {
            Problem::conflict("idempotency-key", "this Idempotency-Key was used for another request")
        }
        Moved::Deleting => Problem::conflict("deleting", "the session is being deleted"),
        Moved::NotPlaced => Problem::failed_precondition("the session is on no controller yet"),
        Moved::UnderWay(target) => {
            Problem::conflict("migrating", &format!("the session is on its way to {target} already"))
        }
        Moved::Unreachable(status) => {
            let status = status.as_str();
            let detail = format!("the session's controller is {status}: nobody can remove the session there");
            Problem::failed_precondition(detail)
        }
        Moved::Unsupported(why) => Problem::unsupported(&why),
        Moved::Refused(PlacementDecision::Later(why)) => {
            Problem::conflict("no-room", &format!("the other controller does not take it now: {why}"))
        }
        Moved::Refused(PlacementDecision::Invalid { field, message }) => {
            Problem::invalid(vec![FieldError::new(field, message)])
        }
        Moved::Refused(PlacementDecision::Nobody(why)) => {
            Problem::conflict("unsuitable", &format!("the other controller does not take it: {why}"))
        }
        Moved::NoSuchSession => VisibleSession::unknown(),
        Moved::Stored(_)
        | Moved::Unchanged(_)
        | Moved::Replayed { .. }
        | Moved::Refused(PlacementDecision::On(..)) => Problem::internal(),
    }
}
