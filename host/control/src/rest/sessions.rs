//! Reading and deleting sessions.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::cursor::{read_cursor, write_cursor};
use super::extract::{Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use super::view::SessionView;
use crate::changes::Listener;
use crate::control::Shared;
use crate::domain::{Phase, SessionId, WishedState};
use crate::store::{Deletion, NewDeletion, Position, SessionFilter, SessionRecord, StoreError};

/// Whoever waits looks so often, even if told of no change.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

#[derive(Serialize, ToSchema)]
#[schema(as = SessionPage)]
struct Page<'a> {
    items: Vec<SessionView<'a>>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which sessions are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only those of this user.
    #[param(max_length = 512)]
    user_id: Option<String>,
    /// Only those that are wanted so.
    state: Option<WishedState>,
    /// Only those that were last seen so.
    phase: Option<Phase>,
    /// Only those made from this template.
    #[param(max_length = 512)]
    template_id: Option<String>,
    /// Only those on this controller.
    #[param(max_length = 512)]
    controller_id: Option<String>,
    /// Only those on controllers of this type.
    #[param(max_length = 512)]
    controller_type: Option<String>,
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
            user_id: given.short("user_id"),
            state: given.take("state", |text| {
                WishedState::parse(text).ok_or_else(|| "must be running, hibernated or terminated".to_owned())
            }),
            phase: given.take("phase", |text| {
                let expected = "must be Pending, Running, Hibernated, Failed or Terminated";
                Phase::parse(text).ok_or_else(|| expected.to_owned())
            }),
            template_id: given.short("template_id"),
            controller_id: given.short("controller_id"),
            controller_type: given.short("controller_type"),
            limit: given.limit(),
            cursor: given.take("cursor", read_cursor),
        }
    }
}

/// List sessions
///
/// Newest first. Users see their own only.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    operation_id = "list_sessions",
    tag = "Sessions",
    params(Wanted),
    responses(
        (status = 200, body = Page<'_>, description = "A page of them."),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let (records, next_cursor) = page(&shared, &caller, wanted).await?;
    let items = records.iter().map(SessionView::new).collect();
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// A page of sessions, and the cursor of the next one.
pub(crate) async fn page(
    shared: &Shared,
    caller: &Caller,
    wanted: Wanted,
) -> Result<(Vec<SessionRecord>, Option<String>), Problem> {
    let Wanted { mut user_id, state, phase, template_id, controller_id, controller_type, limit, cursor } =
        wanted;
    if !caller.sees_all() {
        if user_id.as_ref().is_some_and(|user| *user != caller.user_id) {
            let message = "only operators may see the sessions of others";
            return Err(Problem::forbidden_field("user_id", message));
        }
        user_id = Some(caller.user_id.clone());
    }
    let filter = SessionFilter { user_id, state, phase, template_id, controller_id, controller_type };
    // One more than asked for tells whether there is a next page.
    let mut records = shared.store.sessions(&filter, cursor.as_ref(), limit + 1).await?;
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next_cursor = records.last().filter(|_| more).map(|last| {
        let session = &last.session;
        write_cursor(&Position { created_at: session.created_at, id: session.id.to_string() })
    });
    Ok((records, next_cursor))
}

/// Read a session
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}",
    operation_id = "get_session",
    tag = "Sessions",
    params(VisibleRecord),
    responses((status = 200, body = SessionView<'_>, description = "The session."), Refused<400>, Refused<503>),
)]
pub(super) async fn get(
    _: Query<NoParameters>,
    Path(VisibleRecord(record)): Path<VisibleRecord>,
) -> Response {
    Json(SessionView::new(&record)).into_response()
}

/// How a session is to be deleted.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Deleting {
    /// Answer when nothing is left of it, and at the latest after this time (300 s at most).
    #[param(
        value_type = Option<String>,
        pattern = r"^\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$",
        example = "30s",
    )]
    pub(crate) wait: Option<Duration>,
    /// Remove the user's home as well. While another session uses it, the deletion waits.
    #[param(default = false, required = false)]
    pub(crate) purge_home: bool,
    /// Forget the session if its controller does not say within a minute that nothing is left of it. What is left is
    /// removed when it is seen. For operators.
    #[param(default = false, required = false)]
    pub(crate) force: bool,
}

impl ParameterSet for Deleting {
    fn take(given: &mut Parameters) -> Self {
        Self { wait: given.wait(), purge_home: given.flag("purge_home"), force: given.flag("force") }
    }
}

/// A session that is being deleted and whose row cannot be read.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UnreadableSession)]
struct Unreadable<'a> {
    id: &'a SessionId,
    /// Always true.
    deleting: bool,
}

