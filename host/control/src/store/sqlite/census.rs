//! Counts, by queries that group.

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use crate::domain::now;
use crate::store::{Census, StoreError};

pub(super) async fn take(db: &mut SqliteConnection) -> Result<Census, StoreError> {
    let sessions = sqlx::query_as(
        "SELECT phase, CASE WHEN deleting THEN 'deleted' ELSE state END AS wish, count(*) FROM sessions \
         GROUP BY phase, wish",
    )
    .fetch_all(&mut *db)
    .await?;
    let operations_unsettled =
        sqlx::query_scalar("SELECT count(*) FROM operations WHERE next_attempt_at IS NOT NULL")
            .fetch_one(&mut *db)
            .await?;
    let at = now();
    let (operations_due, oldest): (u32, Option<DateTime<Utc>>) = sqlx::query_as(
        "SELECT count(*), min(next_attempt_at) FROM operations WHERE next_attempt_at IS NOT NULL \
         AND next_attempt_at <= $1 AND lease_owner IS NULL",
    )
    .bind(at)
    .fetch_one(db)
    .await?;
    let oldest_due_seconds =
        oldest.and_then(|oldest| (at - oldest).to_std().ok()).unwrap_or_default().as_secs_f64();
    Ok(Census { sessions, operations_unsettled, operations_due, oldest_due_seconds })
}
