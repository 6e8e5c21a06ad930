//! The store on a real database: a file, or a server.

use super::super::fixture::Fixture;
use super::*;
use crate::domain::{
    Action, ConditionStatus, OperationKind, Rule, Wish, WishedState, condition_type, now, sha256_hex,
    test_session,
};

const PURGE: NewDeletion = NewDeletion { purge_home: true, force_after: None };
/// How long a session may wait for a controller.
const LIMIT: Duration = Duration::from_secs(600);

struct Anywhere;

impl Placer for Anywhere {
    fn place(&self, controllers: &[Controller]) -> PlacementDecision {
        match controllers.iter().find(|controller| controller.sessions < 2) {
            Some(one) => PlacementDecision::On(one.id.clone(), one.controller_type.clone()),
            None if controllers.is_empty() => PlacementDecision::Nobody("empty".into()),
            None => PlacementDecision::Later("full".into()),
        }
    }
}

/// A fresh database; none = there is no server for it.
pub(in crate::store) async fn open() -> Option<(Fixture, SqlStore)> {
    let fixture = Fixture::fresh().await?;
    let store = fixture.open().await.unwrap();
    for owner in ["one", "two", "three", "me", "old", "new", "gone"] {
        store.enter(owner, Duration::from_secs(3600)).await.unwrap();
    }
    Some((fixture, store))
}

/// A caller.
pub(in crate::store) fn somebody() -> Actor {
    let token = Token {
        id: "tok-1".into(),
        name: "laptop".into(),
        user_id: "somebody".into(),
        role: Role::Operator,
        created_by: "somebody".into(),
        created_at: now(),
        expires_at: None,
        last_used_at: None,
    };
    Actor::caller("somebody", Role::Operator, &token, Some("request".into()))
}

pub(in crate::store) async fn register(store: &SqlStore, name: &str) -> ControllerId {
    let registration = Registration {
        controller_type: "docker".into(),
        name: name.into(),
        endpoint: String::new(),
        labels: Default::default(),
    };
    store.register_controller(somebody(), registration).await.unwrap()
}

pub(in crate::store) fn new_session() -> NewSession {
    let mut session = test_session(Wish::State(WishedState::Running), false, Phase::Pending);
    session.spec_hash = "h".into();
    NewSession {
        by: somebody(),
        session,
        placer: Arc::new(Anywhere),
        idempotency: None,
        render: |_| "answer".into(),
    }
}

pub(in crate::store) fn key(caller: &str, body: &str) -> IdempotencyKey {
    IdempotencyKey {
        caller: caller.into(),
        key: "k".into(),
        body_hash: sha256_hex(body),
        keep: Duration::from_secs(60),
    }
}

pub(in crate::store) async fn stored(store: &SqlStore, new: NewSession) -> SessionRecord {
    match store.create_session(new).await.unwrap() {
        Created::Stored(record) => *record,
        other => panic!("{other:?}"),
    }
}

pub(in crate::store) fn claim(owner: &str, controller: &ControllerId, lease: Duration) -> ClaimRequest {
    ClaimRequest {
        owner: owner.into(),
        lease,
        in_flight: Default::default(),
        queues: vec![anything(Some(controller))],
        most: 100,
        operation_limit: Duration::from_secs(600),
    }
}

/// Lists by one thing each, and the index that gives their pages in order.
pub(in crate::store) fn filters() -> Vec<(SessionFilter, &'static str)> {
    let all = SessionFilter::default();
    let some = |text: &str| Some(text.to_owned());
    vec![
        (SessionFilter { user_id: some("u"), ..all.clone() }, "idx_sessions_user"),
        (SessionFilter { template_id: some("t"), ..all.clone() }, "idx_sessions_template"),
        (SessionFilter { controller_id: some("c"), ..all.clone() }, "idx_sessions_controller"),
        (SessionFilter { controller_type: some("d"), ..all.clone() }, "idx_sessions_controller_type"),
        (SessionFilter { state: Some(WishedState::Running), ..all.clone() }, "idx_sessions_state"),
        (SessionFilter { phase: Some(Phase::Failed), ..all.clone() }, "idx_sessions_phase"),
        (
            SessionFilter {
                state: Some(WishedState::Hibernated),
                phase: Some(Phase::Running),
                controller_id: some("c"),
                ..all.clone()
            },
            "idx_sessions_in_between",
        ),
        (all, "idx_sessions_created"),
    ]
}

/// What is asked for again and again while nothing happens, and its index.
pub(in crate::store) fn due_queries() -> [(&'static str, &'static str); 4] {
    [
        (operations::DUE, "idx_operations_due"),
        (operations::DUE, "idx_operations_leased"),
        (operations::CLAIMABLE, "idx_operations_due"),
        (operations::ENDED, "idx_operations_leased"),
    ]
}

/// All lanes of a queue, and room for ten steps of each.
pub(in crate::store) fn anything(controller: Option<&ControllerId>) -> Queue {
    Queue { controller: controller.cloned(), lanes: Lane::ALL.to_vec(), room: Room::for_steps(12) }
}

/// When anything is to be done.
pub(in crate::store) async fn next_due(store: &SqlStore) -> Option<DateTime<Utc>> {
    let Due { lanes, claim_ends } = store.due().await.unwrap();
    lanes.into_iter().map(|lane| lane.at).chain(claim_ends).min()
}

