//! Wishes for sessions that are there, and signs of their users.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;

use super::{
    Connection, audit, controllers, create, dialect, events, operations, quotas, reservations, sessions,
};
use crate::domain::{
    Action, Actor, Deed, Happening, Limits, Requirement, Session, SessionId, WishedState, due,
};
use crate::store::{ActivitySign, Created, NewWish, StoreError, Wished};

pub(super) async fn wish(db: &mut Connection, new: NewWish, limits: Limits) -> Result<Wished, StoreError> {
    let NewWish { by, session_id, state, idempotency, render } = new;
    let at = dialect::present(db).await?;
    if let Some(key) = &idempotency {
        match create::earlier_answer(db, key, at).await? {
            Some(Created::Replayed { response, .. }) => return Ok(Wished::Replayed { response }),
            Some(_) => return Ok(Wished::KeyMismatch),
            None => {}
        }
    }
    let Some(mut record) = sessions::one(db, &session_id).await? else { return Ok(Wished::NoSuchSession) };
    if record.session.is_deleting() {
        return Ok(Wished::Deleting);
    }
    let before = record.session.clone();
    let changed = record.wish(state, at);
    if changed {
        if state == WishedState::Hibernated && !can_hibernate(db, &record.session).await? {
            return Ok(Wished::Unsupported);
        }
        // What was wanted to run before is counted already.
        if state == WishedState::Running && before.state != WishedState::Running {
            let exceeded = quotas::exceeded_by_run(db, &before.user_id, &limits, &before.spec).await?;
            if !exceeded.is_empty() {
                return Ok(Wished::OverQuota(exceeded));
            }
        }
        if lacks_room(db, &before, &record.session).await? {
            return Ok(Wished::NoRoom);
        }
        keep(db, &by, &before, &mut record, at).await?;
    }
    if let Some(key) = idempotency {
        create::store_answer(db, &key, &session_id, render(&record), at).await?;
    }
    Ok(if changed { Wished::Stored(Box::new(record)) } else { Wished::Unchanged(Box::new(record)) })
}

/// Stores a wish that was taken, and says whose it is.
pub(super) async fn keep(
    db: &mut Connection,
    by: &Actor,
    before: &Session,
    record: &mut crate::store::SessionRecord,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    store(db, record, at).await?;
    let session = &record.session;
    // The wish, and what fulfilling it without a step made of the session.
    events::tell(db, session, Happening::of_change(before, session)).await?;
    let details = json!({
        "user_id": session.user_id,
        "previous": before.state,
        "generation": session.generation,
    });
    let deed = Deed::to_session(Action::of_wish(session.state), &session.id).with(details);
    audit::record(db, at, by, deed).await?;
    reservations::stir_after(db, before, &record.session).await
}

/// Whether a session's controller has too little left of what the session is to hold beside what it holds. What it was
/// not using others may have got.
async fn lacks_room(db: &mut Connection, before: &Session, after: &Session) -> Result<bool, StoreError> {
    let more = after.held().without(&before.held());
    let Some(id) = after.controller_id().filter(|_| !more.is_nothing()) else { return Ok(false) };
    let controller = controllers::one(db, id).await?;
    Ok(controller.is_some_and(|known| known.ledger.lacks(&more).is_some()))
}

/// One that has not said what it can do yet is given the benefit of the doubt.
pub(super) async fn can_hibernate(db: &mut Connection, session: &Session) -> Result<bool, StoreError> {
    let Some(id) = session.controller_id() else { return Ok(true) };
    let controller = controllers::one(db, id).await?;
    Ok(controller
        .is_none_or(|known| known.capabilities.is_none() || known.supports(Requirement::Hibernation)))
}

pub(super) async fn store(
    db: &mut Connection,
    record: &mut crate::store::SessionRecord,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let claimed: bool =
        sqlx::query_scalar("SELECT lease_owner IS NOT NULL FROM operations WHERE session_id = $1")
            .bind(record.session.id.as_str())
            .fetch_one(&mut *db)
            .await?;
    // A step under way keeps its claim and its operation; what is next is decided when it has been recorded.
    if !claimed && record.rest_if_fulfilled(at) {
        operations::store(db, &record.session, &record.operation, None).await?;
    } else {
        sqlx::query(
            "UPDATE operations SET next_attempt_at = $2, updated_at = $2, lane = $3 WHERE session_id = $1",
        )
        .bind(record.session.id.as_str())
        .bind(at)
        .bind(operations::lane(&record.session, &record.operation).to_db())
        .execute(&mut *db)
        .await?;
    }
    let session = &record.session;
    let [sessions, cpu, memory, storage] = session.held().to_db();
    sqlx::query(
        "UPDATE sessions SET state = $2, generation = $3, observed_generation = $4, phase = $5, \
         conditions = $6, updated_at = $7, running_since = $8, started_at = $9, policy_due_at = $10, \
         held_sessions = $11, held_cpu = $12, held_memory = $13, held_storage = $14 WHERE id = $1",
    )
    .bind(session.id.as_str())
    .bind(session.state.as_str())
    .bind(session.generation.to_db())
    .bind(session.observed_generation.map(|generation| generation.to_db()))
    .bind(session.phase.as_str())
    .bind(Json(&session.conditions))
    .bind(session.updated_at)
    .bind(session.running_since)
    .bind(session.started_at)
    .bind(due(session))
    .bind(sessions)
    .bind(cpu)
    .bind(memory)
    .bind(storage)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn record_activity(db: &mut Connection, signs: Vec<ActivitySign>) -> Result<(), StoreError> {
    for ActivitySign { session_id, at } in signs {
        sqlx::query(
            "UPDATE sessions SET last_activity = $2 \
             WHERE id = $1 AND (last_activity IS NULL OR last_activity < $2)",
        )
        .bind(session_id.as_str())
        .bind(at)
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

/// A look that waits for its time is due now.
pub(super) async fn hasten_look(db: &mut Connection, id: SessionId) -> Result<bool, StoreError> {
    let at = dialect::present(db).await?;
    let done = sqlx::query(
        "UPDATE operations SET next_attempt_at = $2 WHERE session_id = $1 AND next_attempt_at > $2 \
         AND accepted AND length(handle) = 0 AND failures = 0 AND lease_owner IS NULL",
    )
    .bind(id.as_str())
    .bind(at)
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}
