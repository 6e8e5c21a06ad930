//! Tokens, and the removal of what has expired.

use sqlx::{Row as _, SqliteConnection};

use crate::domain::now;
use crate::store::{StoreError, TokenOwner};

/// The built-in administrator.
const ADMIN: &str = "admin";

pub(super) async fn owner(
    db: &mut SqliteConnection,
    token_hash: &str,
) -> Result<Option<TokenOwner>, StoreError> {
    let row = sqlx::query(
        "SELECT t.user_id, t.role, t.name FROM api_tokens t JOIN users u ON u.id = t.user_id \
         WHERE t.token_hash = $1 AND u.active AND (t.expires_at IS NULL OR t.expires_at > $2)",
    )
    .bind(token_hash)
    .bind(now())
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(TokenOwner {
        user_id: row.try_get("user_id")?,
        role: row.try_get("role")?,
        token_name: row.try_get("name")?,
    }))
}

pub(super) async fn replace_admin(
    db: &mut SqliteConnection,
    name: String,
    token_hash: String,
) -> Result<(), StoreError> {
    let at = now();
    sqlx::query(
        "INSERT INTO users (id, username, role, created_at, updated_at) VALUES ($1, $1, $1, $2, $2) \
         ON CONFLICT (id) DO NOTHING",
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
    sqlx::query(
        "INSERT INTO api_tokens (token_hash, name, user_id, role, created_at) VALUES ($1, $2, $3, $3, $4)",
    )
    .bind(token_hash)
    .bind(name)
    .bind(ADMIN)
    .bind(at)
    .execute(&mut *db)
    .await?;
    Ok(())
}

pub(super) async fn sweep(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let at = now();
    sqlx::query("DELETE FROM idempotency_keys WHERE expires_at <= $1").bind(at).execute(&mut *db).await?;
    sqlx::query("DELETE FROM tombstones WHERE expires_at <= $1").bind(at).execute(&mut *db).await?;
    Ok(())
}
