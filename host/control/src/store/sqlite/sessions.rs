//! Sessions in SQLite: reading them and wishing them gone.

use sqlx::SqliteConnection;
use sqlx::types::Json;

use super::controllers;
use super::rows::{record, select_sessions};
use crate::domain::{Session, SessionId, Wish, now};
use crate::store::{Position, SessionFilter, SessionRecord, StoreError};

pub(super) async fn one(
    db: &mut SqliteConnection,
    id: &SessionId,
) -> Result<Option<SessionRecord>, StoreError> {
    let row = sqlx::query(select_sessions!("WHERE s.id = $1")).bind(id.as_str()).fetch_optional(db).await?;
    row.as_ref().map(record).transpose()
}

pub(super) async fn page(
    db: &mut SqliteConnection,
    filter: &SessionFilter,
    after: Option<&Position>,
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let rows = sqlx::query(select_sessions!(
        "WHERE ($1 IS NULL OR s.user_id = $1) AND ($2 IS NULL OR s.state = $2) \
         AND ($3 IS NULL OR s.phase = $3) AND ($4 IS NULL OR s.controller_id = $4) \
         AND ($5 IS NULL OR s.controller_type = $5) \
         AND ($6 IS NULL OR (s.created_at, s.id) < ($6, $7)) \
         ORDER BY s.created_at DESC, s.id DESC LIMIT $8"
    ))
    .bind(filter.user_id.as_deref())
    .bind(filter.state.map(|state| state.as_str()))
    .bind(filter.phase.map(|phase| phase.as_str()))
    .bind(filter.controller_id.as_deref())
    .bind(filter.controller_type.as_deref())
    .bind(after.map(|position| position.created_at))
    .bind(after.map(|position| position.id.as_str()))
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter().map(record).collect()
}

pub(super) async fn request_deletion(
    db: &mut SqliteConnection,
    id: SessionId,
    purge_home: bool,
) -> Result<Option<SessionRecord>, StoreError> {
    let Some(SessionRecord { session, .. }) = one(db, &id).await? else { return Ok(None) };
    // A purge that was asked for is not taken back by asking again without it.
    let wish = match session.wish {
        Wish::Gone { purge_home: known } => Wish::Gone { purge_home: known || purge_home },
        Wish::State(_) => Wish::Gone { purge_home },
    };
    if wish != session.wish {
        let at = now();
        let Wish::Gone { purge_home } = wish else { return Ok(None) };
        sqlx::query(
            "UPDATE sessions SET deleting = TRUE, purge_home = $2, generation = $3, updated_at = $4 \
             WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(purge_home)
        .bind(session.generation.next().to_db())
        .bind(at)
        .execute(&mut *db)
        .await?;
        // A step under way keeps its lease; the next one begins when it has been recorded.
        sqlx::query("UPDATE operations SET next_attempt_at = $2, updated_at = $2 WHERE session_id = $1")
            .bind(id.as_str())
            .bind(at)
            .execute(&mut *db)
            .await?;
    }
    one(db, &id).await
}

/// Stores everything about a session that can change, the wish excepted.
pub(super) async fn store_observed(db: &mut SqliteConnection, session: &Session) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sessions SET phase = $2, node_id = $3, conditions = $4, observed_generation = $5, \
         controller_id = $6, controller_type = $7, updated_at = $8 WHERE id = $1",
    )
    .bind(session.id.as_str())
    .bind(session.phase.as_str())
    .bind(&session.node_id)
    .bind(Json(&session.conditions))
    .bind(session.observed_generation.map(|generation| generation.to_db()))
    .bind(session.placed.as_ref().map(|(id, _)| id.as_str()))
    .bind(session.placed.as_ref().map(|(_, controller_type)| controller_type.as_str()))
    .bind(session.updated_at)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a session and leaves its tombstone.
pub(super) async fn remove(
    db: &mut SqliteConnection,
    session: &Session,
    keep_tombstone: std::time::Duration,
) -> Result<(), StoreError> {
    let at = now();
    let keep = chrono::Duration::from_std(keep_tombstone).unwrap_or(chrono::Duration::days(30));
    sqlx::query(
        "INSERT INTO tombstones (session_id, controller_id, deleted_at, expires_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (session_id) DO UPDATE SET deleted_at = excluded.deleted_at, \
         expires_at = excluded.expires_at",
    )
    .bind(session.id.as_str())
    .bind(session.controller_id().map(|id| id.as_str()))
    .bind(at)
    .bind(at + keep)
    .execute(&mut *db)
    .await?;
    // The operation goes with it.
    sqlx::query("DELETE FROM sessions WHERE id = $1").bind(session.id.as_str()).execute(&mut *db).await?;
    if let Some(controller) = session.controller_id() {
        controllers::count(db, controller, -1).await?;
    }
    Ok(())
}
