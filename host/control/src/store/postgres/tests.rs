//! What only PostgreSQL does.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::{Instant, sleep, timeout};

use super::PostgresStore;
use super::fixture::Fixture;
use super::sql::tests::{
    BEFORE_LIMITS, claim, due_queries, filters, new_session, next_due, open, register, running, stored,
    their_time_begins, write_user,
};
use super::sql::{audit, events, policies, sessions};
use crate::domain::{EventCursor, Phase, Wish, WishedState, now, test_session};
use crate::store::{
    AuditFilter, EventQuery, EventScope, Outage, Position, Recorded, SessionFilter, Store as _, StoreError,
    lease_owner, migrations,
};

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The plan of a statement, whatever its parameters are.
async fn plan(store: &PostgresStore, sql: &str) -> String {
    let parameters = sql.matches('$').count();
    let none = match parameters {
        0 => String::new(),
        _ => format!("({})", vec!["NULL"; parameters].join(", ")),
    };
    let mut db = store.readers.acquire().await.unwrap();
    // With empty tables the planner would rather read all of them.
    let statements = format!(
        "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan; \
         PREPARE asked AS {sql}; EXPLAIN EXECUTE asked{none}"
    );
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).fetch_all(&mut *db).await.unwrap();
    sqlx::raw_sql("DEALLOCATE asked").execute(&mut *db).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

#[tokio::test]
async fn lists_use_the_indices() {
    let Some((_fixture, store)) = open().await else { return };
    let after = Position { created_at: now(), id: "x".into() };
    for (filter, index) in filters() {
        let query = sessions::page_query(&filter, Some(&after), 10, 0);
        let plan = plan(&store, query.sql().as_str()).await;
        assert!(plan.contains(index) && !plan.contains("Sort"), "{index}: {plan}");
    }
}

#[tokio::test]
async fn what_is_due_is_found_by_indexes() {
    let Some((_fixture, store)) = open().await else { return };
    for (sql, index) in due_queries() {
        let plan = plan(&store, sql).await;
        assert!(plan.contains(index), "{index}: {plan}");
        assert!(!plan.contains("Sort") && !plan.contains("Seq Scan"), "{plan}");
    }
}

#[tokio::test]
async fn pages_of_events_use_indexes() {
    let Some((_fixture, store)) = open().await else { return };
    let all = EventScope::default();
    let id = test_session(Wish::State(WishedState::Running), false, Phase::Pending).id;
    for (scope, index) in [
        (EventScope { user_id: Some("u".into()), ..all.clone() }, "idx_events_user"),
        (EventScope { sessions: vec![id], ..all.clone() }, "idx_events_session"),
        (all, "events_pkey"),
    ] {
        let query = EventQuery { scope, after: EventCursor::from_db(7), limit: 10 };
        let query = events::page_query(&query, EventCursor::from_db(99));
        let plan = plan(&store, query.sql().as_str()).await;
        assert!(plan.contains(index) && !plan.contains("Sort"), "{index}: {plan}");
    }
}

#[tokio::test]
async fn policies_and_the_audit_log_use_indexes() {
    let Some((_fixture, store)) = open().await else { return };
    let all = AuditFilter::default;
    let filters = [
        (AuditFilter { actor: Some("u".into()), ..all() }, "idx_audit_actor"),
        (AuditFilter { action: Some("a".into()), ..all() }, "idx_audit_action"),
        (AuditFilter { target: Some("t".into()), ..all() }, "idx_audit_target"),
        (all(), "audit_pkey"),
    ];
    let pages = filters
        .map(|(filter, index)| (audit::page_query(&filter, Some(7), 10).sql().as_str().to_owned(), index));
    for (sql, index) in pages.into_iter().chain([(policies::DUE.to_owned(), "idx_sessions_policy_due")]) {
        let plan = plan(&store, &sql).await;
        assert!(plan.contains(index) && !plan.contains("Sort"), "{index}: {plan}");
    }
}

#[tokio::test]
async fn what_runs_at_an_upgrade_has_all_of_its_time() {
    let Some(fixture) = Fixture::fresh().await else { return };
    let mut db = fixture.options().connect().await.unwrap();
    migrations::migrate_postgres_until(&mut db, 7).await.unwrap();
    sqlx::raw_sql(BEFORE_LIMITS).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let store = fixture.open().await.unwrap();
    their_time_begins(&store, now()).await;
}

