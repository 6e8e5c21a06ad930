//! What an object at a backend makes of a session that is adopted.

use serde_json::Map;
use streamspace_proto::controller::v1 as proto;

use super::problem::{FieldError, Problem};
use super::validate::{Extent, Faults};
use crate::domain::{
    Condition, ConditionStatus, Conditions, Controller, Drift, EnvDraft, Generation, MountDraft, Operation,
    Phase, PlacementRequest, PortDraft, ResourcesDraft, Session, SessionId, SessionSpec, SpecDraft, VncDraft,
    WebAppDraft, Wish, WishedState, condition_type, now,
};
use crate::fleet::{Observation, Readiness};
use crate::store::Adoption;

/// An object, as its controller shows it at this moment, and what the operator says of it.
pub(super) struct Adoptee<'a> {
    pub(super) entry: &'a Drift,
    pub(super) session_id: SessionId,
    pub(super) controller: &'a Controller,
    pub(super) found: proto::GetSessionResponse,
    pub(super) user_id: Option<String>,
    pub(super) spec: Option<SpecDraft>,
}

/// A session that is as the object is: nothing is to be done about it.
pub(super) fn adoption(adoptee: Adoptee<'_>) -> Result<Adoption, Problem> {
    let Adoptee { entry, session_id, controller, found, user_id, spec } = adoptee;
    let ownership = found.ownership();
    let proto::GetSessionResponse { status, spec: told, user_id: told_user, .. } = found;
    if ownership == proto::Ownership::Unspecified {
        let detail = "the controller says neither that it made the object nor that it could take it over";
        return Err(Problem::failed_precondition(detail));
    }
    let seen = Observation::read(status.unwrap_or_default())
        .map_err(|error| Problem::backend(format!("the object cannot be read: {}", error.message)))?;
    let state = wished(&entry.object.wish, seen.phase)?;
    let user_id = user_id.unwrap_or(told_user);
    let mut faults = Faults::default();
    faults.id("user_id", &user_id);
    let (spec, known) = match (spec, told.and_then(read_spec)) {
        (Some(given), _) => (faults.spec(given, Extent::Whole), true),
        (None, Some(told)) => (told, true),
        (None, None) => (nothing_known(), false),
    };
    if user_id.is_empty() {
        let message = "the backend does not say whose it is: give one";
        return Err(Problem::invalid(vec![FieldError::new("user_id", message)]));
    }
    faults.finish()?;
    let spec_hash = spec.hash(&Map::new()).map_err(|error| {
        tracing::error!(%error, "a spec cannot be hashed");
        Problem::internal()
    })?;

    let at = now();
    let mut operation = Operation::first(session_id.clone(), at);
    operation.settle();
    // What is there is not removed because something fails later.
    (operation.accepted, operation.established) = (true, true);
    let mut conditions = conditions(controller, &seen, &spec, known);
    if let Some(reported) = seen.conditions {
        conditions.replace_reported(spec.scrub_conditions(reported));
    }
    let session = Session {
        id: session_id,
        user_id,
        template_id: String::new(),
        wish: Wish::State(state),
        state,
        phase: seen.phase,
        placed: Some((controller.id.clone(), controller.controller_type.clone())),
        moving_to: None,
        placement: PlacementRequest {
            controller_id: Some(controller.id.clone()),
            ..PlacementRequest::default()
        },
        node_id: seen.node_id.unwrap_or_default(),
        spec,
        controller_config: Map::new(),
        spec_hash,
        conditions,
        generation: Generation::FIRST,
        forget_after: None,
        observed_generation: Some(Generation::FIRST),
        last_activity: seen.last_activity,
        // How long it has been there nobody knows: limits in time begin now.
        running_since: (seen.phase == Phase::Running).then_some(at),
        started_at: Some(at),
        created_at: at,
        updated_at: at,
    };
    Ok(Adoption { drift_id: entry.id.clone(), session, operation })
}

/// What its backend keeps as wanted, or else what it shows.
fn wished(kept: &str, phase: Phase) -> Result<WishedState, Problem> {
    let kept = WishedState::parse(kept).filter(|kept| *kept != WishedState::Terminated);
    match (kept, phase) {
        (_, Phase::Terminated) => Err(Problem::failed_precondition("the object has ended")),
        (Some(kept), _) => Ok(kept),
        (None, Phase::Hibernated) => Ok(WishedState::Hibernated),
        (None, Phase::Pending | Phase::Running | Phase::Failed) => Ok(WishedState::Running),
    }
}

