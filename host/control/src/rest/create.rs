//! `POST /api/v1/sessions`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

use super::auth::Caller;
use super::body::CreateRequest;
use super::extract::{JsonText, Query, Waiting};
use super::idempotency::RepeatKey;
use super::openapi::Refused;
use super::problem::{FieldError, Problem};
use super::sessions::wait_until;
use super::validate::ValidCreate;
use super::view::SessionView;
use crate::changes::Listener;
use crate::control::Shared;
use crate::domain::{Conditions, Generation, Phase, Session, SessionId, Wish, WishedState, now};
use crate::placement::Placement;
use crate::store::{Created, IdempotencyKey, NewSession, PlacementDecision};

/// Create a session
///
/// Answers as soon as it is durable, or, if asked to wait, as soon as it runs or has failed.
#[utoipa::path(
    post,
    path = "/api/v1/sessions",
    operation_id = "create_session",
    tag = "Sessions",
    params(Waiting, RepeatKey),
    request_body = CreateRequest,
    responses(
        (
            status = 201,
            body = SessionView<'_>,
            description = "The session, or the one that the key made earlier.",
            headers(("Location" = String, description = "Where it is.")),
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
    Extension(caller): Extension<Caller>,
    Query(Waiting { wait }): Query<Waiting>,
    key: RepeatKey,
    JsonText(body): JsonText,
) -> Result<Response, Problem> {
    let Made { id, session } = make(&shared, &caller, key, &body, wait).await?;
    let headers = [
        (header::LOCATION, format!("/api/v1/sessions/{id}")),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, session).into_response())
}

/// A session that was made, now or by an earlier request with the same key.
pub(crate) struct Made {
    id: SessionId,
    /// As JSON.
    pub(crate) session: String,
}

/// Makes the session that a body asks for, and waits for it if that is asked as well.
pub(crate) async fn make(
    shared: &Shared,
    caller: &Caller,
    key: RepeatKey,
    body: &[u8],
    wait: Option<Duration>,
) -> Result<Made, Problem> {
    let idempotency = key.bound_to(body, caller, shared);
    let read = CreateRequest::read(body)?;
    let template = match read.template() {
        Some(name) => shared.store.template(name).await?,
        None => None,
    };
    let of_a_template = read.template().is_some();
    let valid = match read.validate(&caller.user_id, template.as_ref()) {
        Ok(valid) => valid,
        Err(problem) => {
            // The template may be another one by now, or gone: what was answered once is answered again.
            let earlier = match &idempotency {
                Some(key) if of_a_template => shared.store.earlier_answer(key).await?,
                _ => None,
            };
            return match earlier {
                Some(Created::Replayed { session_id, response }) => {
                    let mut listener = shared.changes.subscribe();
                    answer(shared, &mut listener, session_id, response, wait).await
                }
                _ => Err(problem),
            };
        }
    };
    if !caller.sees_all() && valid.user_id != caller.user_id {
        let message = "only operators may make sessions for others";
        return Err(Problem::forbidden_field("user_id", message));
    }

    // Right after a start nothing is known of the controllers yet.
    shared.fleet.first_probes(shared.config.first_probe_wait).await;
    let mut listener = shared.changes.subscribe();
    let strategy = shared.config.placement_strategy;
    let placer = Arc::new(Placement::new(&valid.placement, &valid.spec, strategy));
    let new = new_session(caller, valid, Arc::clone(&placer), idempotency)?;
    match shared.store.create_session(new).await? {
        Created::Stored(record) => {
            streamspace_failpoint::hit("control.session.committed");
            tracing::info!(session = %record.session.id, "a session was asked for");
            shared.changes.changed(&record.session.id);
            shared.wake.notify_one();
            let body = SessionView::render(&record);
            answer(shared, &mut listener, record.session.id, body, wait).await
        }
        Created::Replayed { session_id, response } => {
            answer(shared, &mut listener, session_id, response, wait).await
        }
        Created::KeyMismatch => Err(Problem::conflict(
            "idempotency-key",
            "this Idempotency-Key was used for a request with another body",
        )),
        Created::OverQuota(excess) => Err(Problem::over_quota(excess)),
        Created::Refused(decision) => {
            let named = if caller.sees_all() { named_reasons(shared, &placer).await? } else { String::new() };
            Err(refusal(decision, &named))
        }
    }
}

fn new_session(
    caller: &Caller,
    valid: ValidCreate,
    placer: Arc<Placement>,
    idempotency: Option<IdempotencyKey>,
) -> Result<NewSession, Problem> {
    let ValidCreate { user_id, template_id, spec, controller_config, placement } = valid;
    let spec_hash = spec.hash(&controller_config).map_err(|error| {
        tracing::error!(%error, "a spec cannot be hashed");
        Problem::internal()
    })?;
    let at = now();
    let session = Session {
        id: SessionId::generate(),
        user_id,
        template_id,
        wish: Wish::State(WishedState::Running),
        state: WishedState::Running,
        phase: Phase::Pending,
        placed: None,
        moving_to: None,
        placement,
        node_id: String::new(),
        spec,
        controller_config,
        spec_hash,
        conditions: Conditions::default(),
        generation: Generation::FIRST,
        forget_after: None,
        observed_generation: None,
        last_activity: None,
        running_since: None,
        started_at: None,
        created_at: at,
        updated_at: at,
    };
    Ok(NewSession { by: caller.actor(), session, placer, idempotency, render: SessionView::render })
}

/// The answer to a creation, at once or after waiting.
async fn answer(
    shared: &Shared,
    listener: &mut Listener,
    id: SessionId,
    at_once: String,
    wait: Option<Duration>,
) -> Result<Made, Problem> {
    let session = match wait {
        None => at_once,
        Some(wait) => {
            let settled = wait_until(shared, listener, &id, wait, |record| {
                matches!(record.session.phase, Phase::Running | Phase::Failed)
            });
            // Gone in the meantime: then the first answer is the last there is.
            settled.await?.map_or(at_once, |record| SessionView::render(&record))
        }
    };
    Ok(Made { id, session })
}

/// What is in the way at every controller that was asked for, by name.
async fn named_reasons(shared: &Shared, placer: &Placement) -> Result<String, Problem> {
    let controllers = shared.store.controllers().await?;
    let named = placer.verdicts(&controllers).into_iter().filter_map(|verdict| {
        let (controller, obstacle) = (verdict.controller, verdict.obstacle?);
        (!obstacle.is_other()).then(|| {
            format!("{} ({}) {}", controller.name, controller.id, obstacle.describe_fully(controller))
        })
    });
    Ok(named.collect::<Vec<_>>().join("; "))
}

/// Names of controllers are the business of operators; for others they are counted.
fn refusal(decision: PlacementDecision, named: &str) -> Problem {
    match decision {
        PlacementDecision::Invalid { field, message } => {
            Problem::invalid(vec![FieldError::new(field, message)])
        }
        PlacementDecision::Nobody(why) | PlacementDecision::Later(why) => {
            let why = if named.is_empty() { &why } else { named };
            Problem::unavailable("no-controller", format!("no controller can take the session: {why}"))
        }
        PlacementDecision::On(..) => Problem::internal(),
    }
}
