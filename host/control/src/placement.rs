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

impl Placer for LeastLoaded {
    fn place(&self, controllers: &[Controller]) -> PlacementDecision {
        self.choose(controllers)
    }
}

/// How one controller stands to a request.
#[derive(Debug, Clone)]
pub(crate) struct Verdict<'a> {
    /// The controller.
    pub(crate) controller: &'a Controller,
    /// What is in the way; `None` = it could take the session.
    pub(crate) obstacle: Option<Obstacle<'a>>,
}

/// Why a controller does not take the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle<'a> {
    /// The request names another controller.
    OtherController,
    /// The request names another type, or the session goes to another one by preference.
    OtherType(&'a str),
    /// The session's template has nothing for its type; why.
    Template(String),
    /// It lacks a label.
    Label(&'a str, &'a str),
    /// It cannot do what is required.
    Capability(Requirement),
    /// It does not answer, or is not well.
    Health,
    /// It could, but is being emptied.
    Draining,
    /// It could, but has no room now.
    Full,
}

impl Obstacle<'_> {
    /// Whether the controller was never asked for.
    pub(crate) fn is_other(&self) -> bool {
        matches!(self, Self::OtherController | Self::OtherType(_))
    }

    /// Whether it may be gone later without anybody's changing the controller or the request.
    fn passes(&self) -> bool {
        matches!(self, Self::Draining | Self::Full)
    }

    /// One word for programs.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::OtherController => "other_controller",
            Self::OtherType(_) => "other_type",
            Self::Template(_) => "template",
            Self::Label(..) => "label",
            Self::Capability(_) => "capability",
            Self::Health => "health",
            Self::Draining => "draining",
            Self::Full => "full",
        }
    }

    /// What is in the way, without anything that tells one controller of a type from another.
    pub(crate) fn describe(&self, controller: &Controller) -> String {
        match self {
            Self::OtherController => "is not the controller that was asked for".to_owned(),
            Self::OtherType(wanted) => format!("is not of type {wanted:?}, to which the session goes"),
            Self::Template(why) => format!("cannot: {why}"),
            Self::Label(key, value) => format!("has no label {key}={value}"),
            Self::Capability(requirement) => format!("does not support {}", requirement.as_str()),
            Self::Health => format!("is {}", controller.status.as_str()),
            Self::Draining => "is draining".to_owned(),
            Self::Full => "is full".to_owned(),
        }
    }

    /// What is in the way, for those who may know all about the controller.
    pub(crate) fn describe_fully(&self, controller: &Controller) -> String {
        let plain = self.describe(controller);
        match self {
            Self::Health if !controller.message.is_empty() => format!("{plain} ({})", controller.message),
            Self::Full => format!("{plain} ({} sessions)", controller.sessions),
            _ => plain,
        }
    }
}

impl LeastLoaded {
    fn choose(&self, controllers: &[Controller]) -> PlacementDecision {
        if let Some(invalid) = self.invalid_target(controllers) {
            return invalid;
        }
        let mut candidates = self.verdicts(controllers);
        candidates.retain(|verdict| !verdict.obstacle.as_ref().is_some_and(Obstacle::is_other));

        let best = candidates
            .iter()
            .filter(|verdict| verdict.obstacle.is_none())
            .map(|verdict| verdict.controller)
            .min_by_key(|controller| (controller.sessions, &controller.id));
        if let Some(best) = best {
            return PlacementDecision::On(best.id.clone(), best.controller_type.clone());
        }
        let reasons = reasons(&candidates, self.wanted_type(controllers));
        if candidates.iter().any(|verdict| verdict.obstacle.as_ref().is_some_and(Obstacle::passes)) {
            PlacementDecision::Later(reasons)
        } else {
            PlacementDecision::Nobody(reasons)
        }
    }

