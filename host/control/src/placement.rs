//! Which controller takes a session. A pure function of the request and of what is known about the controllers.

use std::collections::BTreeMap;

use crate::domain::{Controller, ControllerStatus, PlacementRequest, Requirement, SessionSpec};
use crate::store::{PlacementDecision, Placer};

/// Takes what names no target, if a controller of this type was ever registered.
const DEFAULT_TYPE: &str = "kubernetes";

/// Places one session on the controller with the fewest sessions among those that can take it.
#[derive(Debug, Clone)]
pub(crate) struct LeastLoaded {
    request: PlacementRequest,
}

impl LeastLoaded {
    /// What the spec needs is required of the controller as well: a backend that cannot keep a home must not be
    /// given one to lose.
    pub(crate) fn new(request: &PlacementRequest, spec: &SessionSpec) -> Self {
        let mut request = request.clone();
        if spec.persistent_home && !request.require.contains(&Requirement::PersistentStorage) {
            request.require.push(Requirement::PersistentStorage);
        }
        Self { request }
    }
}

impl LeastLoaded {
    /// How every controller stands to the request, in the order of the decision: the same look that decides.
    pub(crate) fn verdicts<'a>(&'a self, controllers: &'a [Controller]) -> Vec<Verdict<'a>> {
        verdicts(&self.request, controllers)
    }
}

impl Placer for LeastLoaded {
    fn place(&self, controllers: &[Controller]) -> PlacementDecision {
        place(&self.request, controllers)
    }
}

/// How one controller stands to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict<'a> {
    /// The controller.
    pub(crate) controller: &'a Controller,
    /// What is in the way; `None` = it could take the session.
    pub(crate) obstacle: Option<Obstacle<'a>>,
}

/// Why a controller does not take the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle<'a> {
    /// The request names another controller.
    OtherController,
    /// The request names another type, or there is a default type and it is another one.
    OtherType(&'a str),
    /// It lacks a label.
    Label(&'a str, &'a str),
    /// It cannot do what is required.
    Capability(Requirement),
    /// It does not answer, or is not well.
    Health,
    /// It could, but has no room now.
    Full,
}

impl Obstacle<'_> {
    /// Whether the controller was never asked for.
    pub(crate) fn is_other(self) -> bool {
        matches!(self, Self::OtherController | Self::OtherType(_))
    }

    /// One word for programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OtherController => "other_controller",
            Self::OtherType(_) => "other_type",
            Self::Label(..) => "label",
            Self::Capability(_) => "capability",
            Self::Health => "health",
            Self::Full => "full",
        }
    }

    /// What is in the way, without anything that tells one controller of a type from another.
    pub(crate) fn describe(self, controller: &Controller) -> String {
        match self {
            Self::OtherController => "another controller was asked for".to_owned(),
            Self::OtherType(wanted) => format!("the session goes to type {wanted:?}"),
            Self::Label(key, value) => format!("has no label {key}={value}"),
            Self::Capability(requirement) => format!("does not support {}", requirement.as_str()),
            Self::Health => format!("is {}", controller.status.as_str()),
            Self::Full => "is full".to_owned(),
        }
    }

    /// What is in the way, for those who may know all about the controller.
    pub(crate) fn describe_fully(self, controller: &Controller) -> String {
        let plain = self.describe(controller);
        match self {
            Self::Health if !controller.message.is_empty() => format!("{plain} ({})", controller.message),
            Self::Full => format!("{plain} ({} sessions)", controller.sessions),
            _ => plain,
        }
    }
}

fn wanted_type<'a>(request: &'a PlacementRequest, controllers: &[Controller]) -> Option<&'a str> {
    let default_type = request.controller_id.is_none()
        && request.controller_type.is_none()
        && controllers.iter().any(|controller| controller.controller_type == DEFAULT_TYPE);
    if default_type { Some(DEFAULT_TYPE) } else { request.controller_type.as_deref() }
}

fn verdicts<'a>(request: &'a PlacementRequest, controllers: &'a [Controller]) -> Vec<Verdict<'a>> {
    let wanted_type = wanted_type(request, controllers);
    let verdict = |controller: &'a Controller| {
        let other_type = wanted_type.filter(|wanted| *wanted != controller.controller_type);
        let obstacle = if request.controller_id.as_ref().is_some_and(|id| *id != controller.id) {
            Some(Obstacle::OtherController)
        } else if let Some(wanted) = other_type {
            Some(Obstacle::OtherType(wanted))
        } else {
            obstacle(request, controller)
        };
        Verdict { controller, obstacle }
    };
    controllers.iter().map(verdict).collect()
}

