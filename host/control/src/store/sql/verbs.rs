//! What ends the waiting of a session: trying at once, and going without the controller's word.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::Row as _;

use super::{Connection, audit, controllers, create, dialect, events, moves, reservations, sessions, wishes};
use crate::domain::{Action, Actor, ControllerId, Deed, Generation, Happening, SessionId};
use crate::store::{Created, Forgotten, NewRetry, Retried, StoreError};

/// Tries at once what waits, and anew what was given up.
pub(super) async fn retry(db: &mut Connection, retry: NewRetry) -> Result<Retried, StoreError> {
    let NewRetry { by, session_id, idempotency, render } = retry;
    let at = dialect::present(db).await?;
    if let Some(key) = &idempotency {
        match create::earlier_answer(db, key, at).await? {
            Some(Created::Replayed { response, .. }) => return Ok(Retried::Replayed { response }),
            Some(_) => return Ok(Retried::KeyMismatch),
            None => {}
        }
    }
    // As much as can be done for a row that cannot be read.
    hasten(db, &session_id, at).await?;
    let mut record = match sessions::one(db, &session_id).await {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(Retried::NoSuchSession),
        Err(error) if error.is_unreadable_row() => {
            tracing::error!(session = %session_id, %error, "a session to be tried again cannot be read");
            return Ok(Retried::Unreadable);
        }
        Err(error) => return Err(error),
    };
    let changed = if record.operation.is_settled() {
        let before = record.session.clone();
        let anew = record.wish_again(at);
        if anew {
            wishes::store(db, &mut record, at).await?;
            events::tell(db, &record.session, Happening::of_change(&before, &record.session)).await?;
        }
        anew
    } else {
        true
    };
    if changed {
        let session = &record.session;
        let details = json!({ "user_id": session.user_id, "generation": session.generation });
        let deed = Deed::to_session(Action::SessionRetry, &session_id).with(details);
        audit::record(db, at, &by, deed).await?;
    }
    if let Some(key) = idempotency {
        create::store_answer(db, &key, &session_id, render(&record), at).await?;
    }
    let record = Box::new(record);
    Ok(if changed { Retried::Stored(record) } else { Retried::NothingToDo(record) })
}

/// Makes a step due now that waits for its time, and forgets what it has come to so far: pauses and limits begin anew.
/// A step that is under way is left alone: it is being tried.
async fn hasten(db: &mut Connection, id: &SessionId, at: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE operations SET next_attempt_at = $2, failures = 0, internal_failures = 0, deadline = NULL, \
         repairs = 0, repaired_at = NULL, updated_at = $2 \
         WHERE session_id = $1 AND next_attempt_at IS NOT NULL AND lease_owner IS NULL",
    )
    .bind(id.as_str())
    .bind(at)
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a session's row and leaves its tombstone, whatever its controller has of it. Reads no more than it needs: a
/// row that cannot be read goes as well.
pub(super) async fn forget(
    db: &mut Connection,
    by: Actor,
    id: SessionId,
    keep_tombstone: Duration,
) -> Result<Option<Forgotten>, StoreError> {
    let at = dialect::present(db).await?;
    forget_one(db, &by, id.as_str(), at, keep_tombstone).await
}

pub(super) async fn forget_one(
    db: &mut Connection,
    by: &Actor,
    id: &str,
    at: DateTime<Utc>,
    keep_tombstone: Duration,
) -> Result<Option<Forgotten>, StoreError> {
    let row = sqlx::query("SELECT user_id, controller_id, moving_to, generation FROM sessions WHERE id = $1")
        .bind(id)
        .fetch_optional(&mut *db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let user_id: String = row.try_get("user_id")?;
    let controller: Option<String> = row.try_get("controller_id")?;
    let moving_to: Option<String> = row.try_get("moving_to")?;
    let generation = Generation::from_db(row.try_get("generation")?);
    sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id).execute(&mut *db).await?;
    sessions::bury(db, id, controller.as_deref(), at, keep_tombstone).await?;
    if let Some(controller) = controller.as_deref().and_then(|id| ControllerId::parse(id).ok()) {
        controllers::count(db, &controller, -1).await?;
    }
    // There is room where there may have been none.
    for id in controller.iter().chain(&moving_to).filter_map(|id| ControllerId::parse(id).ok()) {
        reservations::stir(db, &id).await?;
    }
    events::tell_of_forgotten(db, id, &user_id, generation).await?;
    let details = json!({ "user_id": user_id, "controller_id": controller, "generation": generation });
    audit::record(db, at, by, Deed::new(Action::SessionForget, "session", id).with(details)).await?;
    Ok(Some(Forgotten { user_id, controller_id: controller }))
}

/// Forgets some of the sessions of a controller, which gets no new ones from then on; which they were.
pub(super) async fn forget_some_of(
    db: &mut Connection,
    by: Actor,
    controller: ControllerId,
    most: u32,
    keep_tombstone: Duration,
) -> Result<Vec<String>, StoreError> {
    let at = dialect::present(db).await?;
    sqlx::query("UPDATE controllers SET draining = TRUE WHERE id = $1")
        .bind(controller.as_str())
        .execute(&mut *db)
        .await?;
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM sessions WHERE controller_id = $1 ORDER BY created_at LIMIT $2")
            .bind(controller.as_str())
            .bind(i64::from(most))
            .fetch_all(&mut *db)
            .await?;
    for id in &ids {
        forget_one(db, &by, id, at, keep_tombstone).await?;
    }
    if ids.is_empty() {
        moves::cancel_all_to(db, &controller, at).await?;
    }
    Ok(ids)
}
