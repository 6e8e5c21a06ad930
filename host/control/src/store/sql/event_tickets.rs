//! Tickets that open the events once, at whichever server.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Connection, dialect};
use crate::store::StoreError;

/// Stores a ticket, unless there are `most` that are good; whether it did.
pub(super) async fn issue(
    db: &mut Connection,
    ticket_hash: String,
    token_hash: String,
    life: Duration,
    most: u32,
) -> Result<bool, StoreError> {
    let at = dialect::present(db).await?;
    let until = at + chrono::Duration::from_std(life).unwrap_or_default();
    sqlx::query("DELETE FROM event_tickets WHERE expires_at <= $1").bind(at).execute(&mut *db).await?;
    let good: i64 = sqlx::query_scalar("SELECT count(*) FROM event_tickets").fetch_one(&mut *db).await?;
    if good >= i64::from(most) {
        return Ok(false);
    }
    sqlx::query("INSERT INTO event_tickets (ticket_hash, token_hash, expires_at) VALUES ($1, $2, $3)")
        .bind(ticket_hash)
        .bind(token_hash)
        .bind(until)
        .execute(db)
        .await?;
    Ok(true)
}

/// Takes a ticket; the hash of the token that it stands for, if it was good.
pub(super) async fn redeem(db: &mut Connection, ticket_hash: String) -> Result<Option<String>, StoreError> {
    let at = dialect::present(db).await?;
    let found: Option<(String, DateTime<Utc>)> =
        sqlx::query_as("DELETE FROM event_tickets WHERE ticket_hash = $1 RETURNING token_hash, expires_at")
            .bind(ticket_hash)
            .fetch_optional(db)
            .await?;
    Ok(found.filter(|(_, until)| *until > at).map(|(token_hash, _)| token_hash))
}

#[cfg(test)]
mod tests;
