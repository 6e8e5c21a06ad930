//! Tokens, and the removal of what has expired.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{QueryBuilder, Row as _};

use super::{Connection, Database, Row, audit, dialect, users};
use crate::domain::{Action, Actor, Deed, Role, Rule, Token, now};
use crate::store::{Position, StoreError, TokenCreated, TokenOwner};

/// Rows that one transaction removes: the whole server waits for it.
const SWEPT_AT_ONCE: i64 = 1000;

/// The built-in administrator.
const ADMIN: &str = "admin";

pub(super) async fn owner(db: &mut Connection, token_hash: &str) -> Result<Option<TokenOwner>, StoreError> {
    let row = sqlx::query(
        "SELECT t.*, u.role AS user_role FROM api_tokens t JOIN users u ON u.id = t.user_id \
         WHERE t.token_hash = $1 AND u.active AND (t.expires_at IS NULL OR t.expires_at > $2)",
    )
    .bind(token_hash)
    .bind(now())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let token = token(&row)?;
    // Whoever lost power lost it with all tokens.
    let role = token.role.min(Role::stored(&row.try_get::<String, _>("user_role")?));
    Ok(Some(TokenOwner { user_id: token.user_id.clone(), role, token }))
}

/// The tokens of a user or of all, newest first.
pub(super) async fn list(
    db: &mut Connection,
    user_id: Option<&str>,
    after: Option<&Position>,
    limit: u32,
) -> Result<Vec<Token>, StoreError> {
    let mut query = QueryBuilder::<Database>::new("SELECT * FROM api_tokens WHERE TRUE");
    if let Some(user_id) = user_id {
        query.push(" AND user_id = ").push_bind(user_id.to_owned());
    }
    if let Some(Position { created_at, id }) = after {
        query.push(" AND (created_at, id) < (").push_bind(*created_at);
        query.push(", ").push_bind(id.clone()).push(")");
    }
    query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(db).await?.iter().map(token).collect()
}

pub(super) async fn create(
    db: &mut Connection,
    by: Actor,
    token: Token,
    token_hash: String,
    most: u32,
) -> Result<TokenCreated, StoreError> {
    let Some(user) = users::one(db, &token.user_id).await? else { return Ok(TokenCreated::NoSuchUser) };
    if token.role > user.role {
        return Ok(TokenCreated::AboveUser(user.role));
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM api_tokens WHERE user_id = $1")
        .bind(&token.user_id)
        .fetch_one(&mut *db)
        .await?;
    if count >= i64::from(most) {
        return Ok(TokenCreated::TooMany);
    }
    insert(db, &token, token_hash).await?;
    let at = dialect::present(db).await?;
    audit::record(db, at, &by, made(&token)).await?;
    Ok(TokenCreated::Stored(token))
}

fn made(token: &Token) -> Deed {
    Deed::new(Action::TokenCreate, "token", &token.id).with(json!({
        "user_id": token.user_id,
        "name": token.name,
        "role": token.role,
        "expires_at": token.expires_at,
    }))
}

async fn insert(db: &mut Connection, token: &Token, token_hash: String) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_tokens (token_hash, id, name, user_id, role, created_by, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token_hash)
    .bind(&token.id)
    .bind(&token.name)
    .bind(&token.user_id)
    .bind(token.role.as_str())
    .bind(&token.created_by)
    .bind(token.created_at)
    .bind(token.expires_at)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a token, of this user if one is named; whether there was one.
pub(super) async fn delete(
    db: &mut Connection,
    by: Actor,
    id: String,
    user_id: Option<String>,
) -> Result<bool, StoreError> {
    let gone: Option<(String, String)> = sqlx::query_as(
        "DELETE FROM api_tokens WHERE id = $1 AND ($2 IS NULL OR user_id = $2) RETURNING user_id, name",
    )
    .bind(&id)
    .bind(user_id)
    .fetch_optional(&mut *db)
    .await?;
    let Some((user_id, name)) = gone else { return Ok(false) };
    let at = dialect::present(db).await?;
    let details = json!({ "user_id": user_id, "name": name });
    audit::record(db, at, &by, Deed::new(Action::TokenDelete, "token", id).with(details)).await?;
    Ok(true)
}

pub(super) async fn used(db: &mut Connection, id: String, at: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id)
        .bind(at)
        .execute(db)
        .await?;
    Ok(())
}

fn token(row: &Row) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        user_id: row.try_get("user_id")?,
        role: Role::stored(&row.try_get::<String, _>("role")?),
        created_by: row.try_get("created_by")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        last_used_at: row.try_get("last_used_at")?,
    })
}

pub(super) async fn replace_admin(
    db: &mut Connection,
    name: String,
    token_hash: String,
) -> Result<(), StoreError> {
    let at = now();
    // Somebody who was there before may have the name.
    sqlx::query(
        "INSERT INTO users (id, username, role, created_at, updated_at) \
         SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM users WHERE username = $1) THEN 'builtin-' || $1 ELSE $1 END, \
         $1, $2, $2 WHERE NOT EXISTS (SELECT 1 FROM users WHERE id = $1)",
    )
    .bind(ADMIN)
    .bind(at)
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM api_tokens WHERE user_id = $1 AND name = $2")
        .bind(ADMIN)
        .bind(&name)
        .execute(&mut *db)
        .await?;
    let token = Token {
        id: Token::new_id(),
        name,
        user_id: ADMIN.to_owned(),
        role: Role::Admin,
        created_by: ADMIN.to_owned(),
        created_at: at,
        expires_at: None,
        last_used_at: None,
    };
    insert(db, &token, token_hash).await?;
    let at = dialect::present(db).await?;
    audit::record(db, at, &Actor::System(Rule::Configuration), made(&token)).await
}

/// Removes some of what has expired; whether there may be more.
pub(super) async fn sweep(db: &mut Connection) -> Result<bool, StoreError> {
    let at = now();
    let mut most = 0;
    for sweep in [
        "DELETE FROM idempotency_keys WHERE (caller, key) IN \
         (SELECT caller, key FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2)",
        // What a controller still has that nobody could ask for so long is not known: it is remembered until it is.
        "DELETE FROM tombstones WHERE session_id IN \
         (SELECT t.session_id FROM tombstones t LEFT JOIN controllers c ON c.id = t.controller_id \
         WHERE t.expires_at <= $1 AND (c.status IS NULL OR c.status = 'healthy') LIMIT $2)",
    ] {
        let done = sqlx::query(sweep).bind(at).bind(SWEPT_AT_ONCE).execute(&mut *db).await?;
        most = most.max(done.rows_affected());
    }
    let expired: Vec<(String, String, String)> = sqlx::query_as(
        "DELETE FROM api_tokens WHERE token_hash IN \
         (SELECT token_hash FROM api_tokens WHERE expires_at <= $1 LIMIT $2) RETURNING id, user_id, name",
    )
    .bind(at)
    .bind(SWEPT_AT_ONCE)
    .fetch_all(&mut *db)
    .await?;
    most = most.max(expired.len() as u64);
    let noted = dialect::present(db).await?;
    for (id, user_id, name) in expired {
        let deed = Deed::new(Action::TokenExpire, "token", id);
        let details = json!({ "user_id": user_id, "name": name });
        audit::record(db, noted, &Actor::System(Rule::Expiry), deed.with(details)).await?;
    }
    Ok(i64::try_from(most).unwrap_or(i64::MAX) >= SWEPT_AT_ONCE)
}