#[tokio::test]
async fn two_servers_keep_a_limit_once_between_them() {
    let Some((fixture, one)) = open().await else { return };
    let other = fixture.open().await.unwrap();
    register(&one, "a").await;
    let mut new = new_session();
    new.session.spec.idle_timeout = crate::domain::GoDuration::parse("1ms").ok();
    let id = stored(&one, new).await.session.id;
    let controller = one.controllers().await.unwrap()[0].id.clone();
    let work = one.claim_due(claim("me", &controller, Duration::from_secs(60))).await.unwrap().work;
    one.record_step(&work[0].lease, running(&work[0])).await.unwrap();
    sleep(Duration::from_millis(5)).await;
    let looks = (0..10).map(|n| {
        let store = if n % 2 == 0 { &one } else { &other };
        store.enforce_policies(vec![id.clone()], vec![], Duration::ZERO)
    });
    let ended: Vec<_> = futures::future::join_all(looks).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(ended, std::slice::from_ref(&id));
    assert_eq!(one.session(&id).await.unwrap().unwrap().session.generation.get(), 2);
}

#[tokio::test]
async fn several_servers_may_start_at_once() {
    let Some(fixture) = Fixture::fresh().await else { return };
    let stores = futures::future::join_all((0..4).map(|_| fixture.open())).await;
    for store in stores {
        store.unwrap().close().await;
    }
}

#[tokio::test]
async fn what_one_server_stores_the_other_hears_in_order() {
    let Some((fixture, one)) = open().await else { return };
    let other = fixture.open().await.unwrap();
    register(&one, "a").await;
    let mut news = other.latest_event();
    let writing = async {
        let half = |store| async move {
            for _ in 0..30 {
                stored(store, new_session()).await;
            }
        };
        tokio::join!(half(&one), half(&other), half(&one), half(&other));
        let mut last = new_session();
        last.session.user_id = "last".into();
        stored(&one, last).await;
    };
    let reading = async {
        let (mut seen, mut after, mut ended) = (Vec::new(), EventCursor::START, false);
        loop {
            news.mark_unchanged();
            loop {
                let query = EventQuery { scope: EventScope::default(), after, limit: 7 };
                let page = other.events(&query).await.unwrap();
                assert!(!page.lost);
                seen.extend(page.events.iter().map(|event| event.cursor));
                ended |= page.events.iter().any(|event| event.user_id.as_deref() == Some("last"));
                after = page.events.last().map_or(page.upto, |last| last.cursor);
                if page.events.len() < 7 {
                    break;
                }
            }
            if ended {
                return seen;
            }
            news.changed().await.unwrap();
        }
    };
    let ((), seen) = timeout(PATIENCE, futures::future::join(writing, reading)).await.unwrap();
    // Whoever went on from an id has missed nothing that was committed before it.
    let query = EventQuery { scope: EventScope::default(), after: EventCursor::START, limit: 1000 };
    let all: Vec<_> = one.events(&query).await.unwrap().events.iter().map(|event| event.cursor).collect();
    assert!(seen == all, "{} of {}", seen.len(), all.len());
    assert!(seen.is_sorted() && seen.iter().collect::<BTreeSet<_>>().len() == seen.len());
}

#[tokio::test]
async fn news_come_without_a_word_too() {
    let Some((fixture, one)) = open().await else { return };
    register(&one, "a").await;
    let mut news = one.latest_event();
    let before = *news.borrow_and_update();
    // Somebody who does not notify.
    let mut db = fixture.options().connect().await.unwrap();
    sqlx::query("INSERT INTO events (at, type) VALUES (now(), 'test')").execute(&mut db).await.unwrap();
    timeout(PATIENCE, news.changed()).await.unwrap().unwrap();
    assert!(*news.borrow_and_update() > before);
}