pub(in crate::store) fn running(claimed: &Claimed) -> StepRecord {
    let mut operation = claimed.operation.clone();
    operation.next_attempt_at = None;
    StepRecord {
        phase: Some(Phase::Running),
        node_id: Some("node".into()),
        conditions: vec![],
        reported: None,
        wish_answered: true,
        served: claimed.session.generation,
        gone: false,
        forgotten: false,
        operation,
        keep_tombstone: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn what_was_stored_comes_back() {
    let Some((fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let record = stored(&store, new_session()).await;
    let read = store.session(&record.session.id).await.unwrap().unwrap();
    assert_eq!((&read.session, &read.operation), (&record.session, &record.operation));
    store.close().await;

    let store = fixture.open().await.unwrap();
    let again = store.session(&record.session.id).await.unwrap().unwrap();
    assert_eq!(again.session, record.session);
    assert_eq!(register(&store, "a").await, controller, "the same controller keeps its id");
    assert_eq!(store.controllers().await.unwrap()[0].sessions, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some((fixture, store)) = open().await else { return };
    store
        .writer
        .run("test", |db| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'future', TRUE, $1, 0)",
                )
                .bind(b"x".as_slice())
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    store.close().await;
    let refused = fixture.open().await;
    assert!(matches!(refused, Err(StoreError::NewerSchema { found: 9999, .. })));
}

pub(in crate::store) async fn write_user(store: &SqlStore, id: String, fail: bool) -> Result<(), StoreError> {
    store
        .writer
        .run("test", move |db| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO users (id, username, created_at, updated_at) VALUES ($1, $1, $2, $2)",
                )
                .bind(id)
                .bind(now())
                .execute(db)
                .await?;
                if fail { Err(StoreError::Closed) } else { Ok(()) }
            })
        })
        .await
}

#[tokio::test]
async fn a_failing_job_takes_nothing_with_it() {
    let Some((_fixture, store)) = open().await else { return };
    // Handed in together, so that they share transactions.
    let jobs = (0..100).map(|n| write_user(&store, format!("u{n}"), n % 3 == 0));
    let results = futures::future::join_all(jobs).await;
    assert!(results.iter().enumerate().all(|(n, result)| result.is_err() == (n % 3 == 0)));
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM users").fetch_all(&store.readers).await.unwrap();
    assert_eq!(ids.len(), 66);
    assert!(!ids.contains(&"u3".to_owned()) && ids.contains(&"u4".to_owned()));
}

#[tokio::test]
async fn a_panicking_job_does_not_end_the_writer() {
    let Some((_fixture, store)) = open().await else { return };
    let result: Result<(), _> = store.writer.run("test", |_| Box::pin(async { panic!("on purpose") })).await;
    assert!(matches!(result, Err(StoreError::NotCommitted(_))));
    write_user(&store, "after".into(), false).await.unwrap();
}