fn place(request: &PlacementRequest, controllers: &[Controller]) -> PlacementDecision {
    if let Some(invalid) = invalid_target(request, controllers) {
        return invalid;
    }
    let mut candidates = verdicts(request, controllers);
    candidates.retain(|verdict| !verdict.obstacle.is_some_and(Obstacle::is_other));

    let best = candidates
        .iter()
        .filter(|verdict| verdict.obstacle.is_none())
        .map(|verdict| verdict.controller)
        .min_by_key(|controller| (controller.sessions, &controller.id));
    if let Some(best) = best {
        return PlacementDecision::On(best.id.clone(), best.controller_type.clone());
    }
    let reasons = reasons(&candidates, wanted_type(request, controllers));
    if candidates.iter().any(|verdict| verdict.obstacle == Some(Obstacle::Full)) {
        PlacementDecision::Later(reasons)
    } else {
        PlacementDecision::Nobody(reasons)
    }
}

/// A target that does not exist is the caller's mistake.
fn invalid_target(request: &PlacementRequest, controllers: &[Controller]) -> Option<PlacementDecision> {
    let id = request.controller_id.as_ref()?;
    let Some(target) = controllers.iter().find(|controller| controller.id == *id) else {
        let message = "no controller with this id is registered".to_owned();
        return Some(PlacementDecision::Invalid { field: "controller_id", message });
    };
    let wanted = request.controller_type.as_deref()?;
    (wanted != target.controller_type).then(|| PlacementDecision::Invalid {
        field: "controller_type",
        message: format!("the controller named by controller_id is of type {:?}", target.controller_type),
    })
}

/// The first thing in the way. Room comes last: only what could take the session is called full.
fn obstacle<'a>(request: &'a PlacementRequest, controller: &Controller) -> Option<Obstacle<'a>> {
    for (key, value) in &request.labels {
        if controller.label(key) != Some(value) {
            return Some(Obstacle::Label(key, value));
        }
    }
    if controller.status != ControllerStatus::Healthy {
        return Some(Obstacle::Health);
    }
    for requirement in &request.require {
        if !controller.supports(*requirement) {
            return Some(Obstacle::Capability(*requirement));
        }
    }
    if controller.has_room() { None } else { Some(Obstacle::Full) }
}

