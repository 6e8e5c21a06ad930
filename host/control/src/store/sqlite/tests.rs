//! What only SQLite does.

use std::time::Duration;

use sqlx::ConnectOptions as _;

use super::SqliteStore;
use super::sql::tests::{
    claim, due_queries, filters, new_session, open, register, running, stored, write_user,
};
use super::sql::{audit, events, policies, sessions};
use crate::domain::{EventCursor, Phase, Wish, WishedState, now, test_session};
use crate::store::{
    AuditFilter, EventQuery, EventScope, Outage, Position, Recorded, SessionFilter, Store as _, StoreError,
};

async fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain).fetch_all(&store.readers).await.unwrap();
    plan.into_iter().map(|(.., step)| step).collect()
}

#[tokio::test]
async fn lists_use_the_indices() {
    let Some((_fixture, store)) = open().await else { return };
    let after = Position { created_at: now(), id: "x".into() };
    for (filter, index) in filters() {
        let query = sessions::page_query(&filter, Some(&after), 10, 0);
        let plan = plan(&store, query.sql().as_str()).await;
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{index}: {plan:?}");
    }
}

#[tokio::test]
async fn of_two_filters_the_rarer_one_chooses_the_index() {
    let Some((_fixture, store)) = open().await else { return };
    let of_controller = SessionFilter { controller_id: Some("c".into()), ..SessionFilter::default() };
    for (filter, index) in [
        (SessionFilter { phase: Some(Phase::Failed), ..of_controller.clone() }, "idx_sessions_phase"),
        (SessionFilter { phase: Some(Phase::Running), ..of_controller.clone() }, "idx_sessions_controller"),
        (
            SessionFilter { state: Some(WishedState::Running), ..of_controller.clone() },
            "idx_sessions_controller",
        ),
        (
            SessionFilter { user_id: Some("u".into()), phase: Some(Phase::Failed), ..of_controller },
            "idx_sessions_user",
        ),
    ] {
        let plan = plan(&store, sessions::page_query(&filter, None, 10, 0).sql().as_str()).await;
        assert!(plan.iter().any(|step| step.contains(&format!("{index} "))), "{index}: {plan:?}");
    }
}

#[tokio::test]
async fn what_is_due_is_found_by_indexes() {
    let Some((_fixture, store)) = open().await else { return };
    for (sql, index) in due_queries() {
        let plan = plan(&store, sql).await;
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:?}");
        let slow = |step: &String| {
            step.contains("TEMP B-TREE")
                || (step.contains("SCAN o") && !step.contains("INDEX idx_operations"))
        };
        assert!(!plan.iter().any(slow), "{plan:?}");
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
        let plan = plan(&store, query.sql().as_str()).await;
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
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
        (all(), "INTEGER PRIMARY KEY"),
    ];
    let pages = filters
        .map(|(filter, index)| (audit::page_query(&filter, Some(7), 10).sql().as_str().to_owned(), index));
    for (sql, index) in pages.into_iter().chain([(policies::DUE.to_owned(), "idx_sessions_policy_due")]) {
        let plan = plan(&store, &sql).await;
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
    }
}

#[tokio::test]
async fn claims_of_an_earlier_process_are_void() {
    let Some((fixture, store)) = open().await else { return };
    let controller = register(&store, "a").await;
    stored(&store, new_session()).await;
    let before = store.claim_due(claim("old", &controller, Duration::from_secs(3600))).await.unwrap().work;
    store.close().await;
    let store = fixture.open().await.unwrap();
    let after = store.claim_due(claim("new", &controller, Duration::from_secs(60))).await.unwrap().work;
    assert_eq!(after.len(), 1);
    assert!(after[0].lease.epoch > before[0].lease.epoch, "epochs never start over");
    let late = store.record_step(&before[0].lease, running(&before[0])).await.unwrap();
    assert_eq!(late, Recorded::Stale);
}

#[tokio::test]
async fn a_full_disk_is_an_outage_and_passes() {
    let Some((_fixture, store)) = open().await else { return };
    write_user(&store, "before".into(), false).await.unwrap();
    let limit = |pages: &'static str| {
        store.writer.run("test", move |db| {
            Box::pin(async move {
                sqlx::query(pages).execute(db).await?;
                Ok(())
            })
        })
    };
    // SQLite takes it for a full disk; it never goes below what there is.
    limit("PRAGMA max_page_count = 1").await.unwrap();
    let mut refused = None;
    for n in 0..10_000 {
        if let Err(error) = write_user(&store, format!("u{n}"), false).await {
            refused = Some((n, error));
            break;
        }
    }
    let (n, error) = refused.unwrap();
    assert!(matches!(error, StoreError::Unavailable { outage: Outage::Full, .. }), "{error:?}");
    assert!(store.user(&format!("u{n}")).await.unwrap().is_none());
    limit("PRAGMA max_page_count = 1000000").await.unwrap();
    write_user(&store, format!("u{n}"), false).await.unwrap();
    assert!(store.user("before").await.unwrap().is_some());
}

#[tokio::test]
async fn a_database_that_somebody_else_has_locked_is_an_outage_and_passes() {
    let Some((fixture, store)) = open().await else { return };
    let mut holder = super::options(&fixture.path()).connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut holder).await.unwrap();
    let error = write_user(&store, "u".into(), false).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { outage: Outage::Busy, .. }), "{error:?}");
    sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();
    write_user(&store, "u".into(), false).await.unwrap();
}

#[tokio::test]
async fn the_schema_is_as_it_is_kept() {
    let Some((fixture, _store)) = open().await else { return };
    let mut db = super::options(&fixture.path()).connect().await.unwrap();
    let columns: Vec<(String, String, String, bool, Option<String>)> = sqlx::query_as(
        "SELECT t.name, c.name, c.type, c.\"notnull\", c.dflt_value FROM sqlite_master t \
         JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' \
         AND t.name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    let mut lines: Vec<String> = columns
        .into_iter()
        .map(|(table, column, kind, not_null, default)| {
            let not_null = if not_null { " not null" } else { "" };
            let default = default.map(|value| format!(" default {value}")).unwrap_or_default();
            format!("{table}.{column} {kind}{not_null}{default}\n")
        })
        .collect();
    let indexes: Vec<(String, String)> =
        sqlx::query_as("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
            .fetch_all(&mut db)
            .await
            .unwrap();
    lines.extend(
        indexes.into_iter().map(|(name, sql)| format!("index {name} {}\n", sql.replace("CREATE ", ""))),
    );
    lines.sort();
    let schema = lines.concat();
    crate::store::schema::compare("sqlite", &schema);
    crate::store::schema::has_what_was_designed(&schema);
}