#[tokio::test]
async fn a_job_that_ends_the_transaction_spoils_nothing_but_that() {
    let Some((_fixture, store)) = open().await else { return };
    for end in ["ROLLBACK", "ROLLBACK; BEGIN"] {
        let spoil = store.writer.run("test", move |db| {
            Box::pin(async move {
                sqlx::raw_sql(end).execute(db).await?;
                Ok(())
            })
        });
        assert!(spoil.await.is_err(), "{end}");
        write_user(&store, format!("after {end}"), false).await.unwrap();
        assert!(store.user(&format!("after {end}")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn nothing_is_written_after_close() {
    let Some((_fixture, store)) = open().await else { return };
    store.close().await;
    assert!(write_user(&store, "late".into(), false).await.is_err());
}

#[tokio::test]
async fn a_key_gives_the_same_answer() {
    let Some((_fixture, store)) = open().await else { return };
    register(&store, "a").await;
    let with = |key| NewSession { idempotency: Some(key), ..new_session() };
    let first = stored(&store, with(key("me", "body"))).await;
    let again = store.create_session(with(key("me", "body"))).await.unwrap();
    assert!(matches!(again, Created::Replayed { session_id, response }
        if session_id == first.session.id && response == "answer"));
    let other_body = store.create_session(with(key("me", "other"))).await.unwrap();
    assert!(matches!(other_body, Created::KeyMismatch));
    let other_caller = stored(&store, with(key("you", "other"))).await;
    assert_ne!(other_caller.session.id, first.session.id);

    let gone = IdempotencyKey { keep: Duration::ZERO, caller: "late".into(), ..key("", "body") };
    let one = stored(&store, with(gone.clone())).await;
    let two = stored(&store, with(gone)).await;
    assert_ne!(one.session.id, two.session.id, "an expired key binds nothing");
    for state in [WishedState::Hibernated, WishedState::Running] {
        let idempotency = Some(IdempotencyKey { keep: Duration::ZERO, ..key("late", "wish") });
        let wish = NewWish {
            by: somebody(),
            session_id: one.session.id.clone(),
            state,
            idempotency,
            render: |_| "wish".into(),
        };
        assert!(matches!(store.wish(wish).await.unwrap(), Wished::Stored(_)), "{state:?}");
    }
}

#[tokio::test]
async fn a_refused_session_leaves_nothing() {
    let Some((_fixture, store)) = open().await else { return };
    let new = NewSession { idempotency: Some(key("me", "body")), ..new_session() };
    assert!(matches!(store.create_session(new).await.unwrap(), Created::Refused(_)));
    register(&store, "a").await;
    let new = NewSession { idempotency: Some(key("me", "body")), ..new_session() };
    stored(&store, new).await;
    assert_eq!(store.sessions(&SessionFilter::default(), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn placement_counts_inside_the_transaction() {
    let Some((_fixture, store)) = open().await else { return };
    register(&store, "a").await;
    register(&store, "b").await;
    let created = futures::future::join_all((0..7).map(|_| stored(&store, new_session()))).await;
    let placed = created.iter().filter(|record| record.session.placed.is_some()).count();
    assert_eq!(placed, 4, "two each, however many come at once");
    let counts: Vec<_> = store.controllers().await.unwrap().iter().map(|one| one.sessions).collect();
    assert_eq!(counts, [2, 2]);
    let waiting = created.iter().find(|record| record.session.placed.is_none()).unwrap();
    let scheduled = waiting.session.conditions.get(condition_type::SCHEDULED).unwrap();
    assert_eq!(scheduled.reason, "Unschedulable");
}

#[tokio::test]
async fn a_claim_is_exclusive_and_its_epoch_fences() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    stored(&store, new_session()).await;
    let mut first = store.claim_due(claim("one", &controller, Duration::ZERO)).await.unwrap().work;
    let first = first.pop().unwrap();
    assert_eq!(first.step, Step::Call(OperationKind::Create));

    // The lease has run out already, so another may take over …
    let second = store.claim_due(claim("two", &controller, Duration::from_secs(60))).await.unwrap().work;
    let second = second.into_iter().next().unwrap();
    assert!(second.lease.epoch > first.lease.epoch);
    assert_eq!(second.operation.id, first.operation.id, "a retry of the same operation");
    // … and while theirs holds, nobody else does.
    assert!(store.claim_due(claim("three", &controller, Duration::ZERO)).await.unwrap().work.is_empty());

    assert_eq!(store.record_step(&first.lease, running(&first)).await.unwrap(), Recorded::Stale);
    let unchanged = store.session(&first.session.id).await.unwrap().unwrap();
    assert_eq!(unchanged.session.phase, Phase::Pending);
    assert_eq!(store.record_step(&second.lease, running(&second)).await.unwrap(), Recorded::Stored);
    let settled = store.session(&first.session.id).await.unwrap().unwrap();
    assert_eq!((settled.session.phase, settled.operation.is_settled()), (Phase::Running, true));
}

#[tokio::test]
async fn what_a_clock_that_was_set_back_put_off_is_due() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let id = stored(&store, new_session()).await.session.id;
    let claimed = store.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work;
    let mut record = running(&claimed[0]);
    let day = chrono::Duration::days(1);
    record.operation.next_attempt_at = Some(now() + day);
    assert_eq!(store.record_step(&claimed[0].lease, record).await.unwrap(), Recorded::Stored);
    store.sweep().await.unwrap();
    let due = store.session(&id).await.unwrap().unwrap().operation.next_attempt_at.unwrap();
    assert!(due < now() + day / 2, "{due}");
}

#[tokio::test]
async fn one_server_at_a_time_drives_a_controller() {
    let Some((_fixture, store)) = open().await else { return };
    let hour = Duration::from_secs(3600);
    let controller = register(&store, "a").await;
    let other = register(&store, "b").await;
    // Where only one process can be the second one takes the place of the first.
    store.enter("first/1", hour).await.unwrap();
    let epoch = store.take_over_controller("first/1", &controller).await.unwrap().unwrap();
    let again = store.take_over_controller("first/1", &controller).await.unwrap().unwrap();
    assert!(again > epoch, "its own calls of before are over as well");
    stored(&store, new_session()).await;
    let claimed = store.claim_due(claim("first/1", &controller, hour)).await.unwrap().work;
    assert_eq!(claimed[0].controller_epoch, Some(again));
    if store.is_shared() {
        store.enter("second/1", hour).await.unwrap();
        assert_eq!(store.take_over_controller("second/1", &controller).await.unwrap(), None);
        let taken = store.take_over("second/1", vec![controller.clone(), other.clone()]).await.unwrap();
        assert_eq!(taken.taken.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&other]);
        assert!(taken.ended.is_empty());
        assert!(store.claim_due(claim("second/1", &controller, hour)).await.unwrap().work.is_empty());
        store.leave("second/1").await.unwrap();
        assert_eq!(store.take_over_controller("second/1", &other).await.unwrap(), None, "it has no place");
    }
    // The same instance again: what it had is free, and its claims of before are void.
    store.enter("first/2", hour).await.unwrap();
    let later = store.take_over_controller("first/2", &controller).await.unwrap().unwrap();
    assert!(later > again);
    let late = store.record_step(&claimed[0].lease, running(&claimed[0])).await.unwrap();
    assert_eq!(late, Recorded::Stale);
    let next = store.claim_due(claim("first/2", &controller, hour)).await.unwrap().work;
    assert_eq!((next.len(), next[0].controller_epoch), (1, Some(later)));
    assert_eq!(
        store.controller(&controller).await.unwrap().unwrap().active_server.as_deref(),
        Some("first/2")
    );
}

#[tokio::test]
async fn work_that_outlives_its_claim_is_not_given_away() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let id = stored(&store, new_session()).await.session.id;
    let working = store.claim_due(claim("me", &controller, Duration::ZERO)).await.unwrap().work;
    let again = claim("me", &controller, Duration::from_secs(60));
    let request = ClaimRequest { in_flight: [id.clone()].into(), ..again.clone() };
    assert!(store.claim_due(request).await.unwrap().work.is_empty());
    let due = next_due(&store).await.unwrap();
    assert!(due > now() + chrono::Duration::seconds(30), "nothing to be done until then");
    assert_eq!(store.record_step(&working[0].lease, running(&working[0])).await.unwrap(), Recorded::Stored);

    // What was recorded may be claimed again, though its task has not ended.
    store.request_deletion(somebody(), &id, NewDeletion::default()).await.unwrap();
    let request = ClaimRequest { in_flight: [id].into(), ..again };
    assert_eq!(store.claim_due(request).await.unwrap().work.len(), 1);
}

#[tokio::test]
async fn a_claim_that_its_owner_does_not_know_of_is_given_back() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let (busy, lost) =
        (stored(&store, new_session()).await.session.id, stored(&store, new_session()).await.session.id);
    let hour = Duration::from_secs(3600);
    assert_eq!(store.claim_due(claim("me", &controller, hour)).await.unwrap().work.len(), 2);
    assert_eq!(store.release_claims("another", HashSet::new()).await.unwrap(), 0);
    assert_eq!(store.release_claims("me", [busy.clone()].into()).await.unwrap(), 1);
    let request = ClaimRequest { in_flight: [busy].into(), ..claim("me", &controller, hour) };
    let again = store.claim_due(request).await.unwrap().work.pop().unwrap();
    assert_eq!(again.session.id, lost);
    assert!(again.operation.deadline.unwrap() < now() + hour, "only the time until now is excused");
}

#[tokio::test]
async fn a_claim_that_ran_out_is_free_again_and_what_nobody_could_do_is_excused() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    stored(&store, new_session()).await;
    let first =
        store.claim_due(claim("gone", &controller, Duration::ZERO)).await.unwrap().work.pop().unwrap();
    let Due { lanes, claim_ends } = store.due().await.unwrap();
    assert!(lanes.is_empty() && claim_ends.is_some_and(|end| end <= now()));
    // There is no room for it, but it is nobody's any more.
    let none = ClaimRequest { queues: Vec::new(), ..claim("me", &controller, Duration::from_secs(60)) };
    assert!(store.claim_due(none).await.unwrap().work.is_empty());
    let Due { lanes, claim_ends } = store.due().await.unwrap();
    let waiting: Vec<_> = lanes.iter().map(|due| (due.controller.as_ref(), due.lane)).collect();
    assert_eq!((waiting, claim_ends), (vec![(Some(&controller), Lane::Change)], None));
    assert_eq!(store.record_step(&first.lease, running(&first)).await.unwrap(), Recorded::Stale);
    let second = store.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work;
    assert!(
        second[0].lease.epoch > first.lease.epoch && second[0].operation.deadline >= first.operation.deadline
    );
}

#[tokio::test]
async fn each_lane_of_each_queue_is_due_by_itself() {
    let Some((_fixture, store)) = open().await else { return };
    struct To(usize);
    impl Placer for To {
        fn place(&self, controllers: &[Controller]) -> PlacementDecision {
            match controllers.get(self.0) {
                Some(one) => PlacementDecision::On(one.id.clone(), "docker".into()),
                None => PlacementDecision::Later("full".into()),
            }
        }
    }
    for name in ["a", "b"] {
        register(&store, name).await;
    }
    let ids: Vec<_> = store.controllers().await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(store.due().await.unwrap(), Due::default());
    let mut made = Vec::new();
    for place in [0, 0, 0, 1, 9] {
        made.push(
            stored(&store, NewSession { placer: Arc::new(To(place)), ..new_session() }).await.session.id,
        );
    }
    // The latest wish of all, and so the last in any one line.
    store.request_deletion(somebody(), &made[2], NewDeletion::default()).await.unwrap();
    store.request_deletion(somebody(), &made[4], NewDeletion::default()).await.unwrap();
    let mut due: Vec<_> =
        store.due().await.unwrap().lanes.into_iter().map(|due| (due.controller, due.lane.to_db())).collect();
    due.sort();
    let (first, second) = (Some(ids[0].clone()), Some(ids[1].clone()));
    let mut expected = vec![
        (None, Lane::Remove),
        (first.clone(), Lane::Change),
        (first, Lane::Remove),
        (second, Lane::Change),
    ]
    .into_iter()
    .map(|(controller, lane)| (controller, lane.to_db()))
    .collect::<Vec<_>>();
    expected.sort();
    assert_eq!(due, expected);

    // With three places each lane has one.
    let mut request = claim("me", &ids[0], Duration::from_secs(60));
    request.queues[0].room = Room::for_steps(3);
    let work = store.claim_due(request.clone()).await.unwrap().work;
    let steps: Vec<_> = work.iter().map(|claimed| (&claimed.session.id, claimed.step)).collect();
    let (delete, create) = (Step::Call(OperationKind::Delete), Step::Call(OperationKind::Create));
    assert_eq!(steps, [(&made[2], delete), (&made[0], create)]);
    // No more than was asked for at once, whoever has room.
    let one = ClaimRequest {
        most: 1,
        queues: ids.iter().map(|id| anything(Some(id))).collect(),
        ..claim("me", &ids[0], Duration::from_secs(60))
    };
    assert_eq!(store.claim_due(one).await.unwrap().work.len(), 1);
}

#[tokio::test]
async fn an_unreadable_row_is_not_due_all_the_time() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    stored(&store, new_session()).await;
    store.claim_due(claim("old", &controller, Duration::ZERO)).await.unwrap();
    tamper(&store, "UPDATE sessions SET phase = 'Melting'").await;
    assert!(store.claim_due(claim("new", &controller, Duration::ZERO)).await.unwrap().work.is_empty());
    let due = next_due(&store).await.unwrap();
    assert!(due > now() + chrono::Duration::seconds(30));
}

