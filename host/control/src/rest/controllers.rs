//! What operators see of controllers, and say about them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, Operator};
use super::extract::{Body, Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use super::validate::Faults;
use super::view::ControllerView;
use crate::control::Shared;
use crate::domain::{Controller, ControllerId, Instance, SessionId};
use crate::reconcile::PLACEMENTS;
use crate::store::{ControllerChange, ControllerDeletion};

/// A process of a controller that was not heard of for longer is not shown, unless it is the active one.
const INSTANCES_SHOWN: Duration = Duration::from_secs(600);

/// List controllers
///
/// All of them, as a plain array. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/controllers",
    operation_id = "list_controllers",
    tag = "Operation",
    responses(
        (status = 200, body = [ControllerView<'_>], description = "All of them."),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    _: Query<NoParameters>,
) -> Result<Response, Problem> {
    let found = all(&shared).await?;
    Ok(Json(found.iter().map(Shown::view).collect::<Vec<_>>()).into_response())
}

/// Read a controller
///
/// For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/controllers/{id}",
    operation_id = "get_controller",
    tag = "Operation",
    params(AnyController),
    responses(
        (status = 200, body = ControllerView<'_>, description = "The controller."),
        Refused<400>,
        Refused<403>,
        Refused<503>,
    ),
)]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    _: Query<NoParameters>,
    Path(AnyController(id)): Path<AnyController>,
) -> Result<Response, Problem> {
    Ok(Json(one(&shared, &id).await?.view()).into_response())
}

/// A controller, with those of its processes that are heard of.
pub(crate) struct Shown {
    controller: Controller,
    instances: Vec<Instance>,
}

impl Shown {
    async fn of(shared: &Shared, controller: Controller) -> Result<Self, Problem> {
        let instances = shared.store.instances(Some(&controller.id), INSTANCES_SHOWN).await?;
        Ok(Self { controller, instances })
    }

    /// What is shown of it.
    pub(crate) fn view(&self) -> ControllerView<'_> {
        ControllerView::new(&self.controller, &self.instances)
    }
}

/// All controllers.
pub(crate) async fn all(shared: &Shared) -> Result<Vec<Shown>, Problem> {
    let controllers = shared.store.controllers().await?;
    let mut instances: HashMap<ControllerId, Vec<Instance>> = HashMap::new();
    for instance in shared.store.instances(None, INSTANCES_SHOWN).await? {
        instances.entry(instance.controller_id.clone()).or_default().push(instance);
    }
    let with = |controller: Controller| {
        let instances = instances.remove(&controller.id).unwrap_or_default();
        Shown { controller, instances }
    };
    Ok(controllers.into_iter().map(with).collect())
}

/// The controller of this id.
pub(crate) async fn one(shared: &Shared, id: &ControllerId) -> Result<Shown, Problem> {
    let controller = shared.store.controller(id).await?.ok_or_else(AnyController::unknown)?;
    Shown::of(shared, controller).await
}

/// What an operator says about a controller, as it is written.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ControllerPatch {
    /// Whether it gets no new sessions.
    pub(crate) draining: Option<bool>,
    /// Labels of the operator, which win over all others. `null` takes one away; those of the registration come back
    /// then.
    pub(crate) labels: BTreeMap<String, Option<String>>,
}

impl Body for ControllerPatch {}

/// Change a controller
///
/// For operators.
#[utoipa::path(
    patch,
    path = "/api/v1/admin/controllers/{id}",
    operation_id = "change_controller",
    tag = "Operation",
    params(AnyController),
    responses(
        (status = 200, body = ControllerView<'_>, description = "The controller."),
        Refused<400>,
        Refused<403>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Path(AnyController(id)): Path<AnyController>,
    _: Query<NoParameters>,
    Json(patch): Json<ControllerPatch>,
) -> Result<Response, Problem> {
    Ok(Json(change(&shared, &caller, &id, patch).await?.view()).into_response())
}

/// Changes what an operator says about a controller.
pub(crate) async fn change(
    shared: &Shared,
    caller: &Caller,
    id: &ControllerId,
    patch: ControllerPatch,
) -> Result<Shown, Problem> {
    let mut faults = Faults::default();
    let set = patch.labels.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
    faults.labels("labels", &set.collect());
    faults.finish()?;
    let change = ControllerChange { draining: patch.draining, labels: patch.labels };
    let controller = shared.store.change_controller(caller.actor(), id, change).await?;
    let controller = controller.ok_or_else(AnyController::unknown)?;
    tracing::info!(controller = %id, draining = controller.draining, "an operator changed a controller");
    // There may be room now where there was none.
    if shared.store.retry_unplaced(PLACEMENTS).await? > 0 {
        shared.wake.notify_one();
    }
    Shown::of(shared, controller).await
}

/// How a controller is to be removed.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Removing {
    /// Forget its sessions, whatever it has of them.
    #[param(default = false, required = false)]
    force: bool,
}

impl ParameterSet for Removing {
    fn take(given: &mut Parameters) -> Self {
        Self { force: given.flag("force") }
    }
}

/// A controller that was removed with its sessions.
#[derive(Serialize, ToSchema)]
struct RemovedController<'a> {
    id: &'a ControllerId,
    /// How many sessions were forgotten.
    forgotten: usize,
}

/// Remove a controller
///
/// One of the server's own configuration comes back, as a new one, when the server starts again. For operators.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/controllers/{id}",
    operation_id = "delete_controller",
    tag = "Operation",
    params(Removing, AnyController),
    responses(
        (status = 200, body = RemovedController<'_>, description = "It is removed by force, and this is what went with it."),
        (status = 204, description = "It is removed."),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<503>,
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Query(Removing { force }): Query<Removing>,
    Path(AnyController(id)): Path<AnyController>,
) -> Result<Response, Problem> {
    let forgotten = remove(&shared, &caller, &id, force).await?;
    Ok(if force {
        Json(RemovedController { id: &id, forgotten }).into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    })
}

/// Removes a controller, by force with its sessions. Says how many were forgotten.
pub(crate) async fn remove(
    shared: &Shared,
    caller: &Caller,
    id: &ControllerId,
    force: bool,
) -> Result<usize, Problem> {
    let mut forgotten = 0;
    if force {
        let keep = shared.config.keep_tombstones;
        let sessions = shared.store.forget_sessions_of(caller.actor(), id, keep).await?;
        sessions.iter().filter_map(|id| SessionId::parse(id).ok()).for_each(|id| shared.changes.changed(&id));
        forgotten = sessions.len();
    }
    match shared.store.delete_controller(caller.actor(), id).await? {
        ControllerDeletion::Deleted => {
            shared.fleet.detach(id);
            tracing::info!(controller = %id, forgotten, "a controller was removed");
            Ok(forgotten)
        }
        ControllerDeletion::NoSuchController => Err(AnyController::unknown()),
        ControllerDeletion::HasSessions(count) => {
            let detail = format!("{count} sessions are placed on it; drain it and delete them first");
            Err(Problem::conflict("has-sessions", &detail))
        }
    }
}

/// A controller as a path names it; whether there is one is seen when it is used.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(crate) struct AnyController(
    /// The controller's id.
    pub(crate) ControllerId,
);

impl InPath for AnyController {
    async fn find(name: String, _: &Caller, _: &Shared) -> Found<Self> {
        Ok(ControllerId::parse(&name).ok().map(Self))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no controller with this id")
    }
}