#[tokio::test]
async fn a_claim_holds_against_other_servers_until_it_runs_out() {
    let Some((fixture, one)) = open().await else { return };
    let other = fixture.open().await.unwrap();
    for name in ["one", "other", "third"] {
        one.enter(name, PATIENCE).await.unwrap();
    }
    let controller = register(&one, "a").await;
    stored(&one, new_session()).await;
    let lease = Duration::from_secs(2);
    let begun = Instant::now();
    let first = one.claim_due(claim("one", &controller, lease)).await.unwrap().work.pop().unwrap();
    let second = loop {
        let claimed = other.claim_due(claim("other", &controller, PATIENCE)).await.unwrap().work.pop();
        if let Some(claimed) = claimed {
            break claimed;
        }
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    };
    assert!(begun.elapsed() >= lease);
    assert!(second.lease.epoch > first.lease.epoch);
    assert_eq!(one.record_step(&first.lease, running(&first)).await.unwrap(), Recorded::Stale);
    assert_eq!(other.record_step(&second.lease, running(&second)).await.unwrap(), Recorded::Stored);

    // A server that starts takes nothing away from those that are there.
    stored(&one, new_session()).await;
    let held = one.claim_due(claim("one", &controller, PATIENCE)).await.unwrap().work.pop().unwrap();
    let third = fixture.open().await.unwrap();
    assert!(third.claim_due(claim("third", &controller, PATIENCE)).await.unwrap().work.is_empty());
    assert_eq!(one.record_step(&held.lease, running(&held)).await.unwrap(), Recorded::Stored);
}

#[tokio::test]
async fn claims_of_an_earlier_process_of_an_instance_are_void_and_no_others() {
    let Some((fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    let (mine, other) = (lease_owner("me"), lease_owner("me-too"));
    let mut claimed = Vec::new();
    for owner in [&mine, &other] {
        store.enter(owner, PATIENCE).await.unwrap();
        stored(&store, new_session()).await;
        claimed.extend(store.claim_due(claim(owner, &controller, PATIENCE)).await.unwrap().work);
    }
    let next = fixture.open_as("me").await.unwrap();
    let me_again = lease_owner("me");
    next.enter(&me_again, PATIENCE).await.unwrap();
    let again = next.claim_due(claim(&me_again, &controller, PATIENCE)).await.unwrap().work;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].session.id, claimed[0].session.id);
    assert!(again[0].lease.epoch > claimed[0].lease.epoch);
    let late = store.record_step(&claimed[0].lease, running(&claimed[0])).await.unwrap();
    assert_eq!(late, Recorded::Stale);
    let held = store.record_step(&claimed[1].lease, running(&claimed[1])).await.unwrap();
    assert_eq!(held, Recorded::Stored);
}

#[tokio::test]
async fn claims_go_by_the_time_of_the_database() {
    let Some((fixture, before)) = open().await else { return };
    let controller = register(&before, "a").await;
    // From the next connection on the database's clock is two hours ahead of this process's.
    let mut db = fixture.options().connect().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "CREATE SCHEMA ahead; \
         CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql \
         AS $$ SELECT pg_catalog.clock_timestamp() + interval '2 hours' $$; \
         ALTER DATABASE {} SET search_path = public, ahead, pg_catalog",
        fixture.name()
    )))
    .execute(&mut db)
    .await
    .unwrap();
    let ahead = fixture.open().await.unwrap();
    let near = |time, expected| {
        let off: chrono::Duration = time - expected;
        off.abs() < chrono::Duration::minutes(5)
    };
    let two_hours = chrono::Duration::hours(2);
    assert!(near(ahead.present().await.unwrap(), now() + two_hours));

    for name in ["me", "other"] {
        ahead.enter(name, PATIENCE).await.unwrap();
    }
    let id = stored(&ahead, new_session()).await.session.id;
    let due = next_due(&ahead).await.unwrap();
    assert!(near(due, now()), "when to look is said by the clock of who looks: {due}");
    let claimed = ahead.claim_due(claim("me", &controller, PATIENCE)).await.unwrap().work;
    assert_eq!(claimed.len(), 1);
    let until = sqlx::query_scalar("SELECT lease_expires_at FROM operations WHERE session_id = $1")
        .bind(id.as_str())
        .fetch_one(&mut db)
        .await
        .unwrap();
    assert!(near(until, now() + two_hours), "{until}");
    let due = next_due(&ahead).await.unwrap();
    assert!(near(due, now()));
    assert!(ahead.claim_due(claim("other", &controller, PATIENCE)).await.unwrap().work.is_empty());
}