#[tokio::test]
async fn a_step_never_overwrites_a_newer_wish() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let id = stored(&store, new_session()).await.session.id;
    let creating = store.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work;
    let creating = &creating[0];
    assert!(matches!(
        store.request_deletion(somebody(), &id, NewDeletion::default()).await.unwrap(),
        Deletion::Wished(_)
    ));
    let again = claim("me", &controller, Duration::from_secs(60));
    assert!(store.claim_due(again.clone()).await.unwrap().work.is_empty(), "the creation is still under way");

    store.record_step(&creating.lease, running(creating)).await.unwrap();
    let record = store.session(&id).await.unwrap().unwrap();
    assert_eq!(record.session.phase, Phase::Running);
    assert!(record.session.is_deleting() && !record.operation.is_settled());

    let deleting = store.claim_due(again).await.unwrap().work;
    let deleting = &deleting[0];
    assert_eq!(deleting.step, Step::Call(OperationKind::Delete));
    assert_ne!(deleting.operation.id, creating.operation.id);

    // Someone asks for the home to go too, while the deletion without it is under way.
    store.request_deletion(somebody(), &id, PURGE).await.unwrap();
    let gone = StepRecord { gone: true, ..running(deleting) };
    assert_eq!(store.record_step(&deleting.lease, gone).await.unwrap(), Recorded::Stored);
    let purging = store.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work;
    let purging = &purging[0];
    assert_eq!(purging.session.wish, Wish::Gone { purge_home: true });
    let gone = StepRecord { gone: true, ..running(purging) };
    assert_eq!(store.record_step(&purging.lease, gone).await.unwrap(), Recorded::Removed);
    assert!(store.session(&id).await.unwrap().is_none());
    assert_eq!(store.controllers().await.unwrap()[0].sessions, 0);
    let buried: String =
        sqlx::query_scalar("SELECT session_id FROM tombstones").fetch_one(&store.readers).await.unwrap();
    assert_eq!(buried, id.to_string());
}