fn conditions(controller: &Controller, seen: &Observation, spec: &SessionSpec, known: bool) -> Conditions {
    let at = now();
    let condition = |kind: &str, status, reason: &str, message: String| Condition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        since: at,
    };
    let mut all = Conditions::default();
    let message = format!("it was there already, on {}", controller.id);
    all.set(condition(condition_type::SCHEDULED, ConditionStatus::True, "Adopted", message));
    let Readiness { status, reason, message } = seen.readiness();
    all.set(condition(condition_type::READY, status, &spec.scrub(&reason), spec.scrub(&message)));
    if !known {
        let message = "its backend does not say what it is made of: it cannot be made again if it is lost";
        let no = ConditionStatus::False;
        all.set(condition(condition_type::SPEC_KNOWN, no, "NotReported", message.to_owned()));
    }
    all
}

fn nothing_known() -> SessionSpec {
    Faults::default().spec(SpecDraft::default(), Extent::Part)
}

/// What a controller says that a session is made of, if it makes sense as a whole.
fn read_spec(told: proto::SessionSpec) -> Option<SessionSpec> {
    let mut faults = Faults::default();
    let spec = faults.spec(draft(told), Extent::Whole);
    match faults.finish() {
        Ok(()) => Some(spec),
        Err(_) => {
            tracing::warn!("a controller says of an object what no session can be made of");
            None
        }
    }
}

fn draft(told: proto::SessionSpec) -> SpecDraft {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let resources = told.resources.unwrap_or_default();
    SpecDraft {
        base_image: text(told.base_image),
        resources: Some(ResourcesDraft {
            memory: text(resources.memory),
            cpu: text(resources.cpu),
            storage: text(resources.storage),
        }),
        ports: Some(
            told.ports
                .into_iter()
                .map(|port| PortDraft {
                    name: text(port.name),
                    container_port: port.container_port.into(),
                    protocol: text(port.protocol),
                })
                .collect(),
        ),
        env: Some(
            told.env
                .into_iter()
                .map(|variable| EnvDraft {
                    name: variable.name,
                    value: Some(variable.value),
                    secret: Some(variable.secret),
                })
                .collect(),
        ),
        volume_mounts: Some(
            told.volume_mounts
                .into_iter()
                .map(|mount| MountDraft {
                    name: mount.name,
                    mount_path: mount.mount_path,
                    read_only: Some(mount.read_only),
                    size: text(mount.size),
                })
                .collect(),
        ),
        vnc: told.vnc.map(|vnc| VncDraft {
            enabled: Some(vnc.enabled),
            port: Some(vnc.port.into()),
            protocol: text(vnc.protocol),
        }),
        webapp: told.webapp.map(|webapp| WebAppDraft {
            enabled: Some(webapp.enabled),
            port: Some(webapp.port.into()),
            path: text(webapp.path),
            health_check: text(webapp.health_check),
        }),
        persistent_home: Some(told.persistent_home),
        home_size: text(told.home_size),
        idle_timeout: text(told.idle_timeout),
        max_session_duration: text(told.max_session_duration),
        labels: Some(told.labels.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EnvVar, test_spec};

    #[test]
    fn a_spec_comes_back_as_it_was_told() {
        let mut spec = test_spec();
        spec.env = vec![EnvVar { name: "PIN".into(), value: "4711".into(), secret: true }];
        spec.labels.insert("team".into(), "blue".into());
        assert_eq!(read_spec(spec.to_proto()), Some(spec));
        assert_eq!(read_spec(proto::SessionSpec::default()), None, "nothing is made of nothing");
    }

    #[test]
    fn what_is_wanted_is_what_the_backend_keeps_or_shows() {
        for (kept, phase, wanted) in [
            ("", Phase::Running, Some(WishedState::Running)),
            ("", Phase::Pending, Some(WishedState::Running)),
            ("", Phase::Hibernated, Some(WishedState::Hibernated)),
            ("hibernated", Phase::Running, Some(WishedState::Hibernated)),
            ("terminated", Phase::Running, Some(WishedState::Running)),
            ("running", Phase::Terminated, None),
        ] {
            assert_eq!(wished(kept, phase).ok(), wanted, "{kept} {phase:?}");
        }
    }
}
