//! `/api/v1/admin/drift`: what backends have that no session explains, and what operators say about it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use streamspace_proto::controller::v1 as proto;
use utoipa::ToSchema;

use super::adopt::{Adoptee, adoption};
use super::auth::{Caller, Operator};
use super::backend;
use super::cursor::{read_cursor, write_cursor};
use super::extract::{
    Body, Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query, Waiting,
};
use super::openapi::Refused;
use super::problem::Problem;
use super::validate::Faults;
use super::view::SessionView;
use crate::control::Shared;
use crate::domain::{
    ControllerId, Drift, DriftAlarmKind, DriftId, DriftOwnership, DriftReason, DriftState, SessionId,
    SpecDraft,
};
use crate::store::{Adopted, DriftFilter, DriftOrder, DriftOrdered, Position, RaisedAlarm};

/// Whoever waits for the end of an object looks so often.
const LOOK: Duration = Duration::from_millis(250);

/// An object that no session explains.
#[derive(Serialize, ToSchema)]
#[schema(as = DriftEntry)]
struct DriftView<'a> {
    id: &'a DriftId,
    controller_id: &'a ControllerId,
    /// The session id that it bears; may be empty.
    session_id: &'a str,
    /// The backend's name of what could be adopted; may be empty.
    external_ref: &'a str,
    /// Who made it.
    ownership: DriftOwnership,
    /// What the backend calls it; may be empty.
    node_id: &'a str,
    /// The phase that it was last seen in; may be empty.
    phase: &'a str,
    /// What the backend itself keeps as wanted; may be empty.
    wish: &'a str,
    /// Whose it is, as the backend says; may be empty.
    user_id: &'a str,
    /// Why no session explains it.
    reason: DriftReason,
    /// What is to become of it.
    state: DriftState,
    /// Why it is still there, if it was to be removed.
    message: &'a str,
    first_seen: DateTime<Utc>,
    /// To the minute.
    last_seen: DateTime<Utc>,
}

impl<'a> DriftView<'a> {
    fn new(drift: &'a Drift) -> Self {
        let Drift { id, controller_id, object, reason, state, message, first_seen, last_seen } = drift;
        Self {
            id,
            controller_id,
            session_id: &object.session_id,
            external_ref: &object.external_ref,
            ownership: object.ownership,
            node_id: &object.node_id,
            phase: &object.phase,
            wish: &object.wish,
            user_id: &object.user_id,
            reason: *reason,
            state: *state,
            message,
            first_seen: *first_seen,
            last_seen: *last_seen,
        }
    }
}

/// A controller whose last listing is so strange that nothing is removed unasked because of it.
#[derive(Serialize, ToSchema)]
#[schema(as = DriftAlarm)]
struct AlarmView<'a> {
    controller_id: &'a ControllerId,
    /// What is strange.
    kind: DriftAlarmKind,
    /// How many objects would be removed, or how many sessions are missing.
    objects: usize,
    /// How many sessions are placed there.
    placed: usize,
    since: DateTime<Utc>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DriftPage)]
struct Page<'a> {
    items: Vec<DriftView<'a>>,
    #[schema(required)]
    next_cursor: Option<String>,
    /// On every page the same, whatever is asked for.
    alarms: Vec<AlarmView<'a>>,
}

/// Which entries are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only those on this controller.
    #[param(max_length = 512)]
    controller_id: Option<String>,
    /// Only those in this state.
    state: Option<DriftState>,
    /// Only those for this reason.
    reason: Option<DriftReason>,
    /// Only those of this user, as the backend says.
    #[param(max_length = 512)]
    user_id: Option<String>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9a-fA-F]+$")]
    cursor: Option<Position>,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        Self {
            controller_id: given.short("controller_id"),
            state: given.take("state", |text| {
                DriftState::parse(text).ok_or_else(|| "must be found, ignored or deleting".to_owned())
            }),
            reason: given.take("reason", |text| {
                let expected = "must be unknown_session, other_controller or deleted_session";
                DriftReason::parse(text).ok_or_else(|| expected.to_owned())
            }),
            user_id: given.short("user_id"),
            limit: given.limit(),
            cursor: given.take("cursor", read_cursor),
        }
    }
}