/// Makes all operations due at one time, and have their deadline at another.
async fn retime(store: &SqlStore, due: DateTime<Utc>, deadline: Option<DateTime<Utc>>) {
    let done = store.writer.run("test", move |db| {
        Box::pin(async move {
            sqlx::query("UPDATE operations SET next_attempt_at = $1, deadline = $2")
                .bind(due)
                .bind(deadline)
                .execute(db)
                .await?;
            Ok(())
        })
    });
    done.await.unwrap();
}

#[tokio::test]
async fn time_in_which_nobody_could_work_does_not_count() {
    let Some((fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    stored(&store, new_session()).await;
    let claim = || claim("me", &controller, Duration::from_secs(60));
    let first = store.claim_due(claim()).await.unwrap().work.pop().unwrap().operation;
    assert_eq!(first.next_attempt_at, Some(first.updated_at), "it counts from here");
    // It is not ended, and the server is away for longer than everything may take.
    store.close().await;
    let store = fixture.open_as("me").await.unwrap();
    let minutes = chrono::Duration::minutes;
    let begun = now() - minutes(20);
    retime(&store, begun, Some(begun + minutes(4))).await;
    let again = store.claim_due(claim()).await.unwrap().work.pop().unwrap();
    assert_eq!(again.step, Step::Call(OperationKind::Create));
    assert_eq!(again.operation.deadline, Some(again.operation.updated_at + minutes(4)));

    // The pause that a failure asks for does count.
    let record = StepRecord { wish_answered: false, phase: None, ..running(&again) };
    store.record_step(&again.lease, record).await.unwrap();
    retime(&store, begun, Some(begun)).await;
    assert_eq!(store.claim_due(claim()).await.unwrap().work[0].step, Step::GiveUp);
}

#[tokio::test]
async fn nothing_is_placed_for_a_wish_that_is_not_there_any_more() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    for _ in 0..3 {
        stored(&store, new_session()).await;
    }
    let all = store.sessions(&SessionFilter::default(), None, 10).await.unwrap();
    let waiting = &all.iter().find(|record| record.session.placed.is_none()).unwrap().session;
    let mut request = claim("me", &controller, Duration::from_secs(60));
    request.queues = vec![anything(None)];
    retime(&store, now() - chrono::Duration::seconds(1), None).await;
    let claimed = store.claim_due(request.clone()).await.unwrap().work.pop().unwrap();
    assert_eq!((&claimed.session.id, claimed.step), (&waiting.id, Step::Place));
    let wish = NewWish {
        by: somebody(),
        session_id: waiting.id.clone(),
        state: WishedState::Terminated,
        idempotency: None,
        render: |_| String::new(),
    };
    assert!(matches!(store.wish(wish).await.unwrap(), Wished::Stored(_)));
    struct AnyRoom;
    impl Placer for AnyRoom {
        fn place(&self, controllers: &[Controller]) -> PlacementDecision {
            PlacementDecision::On(controllers[0].id.clone(), "docker".into())
        }
    }
    let served = claimed.session.generation;
    store.place_session(&claimed.lease, served, Arc::new(AnyRoom), now(), LIMIT).await.unwrap();
    assert!(store.session(&waiting.id).await.unwrap().unwrap().session.placed.is_none());
    assert_eq!(store.controllers().await.unwrap()[0].sessions, 2);

    // It rests with the next claim, and whoever waits for it hears of that.
    let claims = store.claim_due(request).await.unwrap();
    assert_eq!((claims.work.len(), claims.rested), (0, vec![waiting.id.clone()]));
}

#[tokio::test]
async fn an_observation_that_was_overtaken_is_void() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let id = stored(&store, new_session()).await.session.id;
    let claimed = store.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work;
    store.record_step(&claimed[0].lease, running(&claimed[0])).await.unwrap();
    let seen = store.session(&id).await.unwrap().unwrap();
    let change = ObservedChange {
        session_id: id.clone(),
        operation_seen: seen.operation.updated_at,
        session_seen: seen.session.updated_at,
        phase: Phase::Pending,
        node_id: None,
        conditions: seen.session.conditions.clone(),
        repair: Some(seen.operation.clone()),
    };
    let later = now() + chrono::Duration::seconds(1);
    assert_eq!(store.settled_sessions(&controller, later).await.unwrap().len(), 1);
    let earlier = seen.operation.updated_at;
    assert!(store.settled_sessions(&controller, earlier).await.unwrap().is_empty());

    // Something else was noted at the session meanwhile: it must not be written over.
    let unhealthy = Condition {
        kind: condition_type::CONTROLLER_REACHABLE.into(),
        status: ConditionStatus::False,
        reason: "ControllerOffline".into(),
        message: String::new(),
        since: now(),
    };
    assert_eq!(store.set_controller_condition(&controller, unhealthy).await.unwrap().len(), 1);
    assert!(store.record_observed(vec![change.clone()]).await.unwrap().is_empty());
    let noted = store.session(&id).await.unwrap().unwrap().session;
    assert!(noted.conditions.get(condition_type::CONTROLLER_REACHABLE).is_some());

    let change = ObservedChange { session_seen: noted.updated_at, ..change };
    store.request_deletion(somebody(), &id, NewDeletion::default()).await.unwrap();
    assert!(store.record_observed(vec![change]).await.unwrap().is_empty());
    assert_eq!(store.session(&id).await.unwrap().unwrap().session.phase, Phase::Running);
}