#[tokio::test]
async fn a_place_ends_with_its_lease_and_not_before() {
    let Some((fixture, one)) = open().await else { return };
    let other = fixture.open().await.unwrap();
    let controller = register(&one, "a").await;
    let (lease, long) = (Duration::from_secs(4), Duration::from_secs(3600));
    one.enter("one", lease).await.unwrap();
    other.enter("other", long).await.unwrap();
    one.take_over_controller("one", &controller).await.unwrap().unwrap();
    stored(&one, new_session()).await;
    let claimed = one.claim_due(claim("one", &controller, long)).await.unwrap().work.pop().unwrap();

    // As long as it is renewed, however long others hold the line of writers.
    let held = other.writer.run("test", |db| {
        Box::pin(async move {
            // Busy: one that only rests within a transaction is cut off.
            sqlx::query("SELECT pg_sleep(6)").execute(db).await?;
            Ok(())
        })
    });
    tokio::pin!(held);
    loop {
        tokio::select! {
            held = &mut held => break held.unwrap(),
            () = sleep(Duration::from_millis(100)) => {}
        }
        // That it did not come about in time is no word against it.
        assert!(!matches!(one.renew_place("one", lease).await, Ok(false)));
    }
    let outlook = other.outlook("other", std::slice::from_ref(&controller)).await.unwrap();
    assert!(!outlook.vacant && outlook.next_end.is_some_and(|end| end <= lease), "{outlook:?}");
    assert_eq!(other.take_over("other", vec![controller.clone()]).await.unwrap(), Default::default());

    sleep(lease).await;
    assert!(!one.renew_place("one", lease).await.unwrap(), "it is over, though nobody has seen that yet");
    let taken = other.take_over("other", vec![controller.clone()]).await.unwrap();
    assert_eq!(taken.ended, ["one"]);
    assert_eq!(taken.taken.len(), 1);
    assert!(!one.renew_place("one", long).await.unwrap());
    assert!(one.claim_due(claim("one", &controller, long)).await.unwrap().work.is_empty());
    assert_eq!(one.take_over("one", vec![controller.clone()]).await.unwrap(), Default::default());
    // Long before the claim itself would have run out.
    let next = other.claim_due(claim("other", &controller, long)).await.unwrap().work.pop().unwrap();
    assert!(next.lease.epoch > claimed.lease.epoch);
    assert_eq!(one.record_step(&claimed.lease, running(&claimed)).await.unwrap(), Recorded::Stale);
}

async fn cut_all(fixture: &Fixture) {
    let mut db = fixture.options().connect().await.unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .execute(&mut db)
    .await
    .unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_cut_at_rest_is_replaced_unnoticed() {
    let Some((fixture, store)) = open().await else { return };
    let mut news = store.latest_event();
    for round in 0..3 {
        cut_all(&fixture).await;
        write_user(&store, format!("u{round}"), false).await.unwrap();
        assert!(store.user(&format!("u{round}")).await.unwrap().is_some());
    }
    // The listener listens again.
    let other = fixture.open().await.unwrap();
    register(&other, "a").await;
    stored(&other, new_session()).await;
    timeout(PATIENCE, news.changed()).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing_that_was_acknowledged() {
    let Some((fixture, store)) = open().await else { return };
    let cutting = async {
        for _ in 0..10 {
            sleep(Duration::from_millis(60)).await;
            cut_all(&fixture).await;
        }
    };
    let store = &store;
    let writing = (0..16).map(|writer| async move {
        let mut outcomes = Vec::new();
        for n in 0..60 {
            let id = format!("u{writer}-{n}");
            outcomes.push((id.clone(), write_user(store, id, false).await));
            sleep(Duration::from_millis(5)).await;
        }
        outcomes
    });
    let (outcomes, ()) = tokio::join!(futures::future::join_all(writing), cutting);
    let mut failed = 0;
    for (id, outcome) in outcomes.into_iter().flatten() {
        let there = store.user(&id).await.unwrap().is_some();
        match outcome {
            Ok(()) => assert!(there, "{id} was acknowledged"),
            Err(StoreError::Unavailable { outage: Outage::Uncertain, .. }) => failed += 1,
            Err(StoreError::Unavailable { outage, .. }) => {
                assert!(!there, "{id}: {outage:?} says that nothing was changed");
                failed += 1;
            }
            Err(other) => panic!("{id}: {other}"),
        }
    }
    assert!(failed > 0, "nothing was cut");
    write_user(store, "after".into(), false).await.unwrap();
}

/// A process that is stopped in the middle of a transaction is cut off, and stores nothing when it goes on.
#[tokio::test]
async fn a_writer_that_stands_still_does_not_stop_the_others() {
    let Some((fixture, one)) = open().await else { return };
    let other = fixture.open().await.unwrap();
    let still = one.writer.run("test", |db| {
        Box::pin(async move {
            sqlx::query(
                "INSERT INTO users (id, username, created_at, updated_at) VALUES ('x', 'x', now(), now())",
            )
            .execute(&mut *db)
            .await?;
            sleep(Duration::from_secs(8)).await;
            Ok(())
        })
    });
    let others = async {
        sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        write_user(&other, "o".into(), false).await.unwrap();
        begun.elapsed()
    };
    let (still, waited) = tokio::join!(still, others);
    assert!(waited < Duration::from_secs(7), "{waited:?}");
    assert!(matches!(still, Err(StoreError::Unavailable { .. })), "{still:?}");
    assert!(one.user("x").await.unwrap().is_none());
    write_user(&one, "again".into(), false).await.unwrap();
}

/// Somebody who holds the lock and is not idle cannot be cut off; who waits for it is told.
#[tokio::test]
async fn a_lock_that_is_held_too_long_is_an_outage() {
    let Some((fixture, store)) = open().await else { return };
    let mut holder = fixture.options().connect().await.unwrap();
    super::dialect::begin(&mut holder).await.unwrap();
    let refused = write_user(&store, "u".into(), false).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { outage: Outage::Busy, .. })), "{refused:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    write_user(&store, "u".into(), false).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_and_one_that_refuses_is_not() {
    let Some(fixture) = Fixture::fresh().await else { return };
    let begun = Instant::now();
    let nobody = fixture.options().host("127.0.0.1").port(1);
    let error = PostgresStore::open(nobody, Duration::from_secs(1), "me").await.err().unwrap();
    assert!(matches!(error, StoreError::Unavailable { outage: Outage::Unreachable, .. }), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(500));

    let begun = Instant::now();
    let missing = fixture.options().database("ss_test_there_is_none");
    let error = PostgresStore::open(missing, PATIENCE, "me").await.err().unwrap();
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(begun.elapsed() < PATIENCE / 2);
}

