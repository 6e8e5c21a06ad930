//! What sessions hold of their controllers. The sums are kept by the database (see migration 15); here is what goes into
//! them, and who is told when there is room again.

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::types::Json;

use super::{Connection, controllers, dialect};
use crate::domain::{
    Amounts, Controller, ControllerId, ControllerStatus, Overcommit, Phase, Session, SessionSpec, WishedState,
};
use crate::store::StoreError;

/// Sessions that are tried when there is room. More than that are tried by the clock.
const TRIED_AT_ONCE: i64 = 128;
/// Rows that are made up for in one transaction.
const MADE_UP_AT_ONCE: i64 = 500;
/// A session that began to run so short a time before a controller was asked may not be counted in its answer.
const ANSWER_MARGIN: chrono::Duration = chrono::Duration::seconds(5);

/// Stores what some sessions hold that were stored by an earlier version; whether there may be more.
pub(super) async fn make_up(db: &mut Connection) -> Result<bool, StoreError> {
    let rows =
        sqlx::query("SELECT id, state, phase, spec FROM sessions WHERE held_sessions IS NULL LIMIT $1")
            .bind(MADE_UP_AT_ONCE)
            .fetch_all(&mut *db)
            .await?;
    for row in &rows {
        let (id, state, phase): (String, String, String) =
            (row.try_get("id")?, row.try_get("state")?, row.try_get("phase")?);
        let spec = row.try_get::<Json<SessionSpec>, _>("spec");
        let held = match (spec, WishedState::parse(&state), Phase::parse(&phase)) {
            (Ok(Json(spec)), Some(state), Some(phase)) => Amounts::held_by(&spec, state, phase),
            // One that cannot be read is there all the same.
            _ => Amounts { sessions: 1, ..Amounts::default() },
        };
        let [sessions, cpu, memory, storage] = held.to_db();
        sqlx::query(
            "UPDATE sessions SET held_sessions = $2, held_cpu = $3, held_memory = $4, held_storage = $5 \
             WHERE id = $1",
        )
        .bind(id)
        .bind(sessions)
        .bind(cpu)
        .bind(memory)
        .bind(storage)
        .execute(&mut *db)
        .await?;
    }
    Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX) >= MADE_UP_AT_ONCE)
}

/// Stores how often what controllers have is given away. Whoever remembers controllers has to read all of them again.
pub(super) async fn overcommit(db: &mut Connection, overcommit: Overcommit) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE fleet SET overcommit_cpu = $1, overcommit_memory = $2, overcommit_storage = $3, \
         revision = revision + 1, removed = revision + 1 \
         WHERE overcommit_cpu <> $1 OR overcommit_memory <> $2 OR overcommit_storage <> $3",
    )
    .bind(overcommit.cpu.to_db())
    .bind(overcommit.memory.to_db())
    .bind(overcommit.storage.to_db())
    .execute(&mut *db)
    .await?;
    if done.rows_affected() > 0 {
        tracing::info!(?overcommit, "what controllers have is given away so many times from now on");
        for controller in controllers::all(db).await? {
            stir(db, &controller.id).await?;
        }
    }
    Ok(())
}

/// Forgets what was promised before a controller said how much is available: what runs is counted in its answer.
pub(super) async fn seen(
    db: &mut Connection,
    id: &ControllerId,
    asked_at: DateTime<Utc>,
) -> Result<(), StoreError> {
    // PostgreSQL adds whole numbers up to something wider.
    let (cpu, memory, storage): (i64, i64, i64) = sqlx::query_as(
        "SELECT CAST(coalesce(sum(held_cpu), 0) AS BIGINT), CAST(coalesce(sum(held_memory), 0) AS BIGINT), \
         CAST(coalesce(sum(held_storage), 0) AS BIGINT) FROM sessions WHERE moving_to = $1 \
         OR (controller_id = $1 AND (phase <> $2 OR running_since IS NULL OR running_since > $3))",
    )
    .bind(id.as_str())
    .bind(Phase::Running.as_str())
    .bind(asked_at - ANSWER_MARGIN)
    .fetch_one(&mut *db)
    .await?;
    sqlx::query(
        "UPDATE controllers SET unseen_cpu = $2, unseen_memory = $3, unseen_storage = $4 WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(cpu)
    .bind(memory)
    .bind(storage)
    .execute(db)
    .await?;
    Ok(())
}

/// Has the oldest sessions tried at once that wait for a controller and may find room on that one; whether there are any.
pub(super) async fn stir(db: &mut Connection, id: &ControllerId) -> Result<bool, StoreError> {
    let at = dialect::present(db).await?;
    // Mostly nobody waits.
    let waiting: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM operations WHERE queue = '' AND next_attempt_at > $1 \
         AND lease_owner IS NULL)",
    )
    .bind(at)
    .fetch_one(&mut *db)
    .await?;
    if !waiting {
        return Ok(false);
    }
    let Some(controller) = controllers::one(db, id).await? else { return Ok(false) };
    let Some([cpu, memory, storage]) = room(&controller) else { return Ok(false) };
    let done = sqlx::query(
        "UPDATE operations SET next_attempt_at = $1 WHERE session_id IN (SELECT o.session_id FROM operations o \
         JOIN sessions s ON s.id = o.session_id WHERE o.queue = '' AND o.next_attempt_at > $1 \
         AND o.lease_owner IS NULL AND coalesce(s.held_cpu, 0) <= $2 AND coalesce(s.held_memory, 0) <= $3 \
         AND coalesce(s.held_storage, 0) <= $4 AND coalesce(s.placement->>'controller_id', $5) = $5 \
         AND coalesce(s.placement->>'controller_type', $6) = $6 ORDER BY s.created_at, s.id LIMIT $7)",
    )
    .bind(at)
    .bind(cpu)
    .bind(memory)
    .bind(storage)
    .bind(id.as_str())
    .bind(&controller.controller_type)
    .bind(TRIED_AT_ONCE)
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The same, if a session let go of something that it held there.
pub(super) async fn stir_after(
    db: &mut Connection,
    before: &Session,
    after: &Session,
) -> Result<(), StoreError> {
    let Some(id) = before.controller_id() else { return Ok(()) };
    if before.placed != after.placed || !before.held().without(&after.held()).is_nothing() {
        stir(db, id).await?;
    }
    Ok(())
}

/// What one more session may ask for, in the units of the store; none, if there can be no other.
fn room(controller: &Controller) -> Option<[i64; 3]> {
    if controller.status != ControllerStatus::Healthy || controller.draining {
        return None;
    }
    let one = Amounts { sessions: 1, ..Amounts::default() };
    if controller.ledger.lacks(&one).is_some() {
        return None;
    }
    let free = |kind| {
        let share = controller.ledger.shares(&one).find(|share| share.kind == kind);
        share.and_then(|share| share.free()).unwrap_or(u64::MAX)
    };
    use crate::domain::QuotaKind::{Cpu, Memory, Storage};
    let most = Amounts { sessions: 1, cpu: free(Cpu), memory: free(Memory), storage: free(Storage) };
    let [_, cpu, memory, storage] = most.to_db();
    Some([cpu, memory, storage])
}
