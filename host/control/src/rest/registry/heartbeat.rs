//! `POST /api/v1/controllers/{id}/heartbeat`: a process of a controller lives.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::credential::Presented;
use super::keys::KeySetView;
use super::refusals::{self, Refused as Unheard};
use super::register::TOKEN_OVERLAP;
use crate::control::Shared;
use crate::domain::{
    ByteQuantity, ControllerId, CpuQuantity, Epoch, GoDuration, InstanceRole, InstanceStatus,
    LONGEST_INSTANCE, shortened,
};
use crate::rest::extract::{Body, Json, NoParameters, Query};
use crate::rest::openapi::Refused;
use crate::rest::problem::Problem;
use crate::rest::validate::Faults;
use crate::store::{Credential, Heartbeat, OwnToken};

/// How a process of a controller does.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ControllerHeartbeat {
    /// `draining`: it is about to end, and another process may take over at once.
    #[schema(value_type = InstanceStatus)]
    status: String,
    /// How many sessions it has.
    #[serde(default)]
    current_sessions: Option<u32>,
    /// What they take.
    #[serde(default)]
    resource_usage: Option<ReportedUsage>,
    /// The process, as it registered; absent = the one and only.
    #[serde(default)]
    #[schema(max_length = 64)]
    instance: Option<String>,
}

/// What the sessions of a controller take.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReportedUsage {
    /// Like `32Gi`.
    memory: Option<String>,
    /// Like `8` or `1500m`.
    cpu: Option<String>,
}

impl Body for ControllerHeartbeat {
    const OBJECTS: &'static [&'static str] = &["/resource_usage"];
}

/// What is wanted of a controller.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum WantedState {
    /// Sessions.
    Serve,
    /// No new ones.
    Drain,
}

/// The answer to a sign of life.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartbeatAnswer)]
struct Answer {
    state: WantedState,
    /// How long to wait before the next sign of life, at most.
    #[schema(value_type = String, example = "5s")]
    heartbeat_interval: GoDuration,
    /// How long the active process may be silent before another one is called. It changes nothing any more once this time is
    /// over, counted from when it sent this sign of life.
    #[schema(value_type = String, example = "15s")]
    lease: GoDuration,
    /// No call under a lower epoch may change anything at the backend.
    epoch: Epoch,
    role: InstanceRole,
    keys: KeySetView,
}

/// Give a sign of life
///
/// For controllers, with the token that they got when they registered. Of several processes of one controller the active one
/// is called. Another one becomes active with the first sign of life that comes after the active one was not heard of for the
/// time of its lease. 401: register again.
#[utoipa::path(
    post,
    path = "/api/v1/controllers/{id}/heartbeat",
    operation_id = "controller_heartbeat",
    tag = "Remote controllers",
    security(("controller_token" = [])),
    params(("id" = String, Path, description = "The controller's id.")),
    responses(
        (status = 200, body = Answer, description = "It is noted."),
        Refused<400>,
        Refused<401>,
        Refused<403>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    presented: Presented,
    Path(id): Path<String>,
    _: Query<NoParameters>,
    Json(body): Json<ControllerHeartbeat>,
) -> Result<Response, Problem> {
    let own = match &presented.credential {
        Credential::Own(own) if own.controller_id.as_str() == id => own.clone(),
        Credential::Own(_) => {
            let refusal = Problem::forbidden("the token is another controller's");
            return Err(refused(&shared, &presented, &id, "the token is another controller's", refusal).await);
        }
        Credential::Join(_) => {
            let refusal = Problem::unauthorized("a join token is for registration only");
            return Err(refused(&shared, &presented, &id, "a join token", refusal).await);
        }
    };
    let beat = read(body, own.controller_id.clone(), &shared, &presented)?;
    if beat.instance != own.instance {
        let refusal = Problem::unauthorized("the token is that of another process of the controller");
        return Err(refused(&shared, &presented, &id, "the token is another process's", refusal).await);
    }
    let status = beat.status;
    let OwnToken { controller_id: id, .. } = own;
    let Some(heard) = shared.store.heard(beat).await? else {
        return Err(Problem::unauthorized("the process is not registered any more"));
    };
    if heard.activated {
        tracing::warn!(controller = %id, epoch = heard.epoch.get(), "another process of the controller took over");
        shared.remotes.look_now().await;
    } else if heard.role == InstanceRole::Active {
        ask_if_otherwise(&shared, &id, status);
    }
    let keys = KeySetView::new(shared.store.server_keys().await?);
    Ok(Json(Answer {
        state: if heard.draining { WantedState::Drain } else { WantedState::Serve },
        heartbeat_interval: GoDuration::of(shared.config.heartbeat_interval()),
        lease: GoDuration::of(shared.config.instance_lease),
        epoch: heard.epoch,
        role: heard.role,
        keys,
    })
    .into_response())
}

/// What a controller says of itself leads to a question; only its answer counts.
fn ask_if_otherwise(shared: &Shared, id: &ControllerId, status: InstanceStatus) {
    let known = shared.fleet.health(id).map(|health| health.is_good());
    if known.is_some_and(|well| well != (status == InstanceStatus::Healthy)) {
        shared.fleet.probe_now(id);
    }
}

async fn refused(
    shared: &Shared,
    presented: &Presented,
    target: &str,
    reason: &str,
    problem: Problem,
) -> Problem {
    let target = shortened(target);
    let unheard = Unheard { by: presented.actor(), target: &target, request: "heartbeat", reason };
    refusals::note(shared, unheard).await;
    problem
}

fn read(
    body: ControllerHeartbeat,
    id: ControllerId,
    shared: &Shared,
    presented: &Presented,
) -> Result<Heartbeat, Problem> {
    let mut faults = Faults::default();
    let status = InstanceStatus::parse(&body.status);
    if status.is_none() {
        faults.add("status", "must be healthy, unhealthy or draining");
    }
    let usage = body.resource_usage.unwrap_or_default();
    let memory = faults.parsed("resource_usage.memory", usage.memory, ByteQuantity::parse);
    let cpu = faults.parsed("resource_usage.cpu", usage.cpu, CpuQuantity::parse);
    let instance = body.instance.unwrap_or_default();
    check_instance(&mut faults, &instance);
    faults.finish()?;
    Ok(Heartbeat {
        id,
        instance,
        token_hash: presented.hash.clone(),
        token_overlap: TOKEN_OVERLAP,
        status: status.unwrap_or(InstanceStatus::Unhealthy),
        current_sessions: body.current_sessions,
        memory: memory.map(|memory| memory.to_string()).unwrap_or_default(),
        cpu: cpu.map(|cpu| cpu.to_string()).unwrap_or_default(),
        lease: shared.config.instance_lease,
        request_id: presented.request_id.clone(),
    })
}

/// The name of a process.
pub(super) fn check_instance(faults: &mut Faults, instance: &str) {
    if instance.chars().count() > LONGEST_INSTANCE {
        faults.add("instance", format!("longer than {LONGEST_INSTANCE} characters"));
    } else if instance.chars().any(char::is_control) {
        faults.add("instance", "must not have control characters");
    }
}
