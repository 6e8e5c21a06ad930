//! Operations: claiming them, and recording what came of them.

use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::rows::{record, select_sessions};
use super::{Connection, dialect, events, sessions, verbs};
use crate::domain::{Actor, ControllerId, Happening, Operation, Rule, Session};
use crate::store::{
    Applied, ClaimRequest, Claimed, Claims, Lease, ObservedChange, Recorded, SessionRecord, StepRecord,
    StoreError,
};

/// A row that cannot be read is looked at again after so long, so that it does not hold up the others.
const UNREADABLE_RETRY: chrono::Duration = chrono::Duration::minutes(1);

/// The queue of a session in the table.
fn queue(controller: Option<&ControllerId>) -> &str {
    controller.map_or("", |id| id.as_str())
}

pub(super) async fn insert(
    db: &mut Connection,
    session: &Session,
    operation: &Operation,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operations (session_id, id, kind, generation, handle, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(session.id.as_str())
    .bind(operation.id.as_str())
    .bind(operation.kind.as_str())
    .bind(operation.generation.to_db())
    .bind(&operation.handle)
    .bind(operation.updated_at)
    .execute(&mut *db)
    .await?;
    store(db, session, operation, None).await
}

/// Stores an operation, claimed by somebody until some time or by nobody.
pub(super) async fn store(
    db: &mut Connection,
    session: &Session,
    operation: &Operation,
    lease: Option<(&str, DateTime<Utc>)>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE operations SET queue = $2, id = $3, kind = $4, generation = $5, attempt = $6, failures = $7, \
         internal_failures = $8, next_attempt_at = $9, deadline = $10, lease_owner = $11, \
         lease_expires_at = $12, epoch = $13, handle = $14, accepted = $15, message = $16, last_error = $17, \
         updated_at = $18, established = $19, repairs = $20, repaired_at = $21 WHERE session_id = $1",
    )
    .bind(session.id.as_str())
    .bind(queue(session.controller_id()))
    .bind(operation.id.as_str())
    .bind(operation.kind.as_str())
    .bind(operation.generation.to_db())
    .bind(i64::from(operation.attempt))
    .bind(i64::from(operation.failures))
    .bind(i64::from(operation.internal_failures))
    .bind(operation.next_attempt_at)
    .bind(operation.deadline)
    .bind(lease.map(|(owner, _)| owner))
    .bind(lease.map(|(_, until)| until))
    .bind(operation.epoch.to_db())
    .bind(&operation.handle)
    .bind(operation.accepted)
    .bind(&operation.message)
    .bind(&operation.last_error)
    .bind(operation.updated_at)
    .bind(operation.established)
    .bind(i64::from(operation.repairs))
    .bind(operation.repaired_at)
    .execute(db)
    .await?;
    Ok(())
}

/// The session and operation under a claim, if the claim still holds.
pub(super) async fn claimed(db: &mut Connection, lease: &Lease) -> Result<Option<SessionRecord>, StoreError> {
    let row = sqlx::query(select_sessions!("WHERE s.id = $1 AND o.epoch = $2 AND o.lease_owner = $3"))
        .bind(lease.session_id.as_str())
        .bind(lease.epoch.to_db())
        .bind(&lease.owner)
        .fetch_optional(db)
        .await?;
    row.as_ref().map(record).transpose()
}

pub(super) async fn claim_due(db: &mut Connection, request: ClaimRequest) -> Result<Claims, StoreError> {
    let at = dialect::present(db).await?;
    let mut all = Claims::default();
    for (controller, room) in &request.queues {
        renew(db, queue(controller.as_ref()), &request, at).await?;
        let rows = sqlx::query(select_sessions!(
            "WHERE o.queue = $1 AND o.next_attempt_at <= $2 \
             AND (o.lease_owner IS NULL OR o.lease_expires_at <= $2) ORDER BY o.next_attempt_at LIMIT $3"
        ))
        .bind(queue(controller.as_ref()))
        .bind(at)
        .bind(i64::from(*room))
        .fetch_all(&mut *db)
        .await?;
        for row in &rows {
            match record(row) {
                Ok(found) => {
                    let leased_until = row.try_get("op_leased_until")?;
                    let id = found.session.id.clone();
                    match claim_one(db, found, leased_until, &request, at).await? {
                        Some(claimed) => all.work.push(claimed),
                        None => all.rested.push(id),
                    }
                }
                Err(error) => {
                    let id: String = row.try_get("id")?;
                    tracing::error!(session = %id, %error, "a session cannot be worked on");
                    // Without its claim, which would be due all the time once it had run out.
                    sqlx::query(
                        "UPDATE operations SET next_attempt_at = $2, lease_owner = NULL, \
                         lease_expires_at = NULL WHERE session_id = $1",
                    )
                    .bind(id)
                    .bind(at + UNREADABLE_RETRY)
                    .execute(&mut *db)
                    .await?;
                }
            }
        }
    }
    Ok(all)
}

