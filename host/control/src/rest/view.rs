//! How sessions and controllers look from outside.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::domain::{
    Amounts, Capabilities, Condition, Controller, ControllerId, ControllerStatus, Generation, Instance,
    InstanceRole, InstanceStatus, OperationKind, Phase, QuotaKind, SessionId, SessionSpec, Step, WishedState,
    decide, now,
};
use crate::store::SessionRecord;

/// A session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionView<'a> {
    id: &'a SessionId,
    /// Whose it is.
    user_id: &'a str,
    /// The template that it was made from; may be empty.
    template_id: &'a str,
    /// Where it is placed; empty until then.
    controller_id: &'a str,
    /// The type of that controller.
    controller_type: &'a str,
    /// The controller that it is moved to; `null` when it is not.
    #[schema(required)]
    moving_to: Option<&'a ControllerId>,
    /// What the backend calls it; may be empty.
    node_id: &'a str,
    /// What is wanted.
    state: WishedState,
    /// What was last seen.
    phase: Phase,
    /// Where a browser reaches it, on the same host as the API.
    url: String,
    spec: SessionSpec,
    /// Settings for the type of backend.
    #[serde(skip_serializing_if = "Map::is_empty")]
    controller_config: &'a Map<String, Value>,
    status: StatusView<'a>,
    /// Counts the changes of the wish.
    generation: Generation,
    /// The deletion is wished.
    deleting: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What was observed of a session.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionStatus)]
struct StatusView<'a> {
    /// Why it is as it is.
    conditions: &'a [Condition],
    /// The generation that the phase belongs to.
    #[schema(required)]
    observed_generation: Option<Generation>,
    /// When somebody last used it.
    #[schema(required)]
    last_activity: Option<DateTime<Utc>>,
    #[schema(required)]
    operation: Option<OperationView<'a>>,
}

/// What is under way; `null` when nothing is. What belongs to an earlier wish is not shown: the step for this one
/// has not begun.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Operation)]
struct OperationView<'a> {
    kind: OperationKind,
    #[schema(required)]
    attempt: Option<u32>,
    /// When it is given up.
    #[schema(required)]
    deadline: Option<DateTime<Utc>>,
    #[schema(required)]
    next_attempt_at: Option<DateTime<Utc>>,
    /// The last word of the controller.
    #[schema(required)]
    message: Option<&'a str>,
    #[schema(required)]
    last_error: Option<&'a str>,
    #[schema(required)]
    since: Option<DateTime<Utc>>,
}

impl<'a> SessionView<'a> {
    pub(crate) fn new(record: &'a SessionRecord) -> Self {
        let SessionRecord { session, operation } = record;
        let (controller_id, controller_type) =
            session.placed.as_ref().map_or(("", ""), |(id, kind)| (id.as_str(), kind.as_str()));
        let current = operation.generation == session.generation;
        Self {
            id: &session.id,
            user_id: &session.user_id,
            template_id: &session.template_id,
            controller_id,
            controller_type,
            moving_to: session.moving_to.as_ref(),
            node_id: &session.node_id,
            state: session.state,
            phase: session.phase,
            url: session.url(),
            spec: session.spec.redacted(),
            controller_config: &session.controller_config,
            status: StatusView {
                conditions: session.conditions.as_slice(),
                observed_generation: session.observed_generation,
                last_activity: session.last_activity,
                operation: (!operation.is_settled()).then(|| OperationView {
                    kind: kind(record),
                    attempt: current.then_some(operation.attempt),
                    deadline: deadline(record).filter(|_| current),
                    next_attempt_at: operation.next_attempt_at,
                    message: current.then_some(operation.message.as_str()),
                    last_error: current.then_some(operation.last_error.as_str()),
                    since: operation.id.begun_at().filter(|_| current),
                }),
            },
            generation: session.generation,
            deleting: session.is_deleting(),
            created_at: session.created_at,
            updated_at: session.updated_at,
        }
    }

    /// The view as text. The types above always serialize.
    pub(super) fn render(record: &SessionRecord) -> String {
        serde_json::to_string(&SessionView::new(record)).unwrap_or_default()
    }
}

/// When it is given up. A deletion never is, unless it was asked for by force.
fn deadline(SessionRecord { session, operation }: &SessionRecord) -> Option<DateTime<Utc>> {
    if session.is_deleting() { session.forget_after } else { operation.deadline }
}

/// What is being done, or will be as soon as the step for an older wish has ended.
fn kind(SessionRecord { session, operation }: &SessionRecord) -> OperationKind {
    match decide(session, operation, now()) {
        _ if session.is_deleting() => OperationKind::Delete,
        Step::Call(kind) => kind,
        _ => operation.kind,
    }
}