/// What is told of a session that is being deleted.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = DeletedSession)]
enum Remaining<'a> {
    Session(Box<SessionView<'a>>),
    Unreadable(Unreadable<'a>),
}

/// Delete a session
///
/// Legal in every phase. Repeating it is harmless.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    operation_id = "delete_session",
    tag = "Sessions",
    params(Deleting, VisibleSession),
    responses(
        (status = 202, body = Remaining<'_>, description = "It is being deleted."),
        (status = 204, description = "Nothing is left of it, or it was forgotten."),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(how): Query<Deleting>,
    Path(VisibleSession(id)): Path<VisibleSession>,
) -> Result<Response, Problem> {
    let remaining = match end(&shared, &caller, &id, how).await? {
        Remains::Nothing => return Ok(StatusCode::NO_CONTENT.into_response()),
        Remains::Unreadable => {
            let remaining = Remaining::Unreadable(Unreadable { id: &id, deleting: true });
            return Ok((StatusCode::ACCEPTED, Json(remaining)).into_response());
        }
        Remains::Session(record) => record,
    };
    let session = Remaining::Session(Box::new(SessionView::new(&remaining)));
    Ok((StatusCode::ACCEPTED, Json(session)).into_response())
}

/// What is left of a session that is being deleted.
pub(crate) enum Remains {
    Nothing,
    Session(Box<SessionRecord>),
    /// Its row cannot be read.
    Unreadable,
}

/// Wishes that nothing is left of a session, and waits for that if it is asked as well.
pub(crate) async fn end(
    shared: &Shared,
    caller: &Caller,
    id: &SessionId,
    Deleting { wait, purge_home, force }: Deleting,
) -> Result<Remains, Problem> {
    if force && !caller.sees_all() {
        return Err(Problem::forbidden_field("force", "only operators may do this"));
    }
    let mut listener = shared.changes.subscribe();
    let wanted = NewDeletion { purge_home, force_after: force.then_some(shared.config.force_after) };
    let deletion = shared.store.request_deletion(caller.actor(), id, wanted).await?;
    streamspace_failpoint::hit("control.delete.committed");
    shared.changes.changed(id);
    shared.wake.notify_one();

    Ok(match (deletion, wait) {
        (Deletion::NoSuchSession, _) => return Err(VisibleSession::unknown()),
        // Nobody can ask its controller for anything.
        (Deletion::WishedUnreadable, _) if force => {
            shared.store.forget_session(caller.actor(), id, shared.config.keep_tombstones).await?;
            shared.changes.changed(id);
            Remains::Nothing
        }
        // The wish is stored, and that is all that can be told.
        (Deletion::WishedUnreadable, _) => Remains::Unreadable,
        (Deletion::Wished(record), None) => Remains::Session(record),
        (Deletion::Wished(_), Some(wait)) => {
            let left = wait_until(shared, &mut listener, id, wait, |_| false).await?;
            left.map_or(Remains::Nothing, |record| Remains::Session(Box::new(record)))
        }
    })
}

/// A session that the caller may see, as a path names it.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(crate) struct VisibleSession(
    /// The session's id.
    pub(crate) SessionId,
);

impl InPath for VisibleSession {
    async fn find(name: String, caller: &Caller, shared: &Shared) -> Found<Self> {
        let Ok(id) = SessionId::parse(&name) else { return Ok(None) };
        let owner = shared.store.session_owner(&id).await?;
        Ok(owner.is_some_and(|owner| caller.sees(&owner)).then_some(Self(id)))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no session with this id")
    }
}

/// The same with all that is stored of it.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(crate) struct VisibleRecord(
    /// The session's id.
    #[param(value_type = SessionId)]
    pub(crate) SessionRecord,
);

impl InPath for VisibleRecord {
    async fn find(name: String, caller: &Caller, shared: &Shared) -> Found<Self> {
        match VisibleSession::find(name, caller, shared).await? {
            Some(VisibleSession(id)) => Ok(shared.store.session(&id).await?.map(Self)),
            None => Ok(None),
        }
    }

    fn unknown() -> Problem {
        VisibleSession::unknown()
    }
}

/// Waits until a session is as wanted or gone (then `None`), the time is up, or the server stops.
pub(super) async fn wait_until(
    shared: &Shared,
    listener: &mut Listener,
    id: &SessionId,
    wait: Duration,
    enough: impl Fn(&SessionRecord) -> bool,
) -> Result<Option<SessionRecord>, StoreError> {
    let deadline = tokio::time::Instant::now() + wait.min(shared.config.wait_limit);
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
