//! Rights to reach one session through the gateway.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::Row as _;

use super::{Connection, audit, dialect};
use crate::domain::{Action, Actor, Deed, SessionId, now};
use crate::store::{AccessGrant, GrantKind, StoreError};

/// How long a right lasts however much it is used; then the session is opened anew.
const MAX_AGE: chrono::Duration = chrono::Duration::hours(12);

/// What makes a grant good: it has not expired, its user is active and may still see the session. It does not hang on
/// the API token that it was got with: revoking that leaves a browser what it has, for an hour after the last use and
/// [`MAX_AGE`] at most. Whoever is to be locked out at once is made inactive.
const GOOD: &str = "FROM access_grants g JOIN users u ON u.id = g.user_id JOIN sessions s ON s.id = g.session_id \
     WHERE g.token_hash = $1 AND g.kind = $2 AND g.expires_at > $3 AND g.created_at > $4 AND u.active \
     AND (s.user_id = g.user_id OR u.role IN ('admin', 'operator'))";

/// Stores a right that somebody asked for.
pub(super) async fn grant(
    db: &mut Connection,
    by: Actor,
    token_hash: String,
    kind: GrantKind,
    grant: AccessGrant,
) -> Result<(), StoreError> {
    let deed = Deed::to_session(Action::AccessGrant, &grant.session_id);
    let details = json!({ "kind": kind.as_str(), "user_id": grant.user_id, "expires_at": grant.expires_at });
    issue(db, token_hash, kind, grant).await?;
    let at = dialect::present(db).await?;
    audit::record(db, at, &by, deed.with(details)).await
}

async fn issue(
    db: &mut Connection,
    token_hash: String,
    kind: GrantKind,
    grant: AccessGrant,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO access_grants (token_hash, kind, session_id, user_id, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(token_hash)
    .bind(kind.as_str())
    .bind(grant.session_id.as_str())
    .bind(grant.user_id)
    .bind(now())
    .bind(grant.expires_at)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn find(
    db: &mut Connection,
    token_hash: &str,
    kind: GrantKind,
) -> Result<Option<AccessGrant>, StoreError> {
    let at = now();
    let sql = format!("SELECT g.session_id, g.user_id, g.expires_at {GOOD}");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(token_hash)
        .bind(kind.as_str())
        .bind(at)
        .bind(at - MAX_AGE)
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let session_id: String = row.try_get("session_id")?;
    // An id that cannot be read is no session that anybody could reach.
    let Ok(session_id) = SessionId::parse(&session_id) else { return Ok(None) };
    Ok(Some(AccessGrant {
        session_id,
        user_id: row.try_get("user_id")?,
        expires_at: row.try_get("expires_at")?,
    }))
}

/// Takes the ticket and stores the cookie, or does neither.
pub(super) async fn redeem(
    db: &mut Connection,
    ticket_hash: String,
    cookie_hash: String,
    expires_at: DateTime<Utc>,
) -> Result<Option<AccessGrant>, StoreError> {
    let Some(ticket) = find(db, &ticket_hash, GrantKind::Ticket).await? else { return Ok(None) };
    sqlx::query("DELETE FROM access_grants WHERE token_hash = $1")
        .bind(ticket_hash)
        .execute(&mut *db)
        .await?;
    let cookie = AccessGrant { expires_at, ..ticket };
    issue(db, cookie_hash, GrantKind::Cookie, cookie.clone()).await?;
    Ok(Some(cookie))
}

pub(super) async fn extend(
    db: &mut Connection,
    cookie_hash: String,
    expires_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE access_grants SET expires_at = $2 WHERE token_hash = $1 AND expires_at < $2")
        .bind(cookie_hash)
        .bind(expires_at)
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn sweep(db: &mut Connection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM access_grants WHERE expires_at <= $1").bind(now()).execute(db).await?;
    Ok(())
}