#[tokio::test]
async fn a_condition_reaches_all_sessions_of_a_controller() {
    let Some((_fixture, store)) = open().await else { return };
    register(&store, "a").await;
    struct First;
    impl Placer for First {
        fn place(&self, controllers: &[Controller]) -> PlacementDecision {
            PlacementDecision::On(controllers[0].id.clone(), "docker".into())
        }
    }
    let many = (0..600).map(|_| stored(&store, NewSession { placer: Arc::new(First), ..new_session() }));
    let mut ids: Vec<_> =
        futures::future::join_all(many).await.into_iter().map(|one| one.session.id).collect();
    let offline = Condition {
        kind: condition_type::CONTROLLER_REACHABLE.into(),
        status: ConditionStatus::False,
        reason: "ControllerOffline".into(),
        message: String::new(),
        since: now(),
    };
    let controller = store.controllers().await.unwrap()[0].id.clone();
    let mut changed = store.set_controller_condition(&controller, offline.clone()).await.unwrap();
    changed.sort_by_key(ToString::to_string);
    ids.sort_by_key(ToString::to_string);
    assert_eq!(changed, ids);
    assert!(store.set_controller_condition(&controller, offline).await.unwrap().is_empty(), "no news");
}

#[tokio::test]
async fn pages_do_not_skip_or_repeat() {
    let Some((_fixture, store)) = open().await else { return };
    register(&store, "a").await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(stored(&store, new_session()).await.session.id);
    }
    made.reverse();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.sessions(&SessionFilter::default(), after.as_ref(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(Position { created_at: last.session.created_at, id: last.session.id.to_string() });
        seen.extend(page.into_iter().map(|record| record.session.id));
    }
    assert_eq!(seen, made);
    let none = SessionFilter { user_id: Some("nobody".into()), ..SessionFilter::default() };
    assert!(store.sessions(&none, None, 10).await.unwrap().is_empty());
}

/// Changes the tables as no part of the store would.
pub(in crate::store) async fn tamper(store: &SqlStore, sql: &'static str) {
    let done = store.writer.run("test", move |db| {
        Box::pin(async move {
            sqlx::query(sql).execute(db).await?;
            Ok(())
        })
    });
    done.await.unwrap();
}

#[tokio::test]
async fn an_unreadable_row_takes_no_other_with_it() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(stored(&store, new_session()).await.session.id);
    }
    for claimed in store.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work {
        store.record_step(&claimed.lease, running(&claimed)).await.unwrap();
    }
    tamper(
        &store,
        "UPDATE sessions SET phase = 'Melting' WHERE created_at = (SELECT max(created_at) FROM sessions)",
    )
    .await;
    let broken = &ids[1];
    assert!(store.session(broken).await.unwrap_err().is_unreadable_row());

    // The page is full although the first row of it cannot be read.
    let page = store.sessions(&SessionFilter::default(), None, 1).await.unwrap();
    assert_eq!(page.iter().map(|record| &record.session.id).collect::<Vec<_>>(), [&ids[0]]);
    let later = now() + chrono::Duration::seconds(1);
    assert_eq!(store.settled_sessions(&controller, later).await.unwrap().len(), 1);
    let offline = Condition {
        kind: condition_type::CONTROLLER_REACHABLE.into(),
        status: ConditionStatus::False,
        reason: "ControllerOffline".into(),
        message: String::new(),
        since: now(),
    };
    assert_eq!(store.set_controller_condition(&controller, offline).await.unwrap(), [ids[0].clone()]);

    assert_eq!(store.session_owner(broken).await.unwrap().as_deref(), Some("u"));
    assert!(matches!(
        store.request_deletion(somebody(), broken, PURGE).await.unwrap(),
        Deletion::WishedUnreadable
    ));
    let wished: (bool, bool, i64) =
        sqlx::query_as("SELECT deleting, purge_home, generation FROM sessions WHERE id = $1")
            .bind(broken.as_str())
            .fetch_one(&store.readers)
            .await
            .unwrap();
    assert_eq!(wished, (true, true, 2));
}

#[tokio::test]
async fn what_is_not_committed_is_not_told() {
    let Some((_fixture, store)) = open().await else { return };
    let mut news = store.latest_event();
    let refused = store.create_session(new_session()).await.unwrap();
    assert!(matches!(refused, Created::Refused(_)));
    assert!(!news.has_changed().unwrap());
    register(&store, "one").await;
    let session = stored(&store, new_session()).await.session;
    assert!(news.has_changed().unwrap(), "told before the caller hears of success");
    let query = EventQuery { scope: EventScope::default(), after: EventCursor::START, limit: 100 };
    let page = store.events(&query).await.unwrap();
    assert_eq!((page.upto, page.lost), (*news.borrow_and_update(), false));
    assert!(page.events.iter().all(|event| event.session_id.as_deref() == Some(session.id.as_str())));
    assert_eq!(store.event_owner(&session.id).await.unwrap().as_deref(), Some("u"));
}

