//! `GET /api/v1/sessions/{id}/explain`: why a session is where it is, and what it waits for.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::SecondsFormat;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::extract::{Json, NoParameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use super::sessions::VisibleRecord;
use crate::control::Shared;
use crate::domain::{
    Controller, ControllerId, ControllerStatus, Generation, OperationKind, Phase, PlacementRequest,
    QuotaKind, Session, SessionId, Share, WishedState, condition_type,
};
use crate::placement::{Placement, Verdict};
use crate::store::SessionRecord;

/// Why a session is where it is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Explanation<'a> {
    session_id: &'a SessionId,
    state: WishedState,
    phase: Phase,
    generation: Generation,
    #[schema(required)]
    observed_generation: Option<Generation>,
    /// One sentence; `null` = for nothing.
    #[schema(required)]
    waiting_for: Option<String>,
    placement: PlacementView<'a>,
}

/// What was asked of the placement, and how the controllers stand to it.
#[derive(Serialize, ToSchema)]
#[schema(as = Placement)]
struct PlacementView<'a> {
    request: &'a PlacementRequest,
    controllers: Vec<VerdictView<'a>>,
}

/// How one controller stands to the session. Plain users see neither who it is nor what it says about itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Verdict)]
struct VerdictView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ControllerId, required = false)]
    id: Option<&'a ControllerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    name: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    status: ControllerStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    sessions: Option<u32>,
    /// The session is placed here.
    chosen: bool,
    /// It could take the session as things stand now.
    eligible: bool,
    /// What is in the way, in one word; absent = nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    obstacle: Option<&'static str>,
    /// The same in a sentence.
    reason: String,
    /// What the session asks for, and how the controller stands to it, in everything that either says something about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    capacity: Option<Vec<ShareView>>,
}

/// How a controller stands to what a session asks for, in one kind. What the session holds itself is not counted.
#[derive(Serialize, ToSchema)]
#[schema(as = Share)]
struct ShareView {
    resource: QuotaKind,
    /// What the session asks for.
    asked: String,
    /// What is reserved for others.
    reserved: String,
    /// What there is; `null` = the controller does not say, and takes whatever comes.
    #[schema(required)]
    total: Option<String>,
    /// How many times that is given away.
    overcommit: f64,
    /// What was free when the controller last said so; `null` = it does not say.
    #[schema(required)]
    available: Option<String>,
    /// What was given away that is not counted in that yet.
    promised: String,
    /// There is enough of it.
    enough: bool,
}

impl ShareView {
    fn new(share: Share) -> Self {
        let write = |amount: u64| share.kind.write(amount);
        Self {
            resource: share.kind,
            asked: write(share.asked),
            reserved: write(share.reserved),
            total: share.total.map(write),
            overcommit: share.overcommit.times(),
            available: share.available.map(write),
            promised: write(share.unseen),
            enough: share.is_enough(),
        }
    }
}

/// Explain where a session is
///
/// And what it waits for.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}/explain",
    operation_id = "explain_session",
    tag = "Watching",
    params(VisibleRecord),
    responses((status = 200, body = Explanation<'_>, description = "Why."), Refused<400>, Refused<503>),
)]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    _: Query<NoParameters>,
    Path(VisibleRecord(record)): Path<VisibleRecord>,
) -> Result<Response, Problem> {
    explain(&shared, &caller, &record, |explanation| Json(explanation).into_response()).await
}

