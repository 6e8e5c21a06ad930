//! What is decided, case by case.

use std::collections::BTreeMap;

use super::*;
use crate::domain::{
    Amounts, ByteQuantity, Capabilities, Capacity, ControllerId, Ledger, Overcommit, TemplateOffer, now,
    test_spec,
};

pub(super) fn controller(
    controller_type: &str,
    name: &str,
    status: ControllerStatus,
    sessions: u32,
) -> Controller {
    let capacity = Capacity { max_sessions: 10, ..Capacity::default() };
    let reserved = Amounts { sessions: sessions.into(), ..Amounts::default() };
    Controller {
        id: ControllerId::parse(&format!("ctrl-{name}")).unwrap(),
        controller_type: controller_type.into(),
        name: name.into(),
        endpoint: String::new(),
        remote: false,
        status,
        message: String::new(),
        ledger: Ledger::new(Some(&capacity), Overcommit::NONE, reserved, Amounts::default()),
        capabilities: Some(Capabilities { supports_hibernation: true, capacity, ..Capabilities::default() }),
        labels: BTreeMap::from([("region".into(), "lab".into())]),
        operator_labels: BTreeMap::new(),
        draining: false,
        sessions,
        last_placed: 0,
        active_server: None,
        last_heartbeat: None,
        created_at: now(),
        updated_at: now(),
    }
}

/// What it has, with nothing given away.
pub(super) fn with_capacity(mut controller: Controller, capacity: Capacity) -> Controller {
    controller.ledger =
        Ledger::new(Some(&capacity), Overcommit::NONE, Amounts::default(), Amounts::default());
    if let Some(can) = &mut controller.capabilities {
        can.capacity = capacity;
    }
    controller
}

fn on(name: &str, controller_type: &str) -> PlacementDecision {
    PlacementDecision::On(ControllerId::parse(&format!("ctrl-{name}")).unwrap(), controller_type.into())
}

fn place(request: &PlacementRequest, controllers: &[Controller]) -> PlacementDecision {
    Placement::new(request, &test_spec(), PlacementStrategy::LeastLoaded).choose(controllers)
}

/// For a template with images for some types.
fn offered(images: &[&str], preferred: Option<&str>) -> Placement {
    let template = TemplateOffer {
        images: images.iter().map(|kind| ((*kind).to_owned(), format!("{kind}-image"))).collect(),
        preferred: preferred.map(str::to_owned),
        ..TemplateOffer::default()
    };
    let request = PlacementRequest { template: Some(template), ..Default::default() };
    Placement::new(&request, &test_spec(), PlacementStrategy::LeastLoaded)
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
    let mut spec = test_spec();
    spec.persistent_home = true;
    let placer = Placement::new(&PlacementRequest::default(), &spec, PlacementStrategy::LeastLoaded);
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
    let placer = Placement::new(&request, &test_spec(), PlacementStrategy::LeastLoaded);
    let verdict = placer.verdicts(&all).remove(0);
    let fully = verdict.obstacle.unwrap().describe_fully(verdict.controller);
    assert_eq!(fully, "is offline (10.0.0.7 refused)");
}

#[test]
fn those_not_asked_for_are_told_apart_from_those_that_cannot() {
    let all = [controller("docker", "a", OFFLINE, 0), controller("kubernetes", "k", HEALTHY, 0)];
    let mut placer =
        Placement::new(&PlacementRequest::default(), &test_spec(), PlacementStrategy::LeastLoaded);
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
    let reserved = one.ledger.reserved;
    one.ledger = Ledger::new(Some(&Capacity::default()), Overcommit::NONE, reserved, reserved);
    assert_eq!(place(&PlacementRequest::default(), &[one]), on("a", "docker"));
}

fn asking(memory: &str, strategy: PlacementStrategy) -> Placement {
    let mut spec = test_spec();
    spec.resources.memory = ByteQuantity::parse(memory).ok();
    Placement::new(&PlacementRequest::default(), &spec, strategy)
}

#[test]
fn what_is_promised_is_not_given_twice() {
    let has = |memory: &str| Capacity { total_memory: memory.into(), ..Capacity::default() };
    let small = with_capacity(controller("docker", "a", HEALTHY, 0), has("8Gi"));
    let mut large = with_capacity(controller("docker", "b", HEALTHY, 0), has("32Gi"));
    large.ledger.reserved = Amounts { sessions: 9, memory: 26 << 30, ..Amounts::default() };
    let all = [small, large];
    assert_eq!(asking("6Gi", PlacementStrategy::LeastLoaded).choose(&all), on("a", "docker"));
    // The one is too small for ever, the other is full for now: it is waited for.
    let placer = asking("9Gi", PlacementStrategy::LeastLoaded);
    let PlacementDecision::Later(why) = placer.choose(&all) else { panic!() };
    assert_eq!(
        why,
        "a controller of type \"docker\" has less memory than is asked for; a controller of type \"docker\" is full: it \
         has too little memory left"
    );
    let told: Vec<_> = placer
        .verdicts(&all)
        .iter()
        .map(|verdict| verdict.obstacle.as_ref().unwrap().describe_fully(verdict.controller))
        .collect();
    assert_eq!(told[1], "is full: it has too little memory left (memory: asked 9Gi, reserved 26Gi of 32Gi)");
    // Nobody could ever take it: waiting would be in vain.
    let placer = asking("64Gi", PlacementStrategy::LeastLoaded);
    assert!(matches!(placer.choose(&all), PlacementDecision::Nobody(_)));
    // What the session itself holds is not in its own way.
    let placer = asking("9Gi", PlacementStrategy::LeastLoaded);
    let held = Amounts { sessions: 1, memory: 9 << 30, ..Amounts::default() };
    assert_eq!(placer.holding(Some((all[1].id.clone(), held))).choose(&all), on("b", "docker"));
}

#[test]
fn in_turn() {
    let mut all = ["a", "b", "c"].map(|name| controller("docker", name, HEALTHY, 0));
    all[2].ledger.reserved.sessions = 10;
    let mut chosen = Vec::new();
    for turn in 1..=4 {
        let placer =
            Placement::new(&PlacementRequest::default(), &test_spec(), PlacementStrategy::RoundRobin);
        let PlacementDecision::On(id, _) = placer.choose(&all) else { panic!() };
        let taken = all.iter_mut().find(|one| one.id == id).unwrap();
        taken.last_placed = turn;
        // However many sessions it has.
        taken.ledger.reserved.sessions += turn;
        chosen.push(id.to_string());
    }
    assert_eq!(chosen, ["ctrl-a", "ctrl-b", "ctrl-a", "ctrl-b"], "the third one is full");
}
