//! Counts, by queries that group.

use chrono::{DateTime, Utc};

use super::Connection;
use crate::domain::now;
use crate::store::{Census, StoreError};

pub(super) async fn take(db: &mut Connection) -> Result<Census, StoreError> {
    let counter = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let sessions: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT phase, CASE WHEN deleting THEN 'deleted' ELSE state END AS wish, count(*) FROM sessions \
         GROUP BY phase, wish",
    )
    .fetch_all(&mut *db)
    .await?;
    let drift: Vec<(String, i64)> =
        sqlx::query_as("SELECT state, count(*) FROM drift GROUP BY state").fetch_all(&mut *db).await?;
    let alarms: i64 = sqlx::query_scalar("SELECT count(*) FROM drift_alarms").fetch_one(&mut *db).await?;
    let unsettled: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM operations WHERE next_attempt_at IS NOT NULL AND lease_owner IS NULL) \
         + (SELECT count(*) FROM operations WHERE lease_owner IS NOT NULL)",
    )
    .fetch_one(&mut *db)
    .await?;
    let at = now();
    let (due, oldest): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
        "SELECT count(*), min(next_attempt_at) FROM operations WHERE next_attempt_at IS NOT NULL \
         AND next_attempt_at <= $1 AND lease_owner IS NULL",
    )
    .bind(at)
    .fetch_one(db)
    .await?;
    let oldest_due_seconds =
        oldest.and_then(|oldest| (at - oldest).to_std().ok()).unwrap_or_default().as_secs_f64();
    Ok(Census {
        sessions: sessions.into_iter().map(|(phase, wish, count)| (phase, wish, counter(count))).collect(),
        drift: drift.into_iter().map(|(state, count)| (state, counter(count))).collect(),
        drift_alarms: counter(alarms),
        operations_unsettled: counter(unsettled),
        operations_due: counter(due),
        oldest_due_seconds,
    })
}
