//! How sessions and controllers look from outside.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{
    Capabilities, Condition, Controller, ControllerStatus, Generation, OperationKind, SessionSpec, Step,
    decide, now,
};
use crate::store::SessionRecord;

#[derive(Debug, Serialize)]
pub(super) struct SessionView<'a> {
    id: &'a str,
    user_id: &'a str,
    template_id: &'a str,
    controller_id: &'a str,
    controller_type: &'a str,
    node_id: &'a str,
    state: &'static str,
    phase: &'static str,
    url: String,
    spec: SessionSpec,
    #[serde(skip_serializing_if = "Map::is_empty")]
    controller_config: &'a Map<String, Value>,
    status: StatusView<'a>,
    generation: Generation,
    deleting: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct StatusView<'a> {
    conditions: &'a [Condition],
    observed_generation: Option<Generation>,
    last_activity: Option<DateTime<Utc>>,
    operation: Option<OperationView<'a>>,
}

/// What is under way; `null` when nothing is. What belongs to an earlier wish is not shown: the step for this one
/// has not begun.
#[derive(Debug, Serialize)]
struct OperationView<'a> {
    kind: &'static str,
    attempt: Option<u32>,
    deadline: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    message: Option<&'a str>,
    last_error: Option<&'a str>,
    since: Option<DateTime<Utc>>,
}

impl<'a> SessionView<'a> {
    pub(super) fn new(record: &'a SessionRecord) -> Self {
        let SessionRecord { session, operation } = record;
        let (controller_id, controller_type) =
            session.placed.as_ref().map_or(("", ""), |(id, kind)| (id.as_str(), kind.as_str()));
        let current = operation.generation == session.generation;
        Self {
            id: session.id.as_str(),
            user_id: &session.user_id,
            template_id: &session.template_id,
            controller_id,
            controller_type,
            node_id: &session.node_id,
            state: session.state.as_str(),
            phase: session.phase.as_str(),
            url: session.url(),
            spec: session.spec.redacted(),
            controller_config: &session.controller_config,
            status: StatusView {
                conditions: session.conditions.as_slice(),
                observed_generation: session.observed_generation,
                last_activity: session.last_activity,
                operation: (!operation.is_settled()).then(|| OperationView {
                    kind: kind(record).as_str(),
                    attempt: current.then_some(operation.attempt),
                    deadline: operation.deadline.filter(|_| current),
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

/// What is being done, or will be as soon as the step for an older wish has ended.
fn kind(SessionRecord { session, operation }: &SessionRecord) -> OperationKind {
    match decide(session, operation, now()) {
        _ if session.is_deleting() => OperationKind::Delete,
        Step::Call(kind) => kind,
        _ => operation.kind,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ControllerView<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    name: &'a str,
    status: ControllerStatus,
    sessions: u32,
    last_heartbeat: Option<DateTime<Utc>>,
    endpoint: &'a str,
    message: &'a str,
    capabilities: Option<&'a Capabilities>,
    labels: BTreeMap<&'a str, &'a str>,
    draining: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl<'a> ControllerView<'a> {
    pub(super) fn new(controller: &'a Controller) -> Self {
        let own = controller.capabilities.iter().flat_map(|capabilities| &capabilities.labels);
        Self {
            id: controller.id.as_str(),
            kind: &controller.controller_type,
            name: &controller.name,
            status: controller.status,
            sessions: controller.sessions,
            last_heartbeat: controller.last_heartbeat,
            endpoint: &controller.endpoint,
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
