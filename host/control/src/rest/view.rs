//! How sessions and controllers look from outside.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::{Capabilities, Condition, Controller, ControllerStatus, Generation, SessionSpec};
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
    operation: Option<OperationView<'a>>,
}

/// What is under way; absent when nothing is.
#[derive(Debug, Serialize)]
struct OperationView<'a> {
    kind: &'static str,
    attempt: u32,
    deadline: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    message: &'a str,
}

impl<'a> SessionView<'a> {
    pub(super) fn new(record: &'a SessionRecord) -> Self {
        let SessionRecord { session, operation } = record;
        let (controller_id, controller_type) =
            session.placed.as_ref().map_or(("", ""), |(id, kind)| (id.as_str(), kind.as_str()));
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
                operation: (!operation.is_settled()).then(|| OperationView {
                    kind: if session.is_deleting() { "delete" } else { operation.kind.as_str() },
                    attempt: operation.attempt,
                    deadline: operation.deadline,
                    next_attempt_at: operation.next_attempt_at,
                    message: &operation.message,
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
            // Those of the registration come last and win.
            labels: own
                .chain(&controller.labels)
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
            created_at: controller.created_at,
            updated_at: controller.updated_at,
        }
    }
}
