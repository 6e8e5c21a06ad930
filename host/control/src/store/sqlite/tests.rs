//! What only SQLite does.

use std::time::Duration;

use super::sql::tests::{claim, new_session, open, register, running, stored};
use super::sql::{events, sessions};
use crate::domain::{EventCursor, Phase, Wish, WishedState, now, test_session};
use crate::store::{EventQuery, EventScope, Position, Recorded, SessionFilter, Store as _};

#[tokio::test]
async fn lists_use_the_indices() {
    let Some((_fixture, store)) = open().await else { return };
    let after = Position { created_at: now(), id: "x".into() };
    let all = SessionFilter::default();
    for (filter, index) in [
        (SessionFilter { user_id: Some("u".into()), ..all.clone() }, "idx_sessions_user"),
        (SessionFilter { controller_id: Some("c".into()), ..all.clone() }, "idx_sessions_controller"),
        (all, "idx_sessions_created"),
    ] {
        let query = sessions::page_query(&filter, Some(&after), 10, 0);
        let explain = format!("EXPLAIN QUERY PLAN {}", query.sql().as_str());
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(explain)).fetch_all(&store.readers).await.unwrap();
        let plan: Vec<_> = plan.into_iter().map(|(.., step)| step).collect();
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:?}");
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
        (all, "INTEGER PRIMARY KEY"),
    ] {
        let query = EventQuery { scope, after: EventCursor::from_db(7), limit: 10 };
        let query = events::page_query(&query, EventCursor::from_db(99));
        let explain = format!("EXPLAIN QUERY PLAN {}", query.sql().as_str());
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(explain)).fetch_all(&store.readers).await.unwrap();
        let plan: Vec<_> = plan.into_iter().map(|(.., step)| step).collect();
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
    }
}

#[tokio::test]
async fn claims_of_an_earlier_process_are_void() {
    let Some((fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    stored(&store, new_session()).await;
    let before = store.claim_due(claim("old", &controller, Duration::from_secs(3600))).await.unwrap();
    store.close().await;
    let store = fixture.open().await.unwrap();
    let after = store.claim_due(claim("new", &controller, Duration::from_secs(60))).await.unwrap();
    assert_eq!(after.len(), 1);
    assert!(after[0].lease.epoch > before[0].lease.epoch, "epochs never start over");
    let late = store.record_step(&before[0].lease, running(&before[0])).await.unwrap();
    assert_eq!(late, Recorded::Stale);
}