    /// How every controller stands to the request: the same look that decides, in the order given.
    pub(crate) fn verdicts<'a>(&'a self, controllers: &'a [Controller]) -> Vec<Verdict<'a>> {
        let wanted_type = self.wanted_type(controllers);
        let verdict = |controller: &'a Controller| {
            let other_type = wanted_type.filter(|wanted| *wanted != controller.controller_type);
            let obstacle = if self.request.controller_id.as_ref().is_some_and(|id| *id != controller.id) {
                Some(Obstacle::OtherController)
            } else if let Some(wanted) = other_type {
                Some(Obstacle::OtherType(wanted))
            } else {
                self.obstacle(controller)
            };
            Verdict { controller, obstacle }
        };
        controllers.iter().map(verdict).collect()
    }

    /// The type that is named; or the one that the template prefers, or else the default, if such a controller was
    /// ever registered: one that is down is waited for, and not silently replaced by another type.
    fn wanted_type<'a>(&'a self, controllers: &[Controller]) -> Option<&'a str> {
        let request = &self.request;
        if request.controller_id.is_some() || request.controller_type.is_some() {
            return request.controller_type.as_deref();
        }
        let preferred = request.template.as_ref().and_then(|offer| offer.preferred.as_deref());
        [preferred, Some(DEFAULT_TYPE)].into_iter().flatten().find(|wanted| {
            self.template_obstacle(wanted).is_none()
                && controllers.iter().any(|controller| controller.controller_type == *wanted)
        })
    }

    fn template_obstacle(&self, controller_type: &str) -> Option<String> {
        self.request.template.as_ref()?.obstacle(controller_type)
    }

    /// A target that does not exist, or that the template is not for, is the caller's mistake.
    fn invalid_target(&self, controllers: &[Controller]) -> Option<PlacementDecision> {
        let request = &self.request;
        let invalid = |field, message| Some(PlacementDecision::Invalid { field, message });
        if let Some(obstacle) =
            request.controller_type.as_deref().and_then(|kind| self.template_obstacle(kind))
        {
            return invalid("controller_type", obstacle);
        }
        let id = request.controller_id.as_ref()?;
        let Some(target) = controllers.iter().find(|controller| controller.id == *id) else {
            return invalid("controller_id", "no controller with this id is registered".to_owned());
        };
        let kind = &target.controller_type;
        if request.controller_type.as_ref().is_some_and(|wanted| wanted != kind) {
            let message = format!("the controller named by controller_id is of type {kind:?}");
            return invalid("controller_type", message);
        }
        self.template_obstacle(kind).and_then(|obstacle| invalid("controller_id", obstacle))
    }

    /// The first thing in the way. Room comes last: only what could take the session is called draining or full.
    fn obstacle(&self, controller: &Controller) -> Option<Obstacle<'_>> {
        if let Some(why) = self.template_obstacle(&controller.controller_type) {
            return Some(Obstacle::Template(why));
        }
        for (key, value) in &self.request.labels {
            if controller.label(key) != Some(value) {
                return Some(Obstacle::Label(key, value));
            }
        }
        if controller.status != ControllerStatus::Healthy {
            return Some(Obstacle::Health);
        }
        for requirement in &self.request.require {
            if !controller.supports(*requirement) {
                return Some(Obstacle::Capability(*requirement));
            }
        }
        if controller.draining {
            return Some(Obstacle::Draining);
        }
        if controller.has_room() { None } else { Some(Obstacle::Full) }
    }
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
        let why =
            obstacle.as_ref().map_or_else(|| "takes it".to_owned(), |obstacle| obstacle.describe(controller));
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
    use crate::domain::{Capabilities, Capacity, ControllerId, TemplateOffer, now};

    fn controller(controller_type: &str, name: &str, status: ControllerStatus, sessions: u32) -> Controller {
        Controller {
            id: ControllerId::parse(&format!("ctrl-{name}")).unwrap(),
            controller_type: controller_type.into(),
            name: name.into(),
            endpoint: String::new(),
            remote: false,
            status,
            message: String::new(),
            capabilities: Some(Capabilities {
                supports_hibernation: true,
                capacity: Capacity { max_sessions: 10, ..Capacity::default() },
                ..Capabilities::default()
            }),
            labels: BTreeMap::from([("region".into(), "lab".into())]),
            operator_labels: BTreeMap::new(),
            draining: false,
            sessions,
            active_server: None,
            last_heartbeat: None,
            created_at: now(),
            updated_at: now(),
        }
    }

    fn on(name: &str, controller_type: &str) -> PlacementDecision {
        PlacementDecision::On(ControllerId::parse(&format!("ctrl-{name}")).unwrap(), controller_type.into())
    }

    fn place(request: &PlacementRequest, controllers: &[Controller]) -> PlacementDecision {
        LeastLoaded { request: request.clone() }.choose(controllers)
    }

    /// For a template with images for some types.
    fn offered(images: &[&str], preferred: Option<&str>) -> LeastLoaded {
        let template = TemplateOffer {
            images: images.iter().map(|kind| ((*kind).to_owned(), format!("{kind}-image"))).collect(),
            preferred: preferred.map(str::to_owned),
            ..TemplateOffer::default()
        };
        let request = PlacementRequest { template: Some(template), ..Default::default() };
        LeastLoaded { request }
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
        let placer = LeastLoaded { request };
        let verdict = placer.verdicts(&all).remove(0);
        let fully = verdict.obstacle.unwrap().describe_fully(verdict.controller);
        assert_eq!(fully, "is offline (10.0.0.7 refused)");
    }

    #[test]
    fn those_not_asked_for_are_told_apart_from_those_that_cannot() {
        let all = [controller("docker", "a", OFFLINE, 0), controller("kubernetes", "k", HEALTHY, 0)];
        let mut placer = LeastLoaded { request: PlacementRequest::default() };
        let told: Vec<_> = placer.verdicts(&all).into_iter().map(|verdict| verdict.obstacle).collect();
        assert_eq!(told, [Some(Obstacle::OtherType("kubernetes")), None]);
        placer.request.controller_id = Some(all[0].id.clone());
        let told: Vec<_> = placer.verdicts(&all).into_iter().map(|verdict| verdict.obstacle).collect();
        assert_eq!(told, [Some(Obstacle::Health), Some(Obstacle::OtherController)]);
        let placer = offered(&["docker"], None);
        let told: Vec<_> = placer.verdicts(&all).into_iter().map(|verdict| verdict.obstacle).collect();
        let no_image = "the template has no image for type kubernetes".to_owned();
        assert_eq!(told, [Some(Obstacle::Health), Some(Obstacle::Template(no_image))]);
    }

    #[test]
    fn a_draining_controller_takes_nothing() {
        let mut all = [controller("docker", "a", HEALTHY, 0), controller("docker", "b", HEALTHY, 5)];
        all[0].draining = true;
        let request = PlacementRequest::default();
        assert_eq!(place(&request, &all), on("b", "docker"));
        let PlacementDecision::Later(why) = place(&request, &all[..1]) else { panic!() };
        assert!(why.contains("is draining"), "{why}");
        // It could never take it: waiting would be in vain.
        let gpu = PlacementRequest { require: vec![Requirement::Gpu], ..Default::default() };
        assert!(matches!(place(&gpu, &all[..1]), PlacementDecision::Nobody(_)));
    }

    #[test]
    fn only_types_that_the_template_has_an_image_for() {
        let all = [
            controller("kubernetes", "k", HEALTHY, 0),
            controller("docker", "d", HEALTHY, 9),
            controller("kvm", "v", HEALTHY, 0),
        ];
        // Not even the default type, if there is no image for it.
        assert_eq!(offered(&["docker"], None).choose(&all), on("d", "docker"));
        assert_eq!(offered(&["docker", "kubernetes"], None).choose(&all), on("k", "kubernetes"));
        assert_eq!(offered(&["docker", "kubernetes"], Some("docker")).choose(&all), on("d", "docker"));
        // A preferred type that was never there does not count; one that is down does.
        assert_eq!(offered(&["esxi", "kvm"], Some("esxi")).choose(&all), on("v", "kvm"));
        let mut down = all.clone();
        down[2].status = OFFLINE;
        let decision = offered(&["docker", "kvm"], Some("kvm")).choose(&down);
        assert!(matches!(decision, PlacementDecision::Nobody(_)), "{decision:?}");
        let PlacementDecision::Nobody(why) = offered(&["esxi"], None).choose(&all) else { panic!() };
        assert!(why.contains("the template has no image for type kvm"), "{why}");
    }

    #[test]
    fn a_target_that_the_template_is_not_for() {
        let all = [controller("docker", "d", HEALTHY, 0), controller("kvm", "v", HEALTHY, 0)];
        let mut placer = offered(&["docker"], None);
        placer.request.controller_type = Some("kvm".into());
        let PlacementDecision::Invalid { field: "controller_type", message } = placer.choose(&all) else {
            panic!()
        };
        assert_eq!(message, "the template has no image for type kvm");
        placer.request.controller_type = None;
        placer.request.controller_id = Some(all[1].id.clone());
        assert!(matches!(placer.choose(&all), PlacementDecision::Invalid { field: "controller_id", .. }));
        // An image of the request serves every type that the template is for.
        placer.request.template.as_mut().unwrap().common_image = true;
        assert_eq!(placer.choose(&all), on("v", "kvm"));
        placer.request.template.as_mut().unwrap().compatible = vec!["docker".into()];
        assert!(matches!(placer.choose(&all), PlacementDecision::Invalid { field: "controller_id", .. }));
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
