//! `POST /api/v1/sessions`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};

use super::auth::Caller;
use super::body::CreateRequest;
use super::problem::{FieldError, Problem};
use super::query::Parameters;
use super::sessions::wait_until;
use super::validate::ValidCreate;
use super::view::SessionView;
use crate::changes::Listener;
use crate::control::Shared;
use crate::domain::{Conditions, Generation, Phase, Session, SessionId, Wish, WishedState, now, sha256_hex};
use crate::placement::LeastLoaded;
use crate::store::{Created, IdempotencyKey, NewSession, PlacementDecision};

/// The header that makes a request repeatable.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// Stores a session and answers as soon as it is durable, or, if asked to wait, as soon as it runs or failed.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let mut parameters = Parameters::read(&mut parts, &["wait"]).await?;
    let wait = parameters.wait(shared.config.wait_limit);
    parameters.finish()?;
    let key = idempotency_key(&parts.headers)?;
    expect_json(&parts.headers)?;
    let body = read_body(Request::from_parts(parts, body), shared.config.body_limit).await?;

    let read = CreateRequest::read(&body)?;
    let idempotency = key.map(|key| IdempotencyKey {
        caller: caller.user_id.clone(),
        key,
        body_hash: sha256_hex(&body),
        keep: shared.config.keep_idempotency_keys,
    });
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
                    answer(&shared, &mut listener, &session_id, response, wait).await
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
    let placer = Arc::new(LeastLoaded::new(&valid.placement, &valid.spec));
    let new = new_session(valid, Arc::clone(&placer), idempotency)?;
    match shared.store.create_session(new).await? {
        Created::Stored(record) => {
            streamspace_failpoint::hit("control.session.committed");
            tracing::info!(session = %record.session.id, "a session was asked for");
            shared.changes.changed(&record.session.id);
            shared.wake.notify_one();
            let body = SessionView::render(&record);
            answer(&shared, &mut listener, &record.session.id, body, wait).await
        }
        Created::Replayed { session_id, response } => {
            answer(&shared, &mut listener, &session_id, response, wait).await
        }
        Created::KeyMismatch => Err(Problem::conflict(
            "idempotency-key",
            "this Idempotency-Key was used for a request with another body",
        )),
        Created::Refused(decision) => {
            let named =
                if caller.sees_all() { named_reasons(&shared, &placer).await? } else { String::new() };
            Err(refusal(decision, &named))
        }
    }
}

fn new_session(
    valid: ValidCreate,
    placer: Arc<LeastLoaded>,
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
        placement,
        node_id: String::new(),
        spec,
        controller_config,
        spec_hash,
        conditions: Conditions::default(),
        generation: Generation::FIRST,
        observed_generation: None,
        last_activity: None,
        created_at: at,
        updated_at: at,
    };
    Ok(NewSession { session, placer, idempotency, render: SessionView::render })
}

/// The answer to a creation, at once or after waiting.
async fn answer(
    shared: &Shared,
    listener: &mut Listener,
    id: &SessionId,
    at_once: String,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    let body = match wait {
        None => at_once,
        Some(wait) => {
            let settled = wait_until(shared, listener, id, wait, |record| {
                matches!(record.session.phase, Phase::Running | Phase::Failed)
            });
            // Gone in the meantime: then the first answer is the last there is.
            settled.await?.map_or(at_once, |record| SessionView::render(&record))
        }
    };
    let headers = [
        (header::LOCATION, format!("/api/v1/sessions/{id}")),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// What is in the way at every controller that was asked for, by name.
async fn named_reasons(shared: &Shared, placer: &LeastLoaded) -> Result<String, Problem> {
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

/// The key that makes a request repeatable, if it has one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
    match key.filter(|_| values.next().is_none()) {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Problem::bad_request(vec![FieldError::new(
            "Idempotency-Key",
            format!("must be given once, with 1 to {LONGEST_KEY} visible ASCII characters"),
        )])),
    }
}

/// Refuses a body that does not say that it is JSON.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    match media_type(headers) {
        Some(essence) if essence == "application/json" || essence.ends_with("+json") => Ok(()),
        _ => Err(Problem::unsupported_media_type()),
    }
}

/// The media type of a body, without its parameters and in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// The whole body, up to a limit.
pub(super) async fn read_body(request: Request, limit: usize) -> Result<Bytes, Problem> {
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::too_large(limit)
        } else {
            Problem::bad_request(vec![FieldError::new("", "the body cannot be read")])
        }
    })
}
