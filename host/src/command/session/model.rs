//! A session, as far as the commands look at it.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::client::Client;
use crate::command::time::{age, moment, moment_of};
use crate::table::{Cell, Table, Tone, fields};

#[derive(Debug, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user_id: String,
    #[serde(default)]
    pub(super) template_id: String,
    #[serde(default)]
    controller_id: String,
    #[serde(default)]
    pub(super) controller_type: String,
    #[serde(default)]
    node_id: String,
    pub(super) state: String,
    pub(super) phase: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: Status,
    #[serde(default)]
    pub(super) deleting: bool,
    pub(super) created_at: DateTime<Utc>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    pub(super) base_image: String,
    webapp: Option<Webapp>,
    vnc: Option<Vnc>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Webapp {
    enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Vnc {
    enabled: bool,
    protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    conditions: Vec<Condition>,
    pub(super) operation: Option<Operation>,
    last_activity: Option<DateTime<Utc>>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Operation {
    kind: String,
    attempt: Option<u32>,
    next_attempt_at: Option<DateTime<Utc>>,
    message: Option<String>,
    last_error: Option<String>,
}

impl Operation {
    /// What is under way, in one line.
    fn describe(&self) -> String {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (text(&self.last_error), text(&self.message)) {
            (Some(error), _) => {
                let next = self.next_attempt_at.map(|at| format!("; next attempt at {}", moment(at)));
                let attempt = self.attempt.map(|attempt| format!(" {attempt}")).unwrap_or_default();
                format!("{}, attempt{attempt} failed: {error}{}", self.kind, next.unwrap_or_default())
            }
            (None, Some(message)) => format!("{}: {message}", self.kind),
            (None, None) => self.kind.clone(),
        }
    }
}

impl Session {
    /// Where a browser reaches it, or where a client of remote desktops does.
    pub(super) fn url(&self, client: &Client) -> String {
        if self.is_remote_desktop() { self.desktop_url(client) } else { client.absolute(&self.url) }
    }

    /// Where a client of remote desktops, such as noVNC, connects its WebSocket.
    pub(super) fn desktop_url(&self, client: &Client) -> String {
        let url = client.absolute(&format!("/api/v1/sessions/{}/vnc", self.id));
        url.strip_prefix("http").map_or(url.clone(), |rest| format!("ws{rest}"))
    }

    /// Whether it is, first of all, a desktop that speaks RFB. A browser alone cannot show that.
    pub(super) fn is_remote_desktop(&self) -> bool {
        let has_web = self.spec.webapp.as_ref().is_some_and(|web| web.enabled);
        let speaks_rfb = |vnc: &Vnc| vnc.enabled && ["", "rfb"].contains(&vnc.protocol.as_str());
        !has_web && self.spec.vnc.as_ref().is_some_and(speaks_rfb)
    }

    /// The phase, coloured.
    pub(super) fn phase_cell(&self) -> Cell {
        let tone = match self.phase.as_str() {
            "Running" => Some(Tone::Good),
            "Failed" => Some(Tone::Bad),
            "Pending" => Some(Tone::Waiting),
            _ => None,
        };
        Cell::toned(self.phase.as_str(), tone)
    }

    /// What keeps it from being as it is wanted, or what is being done; empty when there is nothing to say.
    pub(super) fn why(&self) -> String {
        let telling = self.status.operation.as_ref().filter(|operation| {
            [&operation.message, &operation.last_error].into_iter().flatten().any(|text| !text.is_empty())
        });
        if let Some(operation) = telling {
            return operation.describe();
        }
        // What the server itself says of the session comes before what its parts say.
        let conditions = &self.status.conditions;
        let unmet = |kind: &str| conditions.iter().find(|one| one.kind == kind && one.status != "True");
        let unmet = ["Scheduled", "ControllerReachable", "Ready"].into_iter().find_map(unmet);
        match (unmet, &self.status.operation) {
            (Some(one), _) if one.message.is_empty() => one.reason.clone(),
            (Some(one), _) => one.message.clone(),
            (None, Some(operation)) => operation.describe(),
            (None, None) => String::new(),
        }
    }

    /// Everything for a person.
    pub(super) fn describe(&self, client: &Client) -> String {
        let wanted = if self.deleting { "deleted" } else { self.state.as_str() };
        let on = match (self.controller_type.as_str(), self.controller_id.as_str()) {
            ("", "") => "not placed yet".to_owned(),
            (kind, id) => format!("{kind} ({id})"),
        };
        let mut text = fields([
            ("ID", self.id.as_str().into()),
            ("USER", self.user_id.as_str().into()),
            ("TEMPLATE", self.template_id.as_str().into()),
            ("IMAGE", self.spec.base_image.as_str().into()),
            ("WANTED", wanted.into()),
            ("PHASE", self.phase_cell()),
            ("CONTROLLER", on.into()),
            ("NODE", self.node_id.as_str().into()),
            ("URL", self.url(client).into()),
            ("CREATED", format!("{} ({} ago)", moment(self.created_at), age(self.created_at)).into()),
            ("LAST USED", moment_of(self.status.last_activity).into()),
            ("UNDER WAY", self.status.operation.as_ref().map(Operation::describe).unwrap_or_default().into()),
        ]);
        if !self.status.conditions.is_empty() {
            let mut table = Table::new(["CONDITION", "STATUS", "REASON", "MESSAGE"]);
            for condition in &self.status.conditions {
                let Condition { kind, status, reason, message } = condition;
                table.row([kind, status, reason, message].map(|text| text.as_str().into()));
            }
            text.push('\n');
            text.push_str(&table.render());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn why(status: Value) -> String {
        let session = json!({
            "id": "1", "user_id": "a", "state": "running", "phase": "Pending", "status": status,
            "created_at": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value::<Session>(session).unwrap().why()
    }

    #[test]
    fn a_desktop_that_speaks_rfb_is_for_a_client() {
        for (spec, expected) in [
            (json!({"vnc": {"enabled": true, "port": 5900, "protocol": "rfb"}}), true),
            (json!({"vnc": {"enabled": true, "port": 5900}, "webapp": null}), true),
            (json!({"vnc": {"enabled": true, "protocol": "kasmvnc"}}), false),
            (json!({"vnc": {"enabled": false}}), false),
            (json!({"vnc": {"enabled": true}, "webapp": {"enabled": true, "port": 80}}), false),
            (json!({}), false),
        ] {
            let session = json!({
                "id": "1", "user_id": "a", "state": "running", "phase": "Running", "spec": spec,
                "created_at": "2026-01-01T00:00:00Z",
            });
            let session: Session = serde_json::from_value(session).unwrap();
            assert_eq!(session.is_remote_desktop(), expected, "{spec}");
        }
    }

    #[test]
    fn what_is_under_way_is_said_before_what_is_not_so_yet() {
        let ready = json!({"type": "Ready", "status": "False", "reason": "Starting", "message": ""});
        assert_eq!(why(json!({"conditions": [ready], "operation": null})), "Starting");
        let pulling = json!({"kind": "create", "message": "pulling x: 40 %"});
        assert_eq!(why(json!({"conditions": [ready], "operation": pulling})), "create: pulling x: 40 %");
        let failed = json!({"kind": "create", "attempt": 3, "last_error": "no such image", "message": "x",
                            "next_attempt_at": "2026-01-01T00:00:09Z"});
        assert_eq!(
            why(json!({"conditions": [], "operation": failed})),
            "create, attempt 3 failed: no such image; next attempt at 2026-01-01T00:00:09Z"
        );
        let full =
            json!({"type": "Scheduled", "status": "False", "reason": "Unschedulable", "message": "full"});
        let operation = json!({"kind": "create", "message": "", "last_error": ""});
        assert_eq!(why(json!({"conditions": [ready, full], "operation": operation})), "full");
        assert_eq!(why(json!({})), "");
    }
}