/// A controller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Controller)]
pub(crate) struct ControllerView<'a> {
    id: &'a ControllerId,
    /// The kind of backend.
    #[serde(rename = "type")]
    kind: &'a str,
    /// Unique within its type.
    name: &'a str,
    status: ControllerStatus,
    /// How many sessions are placed on it.
    sessions: u32,
    /// What is reserved for them.
    reserved: ReservedView,
    /// When it last answered, or gave a sign of life by itself.
    #[schema(required)]
    last_heartbeat: Option<DateTime<Utc>>,
    /// Where it is called; empty for one within a server, and for one that connects by itself.
    endpoint: &'a str,
    /// It runs in processes of its own, which register.
    remote: bool,
    /// Those of a remote one that are heard of; the active one comes first.
    instances: Vec<InstanceView<'a>>,
    /// Why it is not healthy.
    message: &'a str,
    /// What it can do; `null` until it first said so.
    #[schema(required)]
    capabilities: Option<&'a Capabilities>,
    /// All its labels; those of the operator win.
    labels: BTreeMap<&'a str, &'a str>,
    /// It gets no new sessions.
    draining: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A process of a remote controller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ControllerInstance)]
struct InstanceView<'a> {
    /// Its name; empty = the one and only.
    instance: &'a str,
    role: InstanceRole,
    /// Where it is called; empty = it connects by itself.
    endpoint: &'a str,
    status: InstanceStatus,
    /// How many sessions it says it has.
    #[schema(required)]
    current_sessions: Option<u32>,
    resource_usage: ReportedUsageView<'a>,
    /// Until then it keeps its role without being heard of.
    lease_until: DateTime<Utc>,
    registered_at: DateTime<Utc>,
    last_heartbeat: DateTime<Utc>,
}

/// What a process says its sessions take; empty where it says nothing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ControllerUsage)]
struct ReportedUsageView<'a> {
    memory: &'a str,
    cpu: &'a str,
}

impl<'a> InstanceView<'a> {
    fn new(instance: &'a Instance) -> Self {
        Self {
            instance: &instance.instance,
            role: instance.role,
            endpoint: &instance.endpoint,
            status: instance.status,
            current_sessions: instance.current_sessions,
            resource_usage: ReportedUsageView { memory: &instance.memory, cpu: &instance.cpu },
            lease_until: instance.lease_until,
            registered_at: instance.registered_at,
            last_heartbeat: instance.last_heartbeat,
        }
    }
}

/// What is reserved of a controller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reserved)]
struct ReservedView {
    /// Places: of all sessions but those that are terminated.
    sessions: u64,
    /// Processors, of those that run or are to run.
    cpu: String,
    /// Memory, likewise.
    memory: String,
    /// Disks, volumes and homes, as asked for.
    storage: String,
}

impl ReservedView {
    fn new(reserved: &Amounts) -> Self {
        let write = |kind: QuotaKind| kind.write(reserved.of(kind));
        Self {
            sessions: reserved.sessions,
            cpu: write(QuotaKind::Cpu),
            memory: write(QuotaKind::Memory),
            storage: write(QuotaKind::Storage),
        }
    }
}

impl<'a> ControllerView<'a> {
    /// With those of its processes that are heard of.
    pub(super) fn new(controller: &'a Controller, instances: &'a [Instance]) -> Self {
        let heard = instances.iter().map(|instance| instance.last_heartbeat).max();
        let own = controller.capabilities.iter().flat_map(|capabilities| &capabilities.labels);
        Self {
            id: &controller.id,
            kind: &controller.controller_type,
            name: &controller.name,
            status: controller.status,
            sessions: controller.sessions,
            reserved: ReservedView::new(&controller.ledger.reserved),
            last_heartbeat: controller.last_heartbeat.max(heard),
            endpoint: &controller.endpoint,
            remote: controller.remote,
            instances: instances.iter().map(InstanceView::new).collect(),
            message: &controller.message,
            capabilities: controller.capabilities.as_ref(),
            // What comes later wins, as in [`Controller::label`].
            labels: own
                .chain(&controller.labels)
                .chain(&controller.operator_labels)
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
            draining: controller.draining,
            created_at: controller.created_at,
            updated_at: controller.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Operation, Phase, Wish, WishedState, test_session};

    #[test]
    fn a_new_wish_does_not_show_the_work_for_the_old_one() {
        let session = test_session(Wish::State(WishedState::Running), true, Phase::Pending);
        let mut operation = Operation::first(session.id.clone(), now());
        (operation.attempt, operation.deadline, operation.message) = (7, Some(now()), "pulling".into());
        let mut record = SessionRecord { session, operation };
        let shown = |record: &SessionRecord| {
            let view: Value = serde_json::from_str(&SessionView::render(record)).unwrap();
            view["status"]["operation"].clone()
        };
        assert_eq!((&shown(&record)["attempt"], &shown(&record)["message"]), (&7.into(), &"pulling".into()));

        record.session.wish = Wish::Gone { purge_home: false };
        record.session.generation = record.session.generation.next();
        let deletion = shown(&record);
        assert_eq!(deletion["kind"], "delete");
        for field in ["attempt", "deadline", "message"] {
            assert_eq!(deletion[field], Value::Null, "{field}");
        }
    }
}