/// Renews claims that ran out under work that has not ended: a second call must not begin beside the first.
async fn renew(
    db: &mut Connection,
    queue: &str,
    request: &ClaimRequest,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let over: Vec<String> = sqlx::query_scalar(
        "SELECT session_id FROM operations WHERE queue = $1 AND lease_owner IS NOT NULL \
         AND lease_expires_at <= $2 AND lease_owner = $3",
    )
    .bind(queue)
    .bind(at)
    .bind(&request.owner)
    .fetch_all(&mut *db)
    .await?;
    for id in over.into_iter().filter(|id| request.in_flight.iter().any(|busy| busy.as_str() == id)) {
        tracing::warn!(session = id, "a step takes longer than its claim; the claim is renewed");
        sqlx::query("UPDATE operations SET lease_expires_at = $2 WHERE session_id = $1")
            .bind(id)
            .bind(lease_end(request, at))
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// When a claim made at that time runs out.
fn lease_end(request: &ClaimRequest, at: DateTime<Utc>) -> DateTime<Utc> {
    at + chrono::Duration::from_std(request.lease).unwrap_or(chrono::Duration::minutes(1))
}

async fn claim_one(
    db: &mut Connection,
    found: SessionRecord,
    leased_until: Option<DateTime<Utc>>,
    request: &ClaimRequest,
    at: DateTime<Utc>,
) -> Result<Option<Claimed>, StoreError> {
    let mut found = found;
    let before = found.session.clone();
    let Some(step) = found.claim(leased_until, request.operation_limit, at) else {
        sessions::store_observed(db, &found.session).await?;
        store(db, &found.session, &found.operation, None).await?;
        events::tell(db, &found.session, Happening::of_change(&before, &found.session)).await?;
        return Ok(None);
    };
    let SessionRecord { session, operation } = found;
    store(db, &session, &operation, Some((&request.owner, lease_end(request, at)))).await?;
    let lease =
        Lease { session_id: session.id.clone(), owner: request.owner.clone(), epoch: operation.epoch };
    Ok(Some(Claimed { step, session, operation, lease }))
}

pub(super) async fn next_due(
    db: &mut Connection,
    queues: &[Option<ControllerId>],
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let mut earliest: Option<DateTime<Utc>> = None;
    for controller in queues {
        let due: Option<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT next_attempt_at FROM operations WHERE queue = $1 AND next_attempt_at IS NOT NULL \
             AND lease_owner IS NULL ORDER BY next_attempt_at LIMIT 1",
        )
        .bind(queue(controller.as_ref()))
        .fetch_optional(&mut *db)
        .await?;
        // A claim whose holder died is due when it runs out, unless a clock that went back has it due even later.
        let leased: Option<(DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
            "SELECT lease_expires_at, next_attempt_at FROM operations WHERE queue = $1 \
             AND next_attempt_at IS NOT NULL AND lease_owner IS NOT NULL ORDER BY lease_expires_at LIMIT 1",
        )
        .bind(queue(controller.as_ref()))
        .fetch_optional(&mut *db)
        .await?;
        let runs_out = leased.map(|(runs_out, due)| runs_out.max(due));
        earliest = [earliest, due, runs_out].into_iter().flatten().min();
    }
    match earliest {
        Some(due) => Ok(Some(dialect::by_own_clock(db, due).await?)),
        None => Ok(None),
    }
}

pub(super) async fn record_step(
    db: &mut Connection,
    lease: Lease,
    step: StepRecord,
) -> Result<Recorded, StoreError> {
    let Some(mut found) = claimed(db, &lease).await? else { return Ok(Recorded::Stale) };
    let SessionRecord { session: before, operation: claimed } = found.clone();
    let (keep_tombstone, forgotten) = (step.keep_tombstone, step.forgotten);
    let at = dialect::present(db).await?;
    if found.apply(step, lease.epoch, at) == Applied::Removed {
        let session = &found.session;
        if forgotten {
            verbs::forget_one(db, &Actor::System(Rule::Expiry), session.id.as_str(), at, keep_tombstone)
                .await?;
        } else {
            sessions::remove(db, session, at, keep_tombstone).await?;
            events::tell(db, session, [Happening::of_deletion(session)]).await?;
        }
        return Ok(Recorded::Removed);
    }
    let SessionRecord { session, operation } = &found;
    sessions::store_observed(db, session).await?;
    store(db, session, operation, None).await?;
    let told = Happening::of_operation(&claimed, operation, before.phase, session);
    events::tell(db, session, told).await?;
    events::tell(db, session, Happening::of_change(&before, session)).await?;
    Ok(Recorded::Stored)
}

pub(super) async fn retry_unplaced(db: &mut Connection, limit: u32) -> Result<u64, StoreError> {
    let at = dialect::present(db).await?;
    let done = sqlx::query(
        "UPDATE operations SET next_attempt_at = $1 WHERE session_id IN (SELECT o.session_id FROM operations o \
         JOIN sessions s ON s.id = o.session_id WHERE o.queue = '' AND o.next_attempt_at > $1 \
         AND o.lease_owner IS NULL ORDER BY s.created_at, s.id LIMIT $2)",
    )
    .bind(at)
    .bind(i64::from(limit))
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

pub(super) async fn retry_failing(db: &mut Connection, controller: ControllerId) -> Result<u64, StoreError> {
    let at = dialect::present(db).await?;
    let done = sqlx::query(
        "UPDATE operations SET next_attempt_at = $2 WHERE queue = $1 AND next_attempt_at > $2 \
         AND failures > 0 AND lease_owner IS NULL",
    )
    .bind(controller.as_str())
    .bind(at)
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// A session that was observed, if nothing has happened to it or to its settled operation since it was read.
pub(super) async fn untouched(
    db: &mut Connection,
    change: &ObservedChange,
) -> Result<Option<SessionRecord>, StoreError> {
    let row = sqlx::query(select_sessions!(
        "WHERE s.id = $1 AND o.updated_at = $2 AND s.updated_at = $3 AND o.next_attempt_at IS NULL \
         AND o.lease_owner IS NULL"
    ))
    .bind(change.session_id.as_str())
    .bind(change.operation_seen)
    .bind(change.session_seen)
    .fetch_optional(db)
    .await?;
    row.as_ref().map(record).transpose()
}