/// Tables, columns and indexes, one a line.
async fn schema(fixture: &Fixture) -> String {
    let mut db = fixture.options().connect().await.unwrap();
    let mut lines: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s.%s %s%s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), \
            CASE WHEN o.collname = 'C' THEN ' collate C' END, CASE WHEN a.attnotnull THEN ' not null' END, \
            CASE WHEN a.attidentity <> '' THEN ' identity' END, ' default ' || pg_get_expr(d.adbin, d.adrelid)) \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
         LEFT JOIN pg_collation o ON o.oid = a.attcollation \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> '_sqlx_migrations' \
         UNION ALL \
         SELECT format('index %s on %s', c.relname, replace(pg_get_indexdef(c.oid), 'CREATE ', '')) \
         FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_class t ON t.oid = i.indrelid \
         WHERE c.relnamespace = 'public'::regnamespace AND t.relname <> '_sqlx_migrations' \
         UNION ALL \
         SELECT format('constraint %s on %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) \
         FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('f', 'c')",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    lines.sort();
    lines.iter().map(|line| line.clone() + "\n").collect()
}

#[tokio::test]
async fn the_schema_is_as_it_is_kept() {
    let Some((fixture, _store)) = open().await else { return };
    let schema = schema(&fixture).await;
    crate::store::schema::compare("postgres", &schema);
    crate::store::schema::has_what_was_designed(&schema);
}

