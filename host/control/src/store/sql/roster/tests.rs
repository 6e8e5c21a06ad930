//! What the writer remembers, and the sums that the database keeps, against what is stored.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::domain::{
    Amounts, ByteQuantity, Capabilities, Capacity, Controller, ControllerId, ControllerStatus, CpuQuantity,
    PlacementRequest, Resources, now, test_spec,
};
use crate::placement::{Placement, PlacementStrategy};
use crate::store::{
    ControllerChange, Created, NewDeletion, NewSession, PlacementDecision, Placer, ProbeRecord,
    SessionRecord, Store as _, StoreError,
};

use super::super::SqlStore;
use super::super::tests::{new_session, open, register, somebody};

/// Shows the controllers that it is shown, and chooses as it is told.
#[derive(Clone, Default)]
struct Looker {
    seen: Arc<Mutex<Vec<Controller>>>,
    choice: Option<ControllerId>,
}

impl Placer for Looker {
    fn place(&self, controllers: &[Controller]) -> PlacementDecision {
        *self.seen.lock().unwrap() = controllers.to_vec();
        match &self.choice {
            Some(id) => PlacementDecision::On(id.clone(), "docker".into()),
            None => PlacementDecision::Nobody(String::new()),
        }
    }
}

/// What the writer takes for the present is what is stored, but for what placement does not go by.
async fn judge(store: &SqlStore) {
    let looker = Looker::default();
    let new = NewSession { placer: Arc::new(looker.clone()), ..new_session() };
    assert!(matches!(store.create_session(new).await.unwrap(), Created::Refused(_)));
    let even = |controllers: Vec<Controller>| -> Vec<Controller> {
        let one = |controller| {
            let at = chrono::DateTime::UNIX_EPOCH;
            Controller { active_server: None, last_heartbeat: None, updated_at: at, ..controller }
        };
        controllers.into_iter().map(one).collect()
    };
    let seen = std::mem::take(&mut *looker.seen.lock().unwrap());
    assert_eq!(even(seen), even(store.controllers().await.unwrap()));
}

async fn placed(store: &SqlStore, on: &ControllerId, memory: &str) -> SessionRecord {
    let mut new = new_session();
    new.session.spec.resources = Resources {
        memory: ByteQuantity::parse(memory).ok(),
        cpu: CpuQuantity::parse("500m").ok(),
        storage: None,
    };
    new.placer = Arc::new(Looker { choice: Some(on.clone()), ..Looker::default() });
    match store.create_session(new).await.unwrap() {
        Created::Stored(record) => *record,
        other => panic!("{other:?}"),
    }
}

async fn reserved(store: &SqlStore, id: &ControllerId) -> Amounts {
    store.controller(id).await.unwrap().unwrap().ledger.reserved
}

async fn probe(store: &SqlStore, id: &ControllerId, status: ControllerStatus, memory: &str) {
    let capacity = Capacity {
        max_sessions: 100,
        total_cpu: "64".into(),
        total_memory: memory.into(),
        ..Capacity::default()
    };
    let capabilities = Some(Capabilities { capacity, ..Capabilities::default() });
    let probe = ProbeRecord { status, message: String::new(), capabilities, answered: true, at: now() };
    store.record_probe(id, probe).await.unwrap();
}

#[tokio::test]
async fn whatever_changes_is_seen() {
    let Some((_fixture, store)) = open().await else { return };
    judge(&store).await;
    let one = register(&store, "one").await;
    judge(&store).await;
    let two = register(&store, "two").await;
    probe(&store, &one, ControllerStatus::Healthy, "64Gi").await;
    judge(&store).await;
    let session = placed(&store, &one, "1Gi").await;
    judge(&store).await;
    assert_eq!(reserved(&store, &one).await, Amounts { sessions: 1, cpu: 500, memory: 1 << 30, storage: 0 });
    let change = ControllerChange { draining: Some(true), ..ControllerChange::default() };
    store.change_controller(somebody(), &two, change).await.unwrap();
    judge(&store).await;
    probe(&store, &two, ControllerStatus::Unhealthy, "32Gi").await;
    judge(&store).await;
    store.delete_controller(somebody(), &two).await.unwrap();
    judge(&store).await;
    // Another takes its number.
    register(&store, "three").await;
    judge(&store).await;
    let id = &session.session.id;
    store.forget_session(somebody(), id, Duration::from_secs(60)).await.unwrap();
    judge(&store).await;
    assert!(reserved(&store, &one).await.is_nothing());
}

