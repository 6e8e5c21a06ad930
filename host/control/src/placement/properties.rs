//! What holds for every request and every fleet: nothing is given twice, the same question has the same answer, and what is
//! explained is what was decided.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;

use super::tests::controller;
use super::*;
use crate::domain::{
    ByteQuantity, Capacity, CpuQuantity, Ledger, Overcommit, QuotaKind, Resources, TemplateOffer, test_spec,
};

const TYPES: [&str; 3] = ["docker", "kubernetes", "kvm"];

fn fleet() -> impl Strategy<Value = Vec<Controller>> {
    let status =
        select(vec![ControllerStatus::Healthy, ControllerStatus::Healthy, ControllerStatus::Offline]);
    let has = (0u32..4, select(vec!["", "0", "2", "1500m"]), select(vec!["", "4Gi", "64Gi"]));
    let free = (select(vec!["", "500m", "2"]), select(vec!["", "0", "3Gi"]));
    let given = (0u64..4, 0u64..2000, 0u64..6, 0u64..3);
    let one = (select(TYPES.to_vec()), status, has, free, given, any::<(bool, bool)>(), 0u64..3);
    proptest::collection::vec(one, 0..8)
        .prop_map(|all| all.into_iter().enumerate().map(|(number, told)| built(number, told)).collect())
}

type Told = (
    &'static str,
    ControllerStatus,
    (u32, &'static str, &'static str),
    (&'static str, &'static str),
    (u64, u64, u64, u64),
    (bool, bool),
    u64,
);

fn built(number: usize, told: Told) -> Controller {
    let (kind, status, has, free, given, (draining, labelled), last_placed) = told;
    let (max_sessions, total_cpu, total_memory) = has;
    let (available_cpu, available_memory) = free;
    let (sessions, cpu, memory, unseen) = given;
    let mut one = controller(kind, &format!("{number}"), status, 0);
    let capacity = Capacity {
        max_sessions,
        total_cpu: total_cpu.into(),
        total_memory: total_memory.into(),
        available_cpu: available_cpu.into(),
        available_memory: available_memory.into(),
        ..Capacity::default()
    };
    let reserved = Amounts { sessions, cpu, memory: memory << 30, storage: 0 };
    let unseen = Amounts { memory: unseen << 30, ..Amounts::default() };
    one.ledger = Ledger::new(Some(&capacity), Overcommit::NONE, reserved, unseen);
    (one.draining, one.last_placed) = (draining, last_placed);
    if !labelled {
        one.labels.clear();
    }
    one
}

fn placement() -> impl Strategy<Value = Placement> {
    let target = (proptest::option::of(0usize..8), proptest::option::of(select(TYPES.to_vec())));
    let template =
        proptest::option::of((select(TYPES.to_vec()), proptest::option::of(select(TYPES.to_vec()))));
    let asked = (select(vec!["", "500m", "1", "4"]), select(vec!["", "1Gi", "4Gi", "65Gi"]));
    let strategy = select(vec![PlacementStrategy::LeastLoaded, PlacementStrategy::RoundRobin]);
    (target, template, asked, any::<(bool, bool)>(), strategy).prop_map(
        |((id, kind), template, (cpu, memory), (label, hibernation), strategy)| {
            let request = PlacementRequest {
                controller_id: id.and_then(|id| ControllerId::parse(&format!("ctrl-{id}")).ok()),
                controller_type: kind.map(str::to_owned),
                labels: if label {
                    BTreeMap::from([("region".into(), "lab".into())])
                } else {
                    BTreeMap::new()
                },
                require: if hibernation { vec![Requirement::Hibernation] } else { vec![Requirement::Gpu; 0] },
                template: template.map(|(image, preferred)| TemplateOffer {
                    images: BTreeMap::from([(image.to_owned(), "image".to_owned())]),
                    preferred: preferred.map(str::to_owned),
                    ..TemplateOffer::default()
                }),
            };
            let mut spec = test_spec();
            spec.resources = Resources {
                cpu: CpuQuantity::parse(cpu).ok(),
                memory: ByteQuantity::parse(memory).ok(),
                storage: None,
            };
            Placement::new(&request, &spec, strategy)
        },
    )
}