/// Why nobody takes it, in words that its owner may read: controllers are counted, not named.
fn reasons(candidates: &[Verdict<'_>], wanted_type: Option<&str>) -> String {
    if candidates.is_empty() {
        return match wanted_type {
            Some(wanted) => format!("no controller of type {wanted:?} was ever registered"),
            None => "no controller was ever registered".to_owned(),
        };
    }
    let mut groups: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for Verdict { controller, obstacle } in candidates {
        let why = obstacle.map_or_else(|| "takes it".to_owned(), |obstacle| obstacle.describe(controller));
        *groups.entry((&controller.controller_type, why)).or_default() += 1;
    }
    let each = groups.into_iter().map(|((kind, why), count)| match count {
        1 => format!("a controller of type {kind:?} {why}"),
        _ => format!("each of {count} controllers of type {kind:?} {why}"),
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{Capabilities, Capacity, ControllerId, now};

    fn controller(controller_type: &str, name: &str, status: ControllerStatus, sessions: u32) -> Controller {
        Controller {
            id: ControllerId::parse(&format!("ctrl-{name}")).unwrap(),
            controller_type: controller_type.into(),
            name: name.into(),
            endpoint: String::new(),
            status,
            message: String::new(),
            capabilities: Some(Capabilities {
                supports_hibernation: true,
                capacity: Capacity { max_sessions: 10, ..Capacity::default() },
                ..Capabilities::default()
            }),
            labels: BTreeMap::from([("region".into(), "lab".into())]),
            sessions,
            last_heartbeat: None,
            created_at: now(),
            updated_at: now(),
        }
    }

    fn on(name: &str, controller_type: &str) -> PlacementDecision {
        PlacementDecision::On(ControllerId::parse(&format!("ctrl-{name}")).unwrap(), controller_type.into())
    }

    const HEALTHY: ControllerStatus = ControllerStatus::Healthy;
    const OFFLINE: ControllerStatus = ControllerStatus::Offline;

    #[test]
    fn the_least_loaded_wins() {
        let all = [controller("docker", "a", HEALTHY, 3), controller("docker", "b", HEALTHY, 1)];
        assert_eq!(place(&PlacementRequest::default(), &all), on("b", "docker"));
    }

    #[test]
    fn kubernetes_is_the_default_even_when_it_is_down() {
        let mut all = [controller("docker", "a", HEALTHY, 0), controller("kubernetes", "k", HEALTHY, 5)];
        assert_eq!(place(&PlacementRequest::default(), &all), on("k", "kubernetes"));
        all[1].status = OFFLINE;
        let PlacementDecision::Nobody(why) = place(&PlacementRequest::default(), &all) else { panic!() };
        assert!(why.contains("offline") && !why.contains("docker"), "{why}");
        let docker = PlacementRequest { controller_type: Some("docker".into()), ..Default::default() };
        assert_eq!(place(&docker, &all), on("a", "docker"));
    }

    #[test]
    fn an_explicit_controller() {
        let all = [controller("docker", "a", HEALTHY, 3), controller("docker", "b", HEALTHY, 1)];
        let mut request = PlacementRequest { controller_id: Some(all[0].id.clone()), ..Default::default() };
        assert_eq!(place(&request, &all), on("a", "docker"));
        request.controller_type = Some("kvm".into());
        assert!(matches!(place(&request, &all), PlacementDecision::Invalid { field: "controller_type", .. }));
        request.controller_id = ControllerId::parse("ctrl-nobody").ok();
        assert!(matches!(place(&request, &all), PlacementDecision::Invalid { field: "controller_id", .. }));
    }

    #[test]
    fn hard_filters() {
        let all = [controller("docker", "a", HEALTHY, 0)];
        let mut request = PlacementRequest::default();
        request.labels.insert("region".into(), "lab".into());
        assert_eq!(place(&request, &all), on("a", "docker"));
        request.require.push(Requirement::Gpu);
        let PlacementDecision::Nobody(why) = place(&request, &all) else { panic!() };
        assert!(why.contains("does not support gpu"), "{why}");
        request.require.clear();
        request.labels.insert("region".into(), "moon".into());
        assert!(matches!(place(&request, &all), PlacementDecision::Nobody(_)));
    }

    #[test]
    fn a_persistent_home_needs_storage() {
        let mut all = [controller("docker", "a", HEALTHY, 0)];
        let mut spec = crate::domain::test_spec();
        spec.persistent_home = true;
        let placer = LeastLoaded::new(&PlacementRequest::default(), &spec);
        assert!(matches!(placer.place(&all), PlacementDecision::Nobody(_)));
        if let Some(can) = &mut all[0].capabilities {
            can.supports_persistent_storage = true;
        }
        assert_eq!(placer.place(&all), on("a", "docker"));
    }

    #[test]
    fn full_is_later_and_down_is_nobody() {
        let full = controller("docker", "a", HEALTHY, 10);
        let down = controller("docker", "b", OFFLINE, 0);
        let request = PlacementRequest::default();
        assert!(matches!(place(&request, &[full.clone(), down.clone()]), PlacementDecision::Later(_)));
        assert!(matches!(place(&request, &[down]), PlacementDecision::Nobody(_)));
        // Full, but it could never take it: waiting would be in vain.
        let gpu = PlacementRequest { require: vec![Requirement::Gpu], ..Default::default() };
        assert!(matches!(place(&gpu, &[full]), PlacementDecision::Nobody(_)));
    }

    #[test]
    fn reasons_count_controllers_and_do_not_name_them() {
        let mut all = [controller("docker", "a", OFFLINE, 0), controller("docker", "b", OFFLINE, 0)];
        all[0].message = "10.0.0.7 refused".into();
        let PlacementDecision::Nobody(why) = place(&PlacementRequest::default(), &all) else { panic!() };
        assert_eq!(why, "each of 2 controllers of type \"docker\" is offline");
        let request = PlacementRequest::default();
        let verdict = verdicts(&request, &all)[0];
        let fully = verdict.obstacle.unwrap().describe_fully(verdict.controller);
        assert_eq!(fully, "is offline (10.0.0.7 refused)");
    }

    #[test]
    fn those_not_asked_for_are_told_apart_from_those_that_cannot() {
        let all = [controller("docker", "a", OFFLINE, 0), controller("kubernetes", "k", HEALTHY, 0)];
        let request = PlacementRequest::default();
        let told: Vec<_> = verdicts(&request, &all).iter().map(|verdict| verdict.obstacle).collect();
        assert_eq!(told, [Some(Obstacle::OtherType("kubernetes")), None]);
        let request = PlacementRequest { controller_id: Some(all[0].id.clone()), ..Default::default() };
        let told: Vec<_> = verdicts(&request, &all).iter().map(|verdict| verdict.obstacle).collect();
        assert_eq!(told, [Some(Obstacle::Health), Some(Obstacle::OtherController)]);
    }

    #[test]
    fn nobody_was_ever_there() {
        let PlacementDecision::Nobody(why) = place(&PlacementRequest::default(), &[]) else { panic!() };
        assert!(why.contains("ever registered"));
    }

    #[test]
    fn no_limit_means_room() {
        let mut one = controller("docker", "a", HEALTHY, 5000);
        if let Some(can) = &mut one.capabilities {
            can.capacity.max_sessions = 0;
        }
        assert_eq!(place(&PlacementRequest::default(), &[one]), on("a", "docker"));
    }
}