/// List what no session explains
///
/// Newest first. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/drift",
    operation_id = "list_drift",
    tag = "Operation",
    params(Wanted),
    responses(
        (status = 200, body = Page<'_>, description = "A page of it."),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let Wanted { controller_id, state, reason, user_id, limit, cursor } = wanted;
    let filter = DriftFilter { controller_id, state, reason, user_id };
    // One more than asked for tells whether there is a next page.
    let mut entries = shared.store.drift_page(&filter, cursor.as_ref(), limit + 1).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next_cursor = entries
        .last()
        .filter(|_| more)
        .map(|last| write_cursor(&Position { created_at: last.first_seen, id: last.id.to_string() }));
    let raised = shared.store.drift_alarms().await?;
    let alarms = raised.iter().map(|RaisedAlarm { controller_id, alarm, since }| AlarmView {
        controller_id,
        kind: alarm.kind,
        objects: alarm.objects,
        placed: alarm.placed,
        since: *since,
    });
    let items = entries.iter().map(DriftView::new).collect();
    Ok(Json(Page { items, next_cursor, alarms: alarms.collect() }).into_response())
}

/// Read one entry of it
///
/// For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/drift/{id}",
    operation_id = "get_drift",
    tag = "Operation",
    params(KnownDrift),
    responses(
        (status = 200, body = DriftView<'_>, description = "The entry."),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn get(
    _: Operator,
    _: Query<NoParameters>,
    Path(KnownDrift(entry)): Path<KnownDrift>,
) -> Response {
    Json(DriftView::new(&entry)).into_response()
}

/// Whose an adopted session is to be, and what it is made of, if its backend does not say.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Adoptive {
    /// Whose session it is to be; without it that of the object.
    #[schema(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    user_id: Option<String>,
    /// What it is made of, should it have to be made again; without it what the backend says.
    spec: Option<SpecDraft>,
}

impl Body for Adoptive {}

/// Adopt an object
///
/// A session of the id that it bears, on the controller that has it, in the state that it is in. For operators.
#[utoipa::path(
    post,
    path = "/api/v1/admin/drift/{id}/adopt",
    operation_id = "adopt_drift",
    tag = "Operation",
    params(KnownDrift),
    responses(
        (status = 201, body = SessionView<'_>, description = "The session.",
         headers(("Location" = String, description = "Where the session is."))),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<502>,
        Refused<503>,
    ),
)]
pub(super) async fn adopt(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Path(KnownDrift(entry)): Path<KnownDrift>,
    _: Query<NoParameters>,
    Json(Adoptive { user_id, spec }): Json<Adoptive>,
) -> Result<Response, Problem> {
    let Ok(session_id) = SessionId::parse(&entry.object.session_id) else {
        let detail = "the object bears no session id, and its controller offers no way to give it one";
        return Err(Problem::conflict("unsupported", detail));
    };
    let mut faults = Faults::default();
    if let Some(user) = &user_id {
        faults.id("user_id", user);
    }
    faults.finish()?;
    let client = shared.fleet.client(&entry.controller_id).ok_or_else(|| {
        Problem::unavailable("controller-unreachable", "the object's controller is not connected")
    })?;
    let controller = shared.store.controller(&entry.controller_id).await?.ok_or_else(KnownDrift::unknown)?;
    let request = proto::GetSessionRequest { session_id: session_id.to_string(), node_id: String::new() };
    let found = client.get(request, shared.config.call_timeout).await;
    let found = found.map_err(|error| backend::problem_of_nobody(&error))?;
    let adoptee = Adoptee { entry: &entry, session_id, controller: &controller, found, user_id, spec };
    match shared.store.adopt(caller.actor(), adoption(adoptee)?).await? {
        Adopted::Stored(record) => {
            let id = &record.session.id;
            tracing::info!(session = %id, controller = %entry.controller_id, "an object was adopted");
            shared.changes.changed(id);
            shared.wake.notify_one();
            shared.asked.put(entry.controller_id.clone());
            let headers = [
                (header::LOCATION, format!("/api/v1/sessions/{id}")),
                (header::CONTENT_TYPE, "application/json".to_owned()),
            ];
            Ok((StatusCode::CREATED, headers, SessionView::render(&record)).into_response())
        }
        Adopted::Deleting => Err(Problem::conflict("deleting", "the object is being removed")),
        Adopted::IdTaken => Err(Problem::conflict("exists", "there is a session of this id")),
        Adopted::NoSuchEntry => Err(KnownDrift::unknown()),
    }
}