/// What the session asks for, on top of what is given away.
fn is_over(controller: &Controller, asked: &Amounts) -> bool {
    controller.ledger.shares(asked).any(|share| {
        let over = |given: u64, limit: Option<u64>| limit.is_some_and(|limit| given + share.asked > limit);
        share.asked > 0 && (over(share.reserved, share.total) || over(share.unseen, share.available))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn decisions_hold(all in fleet(), placement in placement(), turn in 0usize..8) {
        let decision = placement.choose(&all);
        prop_assert_eq!(&decision, &placement.choose(&all), "the same question");
        let mut turned = all.clone();
        turned.rotate_left(turn.min(all.len()));
        prop_assert_eq!(&decision, &placement.choose(&turned), "in whatever order they are told");

        let verdicts = placement.verdicts(&all);
        let eligible: Vec<&Controller> = verdicts
            .iter()
            .filter(|verdict| verdict.obstacle.is_none())
            .map(|verdict| verdict.controller)
            .collect();
        match &decision {
            PlacementDecision::On(id, kind) => {
                let chosen = eligible.iter().find(|one| one.id == *id);
                prop_assert!(chosen.is_some(), "what is chosen is eligible");
                let chosen = chosen.unwrap();
                prop_assert_eq!(&chosen.controller_type, kind);
                prop_assert!(!is_over(chosen, placement.asked()), "more than there is");
                prop_assert!(chosen.status == ControllerStatus::Healthy && !chosen.draining);
                let first = |one: &Controller| placement.strategy.rank(one).0;
                prop_assert!(eligible.iter().all(|one| first(one) >= first(chosen)));
            }
            PlacementDecision::Later(_) => {
                prop_assert!(eligible.is_empty());
                let passes = |verdict: &Verdict<'_>| verdict.obstacle.as_ref().is_some_and(Obstacle::passes);
                prop_assert!(verdicts.iter().any(passes), "something may pass");
            }
            PlacementDecision::Nobody(_) => prop_assert!(eligible.is_empty()),
            PlacementDecision::Invalid { .. } => {
                prop_assert!(placement.request.controller_id.is_some() || placement.request.controller_type.is_some());
            }
        }
        // Whoever is in the way only because of what is given away has room once that is given back.
        for verdict in &verdicts {
            if let Some(Obstacle::Full(share)) = &verdict.obstacle {
                let mut emptied = verdict.controller.clone();
                emptied.ledger = emptied.ledger.without(&emptied.ledger.reserved);
                emptied.ledger.unseen = Amounts::default();
                let room = emptied.ledger.shares(placement.asked()).find(|other| other.kind == share.kind);
                let room = room.unwrap();
                prop_assert!(room.total.is_none_or(|total| room.asked <= total));
                prop_assert!(share.kind != QuotaKind::Sessions || room.is_enough());
            }
        }
    }

    /// Sessions are placed until nobody takes any: no controller has ever given away more than it has.
    #[test]
    fn a_fleet_is_never_given_more_than_it_has(all in fleet(), placement in placement()) {
        let mut all = all;
        let before = all.clone();
        for _ in 0..64 {
            let PlacementDecision::On(id, _) = placement.choose(&all) else { break };
            let one = all.iter_mut().find(|one| one.id == id).unwrap();
            let asked = *placement.asked();
            for given in [&mut one.ledger.reserved, &mut one.ledger.unseen] {
                given.sessions += asked.sessions;
                given.cpu += asked.cpu;
                given.memory += asked.memory;
            }
        }
        for (one, was) in all.iter().zip(&before) {
            for (share, was) in one.ledger.shares(placement.asked()).zip(was.ledger.shares(placement.asked())) {
                let over = |given: u64, limit: Option<u64>| limit.is_some_and(|limit| given > limit);
                prop_assert!(!over(share.reserved, share.total) || share.reserved == was.reserved);
                let of_sessions = share.kind == QuotaKind::Sessions;
                prop_assert!(of_sessions || !over(share.unseen, share.available) || share.unseen == was.unseen);
            }
        }
    }
}