/// Explains where a session is, as far as the caller may know.
pub(crate) async fn explain<T>(
    shared: &Shared,
    caller: &Caller,
    record: &SessionRecord,
    show: impl FnOnce(&Explanation<'_>) -> T,
) -> Result<T, Problem> {
    let session = &record.session;
    let controllers = shared.store.controllers().await?;
    let held = session.controller_id().map(|id| (id.clone(), session.held()));
    let strategy = shared.config.placement_strategy;
    let placer = Placement::new(&session.placement, &session.spec, strategy).holding(held);
    let full = caller.sees_all();
    let controller = session.controller_id().and_then(|id| controllers.iter().find(|one| one.id == *id));
    let verdicts = placer.verdicts(&controllers);
    let verdicts =
        verdicts.into_iter().map(|verdict| verdict_view(session, &placer, verdict, full)).collect();
    let explanation = Explanation {
        session_id: &session.id,
        state: session.state,
        phase: session.phase,
        generation: session.generation,
        observed_generation: session.observed_generation,
        waiting_for: waiting_for(record, controller, full),
        placement: PlacementView { request: &session.placement, controllers: verdicts },
    };
    Ok(show(&explanation))
}

fn verdict_view<'a>(
    session: &Session,
    placer: &Placement,
    verdict: Verdict<'a>,
    full: bool,
) -> VerdictView<'a> {
    let Verdict { controller, obstacle } = verdict;
    let chosen = session.controller_id() == Some(&controller.id);
    let reason = match &obstacle {
        _ if chosen => "the session is placed here".to_owned(),
        _ if session.moving_to.as_ref() == Some(&controller.id) => "the session moves here".to_owned(),
        Some(obstacle) if full => obstacle.describe_fully(controller),
        Some(obstacle) => obstacle.describe(controller),
        None if session.placed.is_some() => "could take it; another was chosen".to_owned(),
        None => "can take it".to_owned(),
    };
    VerdictView {
        id: full.then_some(&controller.id),
        name: full.then_some(controller.name.as_str()),
        kind: &controller.controller_type,
        status: controller.status,
        sessions: full.then_some(controller.sessions),
        chosen,
        eligible: obstacle.is_none(),
        obstacle: obstacle.map(|obstacle| obstacle.as_str()),
        reason,
        capacity: full.then(|| {
            let told = |share: &Share| share.asked > 0 || share.total.is_some() || share.available.is_some();
            placer.ledger(controller).shares(placer.asked()).filter(told).map(ShareView::new).collect()
        }),
    }
}

/// What keeps a session from being as it is wanted.
fn waiting_for(record: &SessionRecord, controller: Option<&Controller>, full: bool) -> Option<String> {
    let SessionRecord { session, operation } = record;
    if operation.is_settled() {
        let ready = session.conditions.get(condition_type::READY);
        return (session.phase == Phase::Failed).then(|| {
            let why = ready.map_or("", |ready| ready.message.as_str());
            format!("nothing is tried any more, it failed: {}", or(why, "no reason was given"))
        });
    }
    let mut next = String::new();
    if let Some(at) = operation.next_attempt_at {
        next = format!("; next attempt at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    if session.placed.is_none() {
        let scheduled = session.conditions.get(condition_type::SCHEDULED);
        let why = scheduled.map_or("", |scheduled| scheduled.message.as_str());
        return Some(format!("a controller that can take it: {}{next}", or(why, "none was chosen yet")));
    }
    if let Some(controller) = controller.filter(|one| one.status != ControllerStatus::Healthy) {
        return Some(format!("{}{next}", unwell(controller, full)));
    }
    let goes = session.is_deleting() || session.moving_to.is_some();
    let kind = if goes { OperationKind::Delete } else { operation.kind };
    let what = match kind {
        OperationKind::Create => "its creation",
        OperationKind::Delete if session.moving_to.is_some() => "its removal where it is, to be moved",
        OperationKind::Delete => "its removal",
        OperationKind::Hibernate => "its hibernation",
        OperationKind::Wake => "its waking",
        OperationKind::CleanUp => "the removal of what its creation left",
    };
    // What belongs to an earlier wish says nothing about this one.
    if operation.generation != session.generation {
        return Some(format!("{what}, which begins at once"));
    }
    Some(if !operation.last_error.is_empty() {
        format!("{what}, which failed {} times: {}{next}", operation.failures, operation.last_error)
    } else if !operation.message.is_empty() {
        format!("{what}: {}", operation.message)
    } else {
        what.to_owned()
    })
}

fn unwell(controller: &Controller, full: bool) -> String {
    let who = if full { format!("controller {:?}", controller.name) } else { "its controller".to_owned() };
    let mut text = format!("{who}, which is {}", controller.status.as_str());
    if let Some(at) = controller.last_heartbeat {
        text.push_str(&format!(" and last answered at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)));
    }
    if full && !controller.message.is_empty() {
        text.push_str(&format!(" ({})", controller.message));
    }
    text
}

fn or<'a>(text: &'a str, instead: &'a str) -> &'a str {
    if text.is_empty() { instead } else { text }
}
