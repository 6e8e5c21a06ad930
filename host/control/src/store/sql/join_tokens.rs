//! Join tokens.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{QueryBuilder, Row as _};

use super::{Connection, Database, Row, audit, dialect};
use crate::domain::{Action, Actor, Deed, JoinToken, Rule};
use crate::store::{JoinTokenCreated, Position, StoreError};

/// Rows that one transaction removes: the whole server waits for it.
const SWEPT_AT_ONCE: i64 = 1000;

/// The target of a deed.
const KIND: &str = "join-token";

/// All of them, newest first.
pub(super) async fn list(
    db: &mut Connection,
    after: Option<&Position>,
    limit: u32,
) -> Result<Vec<JoinToken>, StoreError> {
    let mut query = QueryBuilder::<Database>::new("SELECT * FROM join_tokens WHERE TRUE");
    if let Some(Position { created_at, id }) = after {
        query.push(" AND (created_at, id) < (").push_bind(*created_at);
        query.push(", ").push_bind(id.clone()).push(")");
    }
    query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(db).await?.iter().map(read).collect()
}

pub(super) async fn create(
    db: &mut Connection,
    by: Actor,
    token: JoinToken,
    token_hash: String,
    most: u32,
) -> Result<JoinTokenCreated, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM join_tokens").fetch_one(&mut *db).await?;
    if count >= i64::from(most) {
        return Ok(JoinTokenCreated::TooMany);
    }
    sqlx::query(
        "INSERT INTO join_tokens (id, token_hash, name, controller_type, controller_name, created_by, created_at, \
         expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&token.id)
    .bind(token_hash)
    .bind(&token.name)
    .bind(&token.controller_type)
    .bind(&token.controller_name)
    .bind(&token.created_by)
    .bind(token.created_at)
    .bind(token.expires_at)
    .execute(&mut *db)
    .await?;
    let at = dialect::present(db).await?;
    let details = json!({
        "name": token.name,
        "controller_type": token.controller_type,
        "controller_name": token.controller_name,
        "expires_at": token.expires_at,
    });
    audit::record(db, at, &by, Deed::new(Action::JoinTokenCreate, KIND, &token.id).with(details)).await?;
    Ok(JoinTokenCreated::Stored(token))
}

/// Removes a token; whether there was one.
pub(super) async fn delete(db: &mut Connection, by: Actor, id: String) -> Result<bool, StoreError> {
    let name: Option<String> = sqlx::query_scalar("DELETE FROM join_tokens WHERE id = $1 RETURNING name")
        .bind(&id)
        .fetch_optional(&mut *db)
        .await?;
    let Some(name) = name else { return Ok(false) };
    let at = dialect::present(db).await?;
    let deed = Deed::new(Action::JoinTokenDelete, KIND, id).with(json!({ "name": name }));
    audit::record(db, at, &by, deed).await?;
    Ok(true)
}

/// The token with this hash, if it is good.
pub(super) async fn with_hash(
    db: &mut Connection,
    token_hash: &str,
    at: DateTime<Utc>,
) -> Result<Option<JoinToken>, StoreError> {
    let row = sqlx::query("SELECT * FROM join_tokens WHERE token_hash = $1 AND expires_at > $2")
        .bind(token_hash)
        .bind(at)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Remembers that a token was used.
pub(super) async fn used(db: &mut Connection, id: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query("UPDATE join_tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id)
        .bind(at)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes some of what has expired; whether there may be more.
pub(super) async fn sweep(db: &mut Connection) -> Result<bool, StoreError> {
    let at = dialect::present(db).await?;
    let expired: Vec<(String, String)> = sqlx::query_as(
        "DELETE FROM join_tokens WHERE id IN (SELECT id FROM join_tokens WHERE expires_at <= $1 LIMIT $2) \
         RETURNING id, name",
    )
    .bind(at)
    .bind(SWEPT_AT_ONCE)
    .fetch_all(&mut *db)
    .await?;
    let more = i64::try_from(expired.len()).unwrap_or(i64::MAX) >= SWEPT_AT_ONCE;
    for (id, name) in expired {
        let deed = Deed::new(Action::JoinTokenExpire, KIND, id).with(json!({ "name": name }));
        audit::record(db, at, &Actor::System(Rule::Expiry), deed).await?;
    }
    Ok(more)
}

fn read(row: &Row) -> Result<JoinToken, StoreError> {
    Ok(JoinToken {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        controller_type: row.try_get("controller_type")?,
        controller_name: row.try_get("controller_name")?,
        created_by: row.try_get("created_by")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}