#[tokio::test]
async fn what_was_taken_back_is_not_remembered() {
    let Some((_fixture, store)) = open().await else { return };
    let one = register(&store, "one").await;
    judge(&store).await;
    // It looks, in a transaction that has renamed the controller, and is taken back.
    let (roster, id) = (Arc::clone(&store.roster), one.clone());
    let refused: Result<(), StoreError> = store
        .writer
        .run("test", move |db| {
            Box::pin(async move {
                sqlx::query("UPDATE controllers SET name = 'other' WHERE id = $1")
                    .bind(id.as_str())
                    .execute(&mut *db)
                    .await?;
                let looker = Looker::default();
                roster.choose(db, &looker).await?;
                assert_eq!(looker.seen.lock().unwrap()[0].name, "other");
                Err(StoreError::NotCommitted("on purpose".into()))
            })
        })
        .await;
    refused.unwrap_err();
    judge(&store).await;
    // The number of that change is given again.
    placed(&store, &one, "1Gi").await;
    judge(&store).await;
}

#[tokio::test]
async fn another_server_sees_it_too() {
    let Some((fixture, store)) = open().await else { return };
    if !store.is_shared() {
        return;
    }
    let other = fixture.open().await.unwrap();
    judge(&store).await;
    let one = register(&other, "one").await;
    judge(&store).await;
    for _ in 0..3 {
        placed(&store, &one, "1Gi").await;
        judge(&other).await;
        placed(&other, &one, "1Gi").await;
        judge(&store).await;
    }
    assert_eq!(reserved(&store, &one).await.sessions, 6);
}

#[tokio::test]
async fn what_an_earlier_version_stored_is_made_up_for() {
    let Some((fixture, store)) = open().await else { return };
    let one = register(&store, "one").await;
    for _ in 0..3 {
        placed(&store, &one, "2Gi").await;
    }
    let forget = store.writer.run("test", |db| {
        Box::pin(async move {
            sqlx::query(
                "UPDATE sessions SET held_sessions = NULL, held_cpu = NULL, held_memory = NULL, held_storage = NULL",
            )
            .execute(db)
            .await?;
            Ok(())
        })
    });
    forget.await.unwrap();
    assert!(reserved(&store, &one).await.is_nothing());
    store.close().await;
    let store = fixture.open().await.unwrap();
    assert_eq!(reserved(&store, &one).await, Amounts { sessions: 3, cpu: 1500, memory: 6 << 30, storage: 0 });
    let ids = store.sessions(&Default::default(), None, 10).await.unwrap();
    for record in ids {
        store.request_deletion(somebody(), &record.session.id, NewDeletion::default()).await.unwrap();
        store.forget_session(somebody(), &record.session.id, Duration::from_secs(60)).await.unwrap();
    }
    assert!(reserved(&store, &one).await.is_nothing());
}

/// Prints what a decision among a thousand controllers costs; see it with `--nocapture`.
#[tokio::test]
async fn a_decision_among_a_thousand() {
    let Some((_fixture, store)) = open().await else { return };
    let add = |number: usize| {
        let store = &store;
        async move {
            let id = register(store, &format!("controller-{number}")).await;
            probe(store, &id, ControllerStatus::Healthy, "64Gi").await;
        }
    };
    futures::future::join_all((0..1000).map(add)).await;
    let mut spec = test_spec();
    spec.resources.memory = ByteQuantity::parse("1Gi").ok();
    let request = PlacementRequest { controller_type: Some("docker".into()), ..PlacementRequest::default() };
    let placer = Placement::new(&request, &spec, PlacementStrategy::LeastLoaded);
    let all = store.controllers().await.unwrap();
    let (mut pure, mut whole, mut reading) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..200 {
        let begun = Instant::now();
        assert!(matches!(placer.place(&all), PlacementDecision::On(..)));
        pure.push(begun.elapsed());
        let (roster, asked) = (Arc::clone(&store.roster), placer.clone());
        let (chosen, took) = store
            .writer
            .run("test", move |db| {
                Box::pin(async move {
                    let begun = Instant::now();
                    let decision = roster.choose(db, &asked).await?;
                    Ok((decision, begun.elapsed()))
                })
            })
            .await
            .unwrap();
        whole.push(took);
        let PlacementDecision::On(id, _) = chosen else { panic!("{chosen:?}") };
        // One of them is another one the next time.
        placed(&store, &id, "1Gi").await;
    }
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(store.controllers().await.unwrap().len(), 1000);
        reading.push(begun.elapsed());
    }
    for (what, mut times) in [
        ("the decision alone", pure),
        ("the decision with what changed since", whole),
        ("reading all controllers", reading),
    ] {
        times.sort();
        println!("{what}: median {:?}, longest {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
}
