//! The audit log: written in the transaction of the change, read page by page, and swept.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{QueryBuilder, Row as _};

use super::{Connection, Database, Row, dialect};
use crate::domain::{Actor, AuditEntry, ControllerId, Deed};
use crate::store::{AuditFilter, StoreError};

/// Entries removed in one transaction: nobody else can write meanwhile.
const SWEPT_AT_ONCE: i64 = 2000;

/// Says who did what. To be called in the transaction that does it: the log has it exactly if it is so.
pub(super) async fn record(
    db: &mut Connection,
    at: DateTime<Utc>,
    by: &Actor,
    deed: Deed,
) -> Result<(), StoreError> {
    let (kind, actor, role, token, request) = match by {
        Actor::User { user_id, role, token_id, token_name, request_id } => {
            ("user", user_id.as_str(), Some(role.as_str()), Some((token_id, token_name)), request_id.as_ref())
        }
        Actor::Controller { id, join_token, request_id } => (
            "controller",
            id.as_ref().map_or("unknown", ControllerId::as_str),
            None,
            join_token.as_ref().map(|(id, name)| (id, name)),
            request_id.as_ref(),
        ),
        Actor::System(rule) => ("system", rule.as_str(), None, None, None),
    };
    sqlx::query(
        "INSERT INTO audit (at, actor_kind, actor, role, token_id, token_name, request_id, action, \
         target_kind, target, details) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(at)
    .bind(kind)
    .bind(actor)
    .bind(role)
    .bind(token.map(|(id, _)| id))
    .bind(token.map(|(_, name)| name))
    .bind(request)
    .bind(deed.action.as_str())
    .bind(deed.target.kind)
    .bind(deed.target.id)
    .bind(Json(deed.details))
    .execute(db)
    .await?;
    Ok(())
}

/// The same for many, where there is no other change in the database.
pub(super) async fn record_all(db: &mut Connection, by: Actor, deeds: Vec<Deed>) -> Result<(), StoreError> {
    let at = dialect::present(db).await?;
    for deed in deeds {
        record(db, at, &by, deed).await?;
    }
    Ok(())
}

/// A page of the log, newest first.
pub(super) async fn page(
    db: &mut Connection,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditEntry>, StoreError> {
    let rows = page_query(filter, before, limit).build().fetch_all(db).await?;
    rows.iter().map(entry).collect()
}

pub(in crate::store) fn page_query(
    filter: &AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> QueryBuilder<Database> {
    let mut query = QueryBuilder::new("SELECT * FROM audit WHERE TRUE");
    for (column, value) in [("actor", &filter.actor), ("action", &filter.action), ("target", &filter.target)]
    {
        if let Some(value) = value {
            query.push(" AND ").push(column).push(" = ").push_bind(value.clone());
        }
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(since);
    }
    if let Some(until) = filter.until {
        query.push(" AND at < ").push_bind(until);
    }
    if let Some(before) = before {
        query.push(" AND id < ").push_bind(before);
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    query
}

fn entry(row: &Row) -> Result<AuditEntry, StoreError> {
    let Json(details): Json<Value> = row.try_get("details")?;
    Ok(AuditEntry {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        actor_kind: row.try_get("actor_kind")?,
        actor: row.try_get("actor")?,
        role: row.try_get("role")?,
        token_id: row.try_get("token_id")?,
        token_name: row.try_get("token_name")?,
        request_id: row.try_get("request_id")?,
        action: row.try_get("action")?,
        target_kind: row.try_get("target_kind")?,
        target: row.try_get("target")?,
        details,
    })
}

/// Removes some of what is too old; whether there may be more.
pub(super) async fn sweep(db: &mut Connection, keep: Duration) -> Result<bool, StoreError> {
    let keep = chrono::Duration::from_std(keep).unwrap_or(chrono::Duration::MAX);
    // So long that it reaches behind the beginning of time: nothing is too old.
    let Some(before) = dialect::present(db).await?.checked_sub_signed(keep) else { return Ok(false) };
    let done = sqlx::query(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)",
    )
    .bind(before)
    .bind(SWEPT_AT_ONCE)
    .execute(db)
    .await?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX) >= SWEPT_AT_ONCE)
}