/// Leave an object alone
///
/// It stays in the list until it is gone, and is never removed unasked. For operators.
#[utoipa::path(
    post,
    path = "/api/v1/admin/drift/{id}/ignore",
    operation_id = "ignore_drift",
    tag = "Operation",
    params(KnownDrift),
    responses(
        (status = 200, body = DriftView<'_>, description = "The entry."),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<503>,
    ),
)]
pub(super) async fn ignore(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    _: Query<NoParameters>,
    Path(KnownDrift(entry)): Path<KnownDrift>,
) -> Result<Response, Problem> {
    let entry = ordered(shared.store.order_drift(caller.actor(), &entry.id, DriftOrder::Ignore).await?)?;
    tracing::info!(drift = %entry.id, "an object is to be left alone");
    Ok(Json(DriftView::new(&entry)).into_response())
}

/// Remove an object
///
/// Once its controller has confirmed that it made it. Whatever comes back under its id is removed as well. For
/// operators.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/drift/{id}",
    operation_id = "delete_drift",
    tag = "Operation",
    params(Waiting, KnownDrift),
    responses(
        (status = 202, body = DriftView<'_>, description = "It is being removed."),
        (status = 204, description = "It is gone."),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<503>,
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Query(Waiting { wait }): Query<Waiting>,
    Path(KnownDrift(entry)): Path<KnownDrift>,
) -> Result<Response, Problem> {
    let order = DriftOrder::Delete { keep_tombstone: shared.config.keep_tombstones };
    let mut entry = ordered(shared.store.order_drift(caller.actor(), &entry.id, order).await?)?;
    tracing::info!(drift = %entry.id, session = entry.object.session_id, "an object is to be removed");
    shared.asked.put(entry.controller_id.clone());
    let end = tokio::time::Instant::now() + wait.unwrap_or_default().min(shared.config.wait_limit);
    while tokio::time::Instant::now() < end && !shared.stopping.is_cancelled() {
        tokio::time::sleep(LOOK).await;
        match shared.store.drift(&entry.id).await? {
            Some(now) => entry = now,
            None => return Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
    Ok((StatusCode::ACCEPTED, Json(DriftView::new(&entry))).into_response())
}

fn ordered(outcome: DriftOrdered) -> Result<Drift, Problem> {
    match outcome {
        DriftOrdered::Stored(entry) => Ok(*entry),
        DriftOrdered::Deleting => Err(Problem::conflict("deleting", "the object is being removed")),
        DriftOrdered::Foreign => {
            let detail = "its controller did not make the object: whoever did removes it";
            Err(Problem::failed_precondition(detail))
        }
        DriftOrdered::NoSuchEntry => Err(KnownDrift::unknown()),
    }
}

/// An entry of the drift list as a path names it.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct KnownDrift(
    /// The entry's id.
    #[param(value_type = DriftId)]
    Drift,
);

impl InPath for KnownDrift {
    async fn find(name: String, caller: &Caller, shared: &Shared) -> Found<Self> {
        // Whoever may not see the list learns that from the role that is asked for.
        if !caller.sees_all() || name.contains('\0') {
            return Ok(None);
        }
        Ok(shared.store.drift(&DriftId::named(name)).await?.map(Self))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no such object: it may be gone, or belong to a session by now")
    }
}