#[tokio::test]
async fn a_database_of_the_earlier_implementation_is_taken_over() {
    let Some(fixture) = Fixture::fresh().await else { return };
    let mut db = fixture.options().connect().await.unwrap();
    sqlx::raw_sql(include_str!("earlier.sql")).execute(&mut db).await.unwrap();
    let all = |sql: &'static str| {
        let options = fixture.options();
        async move {
            let mut db = options.connect().await.unwrap();
            let rows = sqlx::query_scalar::<_, serde_json::Value>(sql).fetch_all(&mut db).await.unwrap();
            rows.into_iter().map(|row| row.to_string()).collect::<Vec<_>>()
        }
    };
    let sessions_before = all("SELECT to_jsonb(s) FROM sessions s ORDER BY id").await;
    let first = super::migrate(fixture.options(), Duration::ZERO).await.unwrap();
    assert_eq!(first.from, None);
    let users = all("SELECT to_jsonb(u) FROM users u ORDER BY id").await;
    let second = super::migrate(fixture.options(), Duration::ZERO).await.unwrap();
    assert_eq!((second.from, second.to), (Some(first.to), first.to));
    assert_eq!(all("SELECT to_jsonb(u) FROM users u ORDER BY id").await, users);

    // The sessions are set aside, untouched, and what refers to them still does.
    assert_eq!(all("SELECT to_jsonb(s) FROM earlier_sessions s ORDER BY id").await, sessions_before);
    assert_eq!(
        all("SELECT to_jsonb(c) FROM connections c JOIN earlier_sessions s ON s.id = c.session_id")
            .await
            .len(),
        1
    );
    assert_eq!(all("SELECT to_jsonb(q) FROM user_quotas q JOIN users u ON u.id = q.user_id").await.len(), 2);
    // Every table of ours is as it is on a fresh database, but for columns of the earlier users.
    let kept = include_str!("../../../../../migrations/postgres/schema.txt");
    let found = schema(&fixture).await;
    let missing: Vec<_> = kept.lines().filter(|line| !found.lines().any(|found| found == *line)).collect();
    assert!(missing.is_empty(), "{missing:#?}\n{found}");

    let store = fixture.open().await.unwrap();
    let ids: Vec<_> = store.users(None, 10).await.unwrap().into_iter().map(|user| user.id).collect();
    assert_eq!(ids, ["8a0c1e9e-5b0c-4b5c-9f43-1d1f2c3b4a50", "admin", "nobody"]);
    let person = store.user("8a0c1e9e-5b0c-4b5c-9f43-1d1f2c3b4a50").await.unwrap().unwrap();
    assert_eq!((person.username.as_str(), person.email.as_deref()), ("carol", Some("carol@example.org")));
    assert_eq!(person.created_at.to_rfc3339(), "2025-11-18T10:00:00+00:00");
    let nobody = store.user("nobody").await.unwrap().unwrap();
    assert!(!nobody.active && nobody.email.is_none() && nobody.full_name.is_empty());

    assert!(store.sessions(&SessionFilter::default(), None, 10).await.unwrap().is_empty());
    store.replace_admin_token("admin.token", "hash").await.unwrap();
    assert_eq!(store.token_owner("hash").await.unwrap().unwrap().user_id, "admin");
    register(&store, "a").await;
    stored(&store, new_session()).await;
}

#[tokio::test]
async fn the_administrator_comes_beside_somebody_of_that_name() {
    let Some((_fixture, store)) = open().await else { return };
    write_user(&store, "boss".into(), false).await.unwrap();
    let rename = store.writer.run("test", |db| {
        Box::pin(async move {
            sqlx::query("UPDATE users SET username = 'admin' WHERE id = 'boss'").execute(db).await?;
            Ok(())
        })
    });
    rename.await.unwrap();
    for hash in ["one", "two"] {
        store.replace_admin_token("admin.token", hash).await.unwrap();
        assert_eq!(store.token_owner(hash).await.unwrap().unwrap().user_id, "admin");
    }
}

#[tokio::test]
async fn a_text_that_cannot_be_stored_is_no_fault_of_the_database() {
    let Some((_fixture, store)) = open().await else { return };
    let refused = write_user(&store, "a\0b".into(), false).await;
    assert!(matches!(refused, Err(StoreError::NulCharacter)), "{refused:?}");
    assert!(matches!(store.user("a\0b").await, Err(StoreError::NulCharacter)));
    write_user(&store, "ab".into(), false).await.unwrap();
}

#[tokio::test]
async fn who_only_serves_needs_no_right_to_change_the_schema() {
    let Some(fixture) = Fixture::fresh().await else { return };
    super::migrate(fixture.options(), Duration::ZERO).await.unwrap();
    let mut db = fixture.options().connect().await.unwrap();
    let role = fixture.name();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'secret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    )))
    .execute(&mut db)
    .await
    .unwrap();
    let options = fixture.options().username(role).password("secret");
    let store = PostgresStore::open(options, Duration::ZERO, "me").await.unwrap();
    register(&store, "a").await;
    stored(&store, new_session()).await;
    store.close().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}")))
        .execute(&mut db)
        .await
        .unwrap();
}