async fn actions(store: &SqlStore, filter: AuditFilter) -> Vec<String> {
    store.audit(&filter, None, 100).await.unwrap().into_iter().map(|entry| entry.action).collect()
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_and_nothing_else_is() {
    let Some((_fixture, store)) = open().await else { return };
    let all = AuditFilter::default;
    store.replace_admin_token("admin.token", "hash").await.unwrap();
    let controller = register(&store, "a").await;
    register(&store, "a").await;
    let record = stored(&store, NewSession { idempotency: Some(key("me", "body")), ..new_session() }).await;
    let id = record.session.id;
    let again = NewSession { idempotency: Some(key("me", "body")), ..new_session() };
    assert!(matches!(store.create_session(again).await.unwrap(), Created::Replayed { .. }));
    for _ in 0..2 {
        let wish = NewWish {
            by: Actor::System(Rule::IdleTimeout),
            session_id: id.clone(),
            state: WishedState::Hibernated,
            idempotency: None,
            render: |_| String::new(),
        };
        store.wish(wish).await.unwrap();
        store.request_deletion(somebody(), &id, PURGE).await.unwrap();
    }
    store.delete_controller(somebody(), &controller).await.unwrap();
    let user = User {
        id: "u".into(),
        username: "u".into(),
        email: None,
        full_name: String::new(),
        role: Role::User,
        provider: "local".into(),
        active: true,
        created_at: now(),
        updated_at: now(),
    };
    store.create_user(somebody(), user.clone()).await.unwrap();
    store.create_user(somebody(), user).await.unwrap();
    store.change_user(somebody(), "u", UserChange::default()).await.unwrap();
    let change = UserChange { role: Some(Role::Operator), ..UserChange::default() };
    store.change_user(somebody(), "u", change).await.unwrap();
    let token = Token {
        id: "tok-2".into(),
        name: "ci".into(),
        user_id: "u".into(),
        role: Role::User,
        created_by: "u".into(),
        created_at: now(),
        expires_at: Some(now() - chrono::Duration::seconds(1)),
        last_used_at: None,
    };
    store.create_token(somebody(), token.clone(), "secret-hash", 5).await.unwrap();
    store.sweep().await.unwrap();
    assert!(!store.delete_token(somebody(), "tok-2", None).await.unwrap());
    let grant = AccessGrant {
        session_id: id.clone(),
        user_id: "u".into(),
        expires_at: now() + chrono::Duration::seconds(60),
    };
    store.grant_access(somebody(), "ticket-hash", GrantKind::Ticket, grant).await.unwrap();
    store.redeem_ticket("ticket-hash", "cookie-hash", now()).await.unwrap();
    let deed = Deed::new(Action::TokenExpire, "thing", "stray");
    store.record_audit(Actor::System(Rule::Drift), vec![deed]).await.unwrap();
    let mut found = actions(&store, all()).await;
    found.reverse();
    assert_eq!(
        found,
        [
            "token.create",
            "controller.register",
            "session.create",
            "session.hibernate",
            "session.delete",
            "user.create",
            "user.change",
            "token.create",
            "token.expire",
            "access.grant",
            "token.expire",
        ]
    );

    let to_session = AuditFilter { target: Some(id.to_string()), ..all() };
    let entries = store.audit(&to_session, None, 2).await.unwrap();
    assert_eq!(actions(&store, to_session.clone()).await.len(), 4);
    let rest = store.audit(&to_session, Some(entries[1].id), 10).await.unwrap();
    let system = &rest[0];
    assert_eq!((system.actor_kind.as_str(), system.actor.as_str()), ("system", "idle-timeout"));
    assert_eq!((system.role.as_deref(), system.token_id.as_deref()), (None, None));
    let by = &rest[1];
    assert_eq!((by.actor_kind.as_str(), by.actor.as_str()), ("user", "somebody"));
    assert_eq!(by.role.as_deref(), Some("operator"));
    assert_eq!((by.token_id.as_deref(), by.token_name.as_deref()), (Some("tok-1"), Some("laptop")));
    assert_eq!(by.request_id.as_deref(), Some("request"));
    assert_eq!(by.details["user_id"], "u");
    let whole = format!("{:?}", store.audit(&all(), None, 100).await.unwrap());
    assert!(!whole.contains("hash"), "{whole}");

    let drift = AuditFilter { actor: Some("drift".into()), ..all() };
    assert_eq!(actions(&store, drift).await.len(), 1);
    let later = AuditFilter { since: Some(now() + chrono::Duration::seconds(60)), ..all() };
    assert!(actions(&store, later.clone()).await.is_empty());
    let earlier = AuditFilter { until: later.since, ..all() };
    assert_eq!(actions(&store, earlier).await.len(), 11);
    let made = AuditFilter { action: Some("session.create".into()), ..all() };
    assert_eq!(actions(&store, made).await.len(), 1);

    store.sweep_audit(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(actions(&store, all()).await.len(), 11);
    store.sweep_audit(Duration::MAX).await.unwrap();
    assert_eq!(actions(&store, all()).await.len(), 11);
    store.sweep_audit(Duration::ZERO).await.unwrap();
    assert!(actions(&store, all()).await.is_empty());
}

#[tokio::test]
async fn a_change_that_is_not_committed_is_not_in_the_audit_log() {
    let Some((_fixture, store)) = open().await else { return };
    assert!(matches!(store.create_session(new_session()).await.unwrap(), Created::Refused(_)));
    let failed = store.writer.run("test", |db| {
        Box::pin(async move {
            let deed = Deed::new(Action::UserCreate, "user", "u");
            audit::record(db, now(), &somebody(), deed).await?;
            Err::<(), _>(StoreError::Closed)
        })
    });
    assert!(failed.await.is_err());
    assert!(actions(&store, AuditFilter::default()).await.is_empty());
}

/// Deleted sessions that are still remembered.
async fn remembered(store: &SqlStore, controller: &ControllerId, ids: &[SessionId]) -> Vec<bool> {
    let asked = ids.iter().map(|id| id.to_string()).collect();
    let found = store.unexplained(controller, asked).await.unwrap();
    found.iter().map(|stray| stray.deleted_at.is_some()).collect()
}

#[tokio::test]
async fn a_tombstone_stays_while_its_object_is_seen_and_while_nobody_can_look() {
    let Some((_fixture, store)) = open().await else { return };
    let controller = register(&store, "one").await;
    let probe = |status| ProbeRecord {
        status,
        message: String::new(),
        capabilities: None,
        answered: true,
        at: now(),
    };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = stored(&store, new_session()).await.session.id;
        let forgotten = store.forget_session(somebody(), &id, Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(forgotten.controller_id.as_deref(), Some(controller.as_str()));
        ids.push(id);
    }
    assert_eq!(store.placed_sessions(&controller).await.unwrap(), 0);
    // Their time is up, but nobody has been able to look for what they left.
    store.record_probe(&controller, probe(ControllerStatus::Offline)).await.unwrap();
    store.sweep().await.unwrap();
    assert_eq!(remembered(&store, &controller, &ids).await, [true, true]);

    let report = DriftReport { buried: vec![ids[0].to_string()], ..DriftReport::default() };
    store.record_drift(&controller, report, Duration::from_secs(3600)).await.unwrap();
    store.record_probe(&controller, probe(ControllerStatus::Healthy)).await.unwrap();
    store.sweep().await.unwrap();
    assert_eq!(remembered(&store, &controller, &ids).await, [true, false]);
    store.close().await;
}

/// A session that runs and is idle since a while.
async fn idle(store: &SqlStore) -> SessionId {
    let controller = store.controllers().await.unwrap()[0].id.clone();
    let mut new = new_session();
    new.session.spec.idle_timeout = crate::domain::GoDuration::parse("1ms").ok();
    let id = stored(store, new).await.session.id;
    assert!(store.policy_due(10).await.unwrap().is_empty(), "it does not run yet");
    let work = store.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work;
    let own = work.iter().find(|claimed| claimed.session.id == id).unwrap();
    store.record_step(&own.lease, running(own)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(store.policy_due(10).await.unwrap(), std::slice::from_ref(&id));
    id
}

#[tokio::test]
async fn a_sign_that_comes_in_time_wins_and_a_limit_is_kept_once() {
    let Some((_fixture, store)) = open().await else { return };
    register(&store, "a").await;
    let id = idle(&store).await;
    let due = || vec![id.clone()];
    // Seen by this process, and not written down.
    let later = now() + chrono::Duration::seconds(60);
    let sign = ActivitySign { session_id: id.clone(), at: later };
    assert!(store.enforce_policies(due(), vec![sign], Duration::ZERO).await.unwrap().is_empty());
    let record = store.session(&id).await.unwrap().unwrap();
    assert_eq!((record.session.last_activity, record.session.state), (Some(later), WishedState::Running));
    assert!(store.policy_due(10).await.unwrap().is_empty(), "it is due later");

    tamper(&store, "UPDATE sessions SET last_activity = NULL").await;
    assert!(store.enforce_policies(due(), vec![], Duration::from_secs(60)).await.unwrap().is_empty());
    let both =
        futures::future::join_all((0..4).map(|_| store.enforce_policies(due(), vec![], Duration::ZERO)));
    let ended: Vec<_> = both.await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(ended, std::slice::from_ref(&id));
    let record = store.session(&id).await.unwrap().unwrap();
    assert_eq!((record.session.state, record.session.generation.get()), (WishedState::Hibernated, 2));
    let by = AuditFilter { actor: Some("idle-timeout".into()), ..AuditFilter::default() };
    assert_eq!(actions(&store, by).await, ["session.hibernate"]);
    assert!(store.policy_due(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deletion_and_a_wish_of_the_user_come_before_a_limit() {
    let Some((_fixture, store)) = open().await else { return };
    register(&store, "a").await;
    let deleted = idle(&store).await;
    store.request_deletion(somebody(), &deleted, NewDeletion::default()).await.unwrap();
    assert!(store.policy_due(10).await.unwrap().is_empty());
    assert!(store.enforce_policies(vec![deleted], vec![], Duration::ZERO).await.unwrap().is_empty());
    let stopped = idle(&store).await;
    let wish = NewWish {
        by: somebody(),
        session_id: stopped.clone(),
        state: WishedState::Terminated,
        idempotency: None,
        render: |_| String::new(),
    };
    store.wish(wish).await.unwrap();
    assert!(store.policy_due(10).await.unwrap().is_empty());
    assert!(store.enforce_policies(vec![stopped], vec![], Duration::ZERO).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_session_that_cannot_be_read_does_not_hold_up_the_limits_of_others() {
    let Some((_fixture, store)) = open().await else { return };
    register(&store, "a").await;
    let broken = idle(&store).await;
    tamper(&store, "UPDATE sessions SET phase = 'Melting'").await;
    assert!(store.enforce_policies(vec![broken], vec![], Duration::ZERO).await.unwrap().is_empty());
    assert!(store.policy_due(10).await.unwrap().is_empty(), "it is looked at again later");
    let other = idle(&store).await;
    let ended = store.enforce_policies(vec![other.clone()], vec![], Duration::ZERO).await.unwrap();
    assert_eq!(ended, [other]);
}

/// Sessions as they were stored when nothing was done about limits in time.
pub(in crate::store) const BEFORE_LIMITS: &str = "\
    INSERT INTO sessions (id, user_id, state, generation, phase, url, spec, spec_hash, created_at, updated_at) VALUES \
    ('a', 'u', 'running', 1, 'Running', '', '{\"idle_timeout\": \"30m\"}', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00'), \
    ('b', 'u', 'hibernated', 1, 'Hibernated', '', '{\"max_session_duration\": \"8h\"}', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00'), \
    ('c', 'u', 'running', 1, 'Running', '', '{\"idle_timeout\": \"\"}', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00'), \
    ('d', 'u', 'terminated', 1, 'Terminated', '', '{\"idle_timeout\": \"30m\"}', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00')";

/// That the time of those begins now, where it matters.
pub(in crate::store) async fn their_time_begins(store: &SqlStore, upgraded: DateTime<Utc>) {
    type Time = Option<DateTime<Utc>>;
    let rows: Vec<(Time, Time, Time)> =
        sqlx::query_as("SELECT running_since, started_at, policy_due_at FROM sessions ORDER BY id")
            .fetch_all(&store.readers)
            .await
            .unwrap();
    // To the minute: the clock of the database may be another one.
    let is_now = |time: Time| time.map(|time| (time - upgraded).num_seconds().abs() <= 60);
    let rows: Vec<_> = rows.into_iter().map(|(one, two, three)| [one, two, three].map(is_now)).collect();
    let (now, never) = (Some(true), None);
    assert_eq!(rows, [[now, now, now], [never, now, now], [now, now, never], [never; 3]]);
}
