//! Operations: claiming them, and recording what came of them.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::rows::{record, select_sessions};
use super::{Connection, Row, dialect, events, servers, sessions, verbs};
use crate::domain::{
    Actor, ControllerId, Epoch, Happening, Lane, Operation, Rule, Session, SessionId, decide, now,
};
use crate::store::{
    Applied, ClaimRequest, Claimed, Claims, Due, DueLane, Lease, ObservedChange, Queue, Recorded,
    SessionRecord, StepRecord, StoreError,
};

/// A row that cannot be read is looked at again after so long, so that it does not hold up the others.
const UNREADABLE_RETRY: chrono::Duration = chrono::Duration::minutes(1);
/// Claims that ran out and are seen to in one transaction.
const ENDED_AT_ONCE: i64 = 256;

/// The queue of a session in the table.
fn queue(controller: Option<&ControllerId>) -> &str {
    controller.map_or("", |id| id.as_str())
}

/// The lane of the step that is next, as far as that can be known before it is due.
pub(super) fn lane(session: &Session, operation: &Operation) -> Lane {
    Lane::of(decide(session, operation, operation.next_attempt_at.unwrap_or(operation.updated_at)))
}

/// What is stored of an operation, in the order of the parameters from `$2` on.
macro_rules! bind_operation {
    ($query:expr, $session:expr, $operation:expr, $lease:expr) => {
        $query
            .bind($session.id.as_str())
            .bind(queue($session.controller_id()))
            .bind($operation.id.as_str())
            .bind($operation.kind.as_str())
            .bind($operation.generation.to_db())
            .bind(i64::from($operation.attempt))
            .bind(i64::from($operation.failures))
            .bind(i64::from($operation.internal_failures))
            .bind($operation.next_attempt_at)
            .bind($operation.deadline)
            .bind($lease.map(|(owner, _)| owner))
            .bind($lease.map(|(_, until)| until))
            .bind($operation.epoch.to_db())
            .bind(&$operation.handle)
            .bind($operation.accepted)
            .bind(&$operation.message)
            .bind(&$operation.last_error)
            .bind($operation.updated_at)
            .bind($operation.established)
            .bind(i64::from($operation.repairs))
            .bind($operation.repaired_at)
            .bind(lane($session, $operation).to_db())
    };
}

/// Stores the operation of a new session.
pub(super) async fn insert(
    db: &mut Connection,
    session: &Session,
    operation: &Operation,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "INSERT INTO operations (session_id, queue, id, kind, generation, attempt, failures, \
         internal_failures, next_attempt_at, deadline, lease_owner, lease_expires_at, epoch, handle, accepted, \
         message, last_error, updated_at, established, repairs, repaired_at, lane) VALUES ($1, $2, $3, $4, $5, \
         $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)",
    );
    let nobody: Option<(&str, DateTime<Utc>)> = None;
    bind_operation!(insert, session, operation, nobody).execute(db).await?;
    Ok(())
}

/// Stores an operation, claimed by somebody until some time or by nobody.
pub(super) async fn store(
    db: &mut Connection,
    session: &Session,
    operation: &Operation,
    lease: Option<(&str, DateTime<Utc>)>,
) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE operations SET queue = $2, id = $3, kind = $4, generation = $5, attempt = $6, failures = $7, \
         internal_failures = $8, next_attempt_at = $9, deadline = $10, lease_owner = $11, \
         lease_expires_at = $12, epoch = $13, handle = $14, accepted = $15, message = $16, last_error = $17, \
         updated_at = $18, established = $19, repairs = $20, repaired_at = $21, lane = $22 \
         WHERE session_id = $1",
    );
    bind_operation!(update, session, operation, lease).execute(db).await?;
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

pub(super) async fn claim_due(db: &mut Connection, mut request: ClaimRequest) -> Result<Claims, StoreError> {
    let at = dialect::present(db).await?;
    let Some(own) = servers::in_charge(db, &mut request).await? else { return Ok(Claims::default()) };
    see_to_ended(db, &request, at).await?;
    let mut all = Claims::default();
    for queue in &request.queues {
        if all.work.len() >= request.most {
            break;
        }
        claim_in(db, queue, (&request, &own), at, &mut all).await?;
    }
    Ok(all)
}

/// What is due in a queue and lane, longest first.
pub(in crate::store) const CLAIMABLE: &str = select_sessions!(
    "WHERE o.queue = $1 AND o.lane = $2 AND o.next_attempt_at <= $3 AND o.lease_owner IS NULL \
     ORDER BY o.next_attempt_at LIMIT $4"
);

/// Claims what is due in one queue, as far as there is room for it.
async fn claim_in(
    db: &mut Connection,
    asked: &Queue,
    (request, own): (&ClaimRequest, &HashMap<ControllerId, Epoch>),
    at: DateTime<Utc>,
    all: &mut Claims,
) -> Result<(), StoreError> {
    let mut room = asked.room.clone();
    for lane in &asked.lanes {
        let rows = sqlx::query(CLAIMABLE)
            .bind(queue(asked.controller.as_ref()))
            .bind(lane.to_db())
            .bind(at)
            .bind(i64::from(room.free(*lane)))
            .fetch_all(&mut *db)
            .await?;
        for row in &rows {
            match record(row) {
                Ok(found) => {
                    let leased_until = row.try_get("op_leased_until")?;
                    let id = found.session.id.clone();
                    match claim_one(db, found, leased_until, request, at).await? {
                        Some(claimed) => {
                            room.take(Lane::of(claimed.step));
                            let controller_epoch =
                                claimed.session.controller_id().and_then(|id| own.get(id)).copied();
                            all.work.push(Claimed { controller_epoch, ..claimed });
                        }
                        None => all.rested.push(id),
                    }
                }
                Err(error) => {
                    let id: String = row.try_get("id")?;
                    tracing::error!(session = %id, %error, "a session cannot be worked on");
                    put_off(db, &id, at + UNREADABLE_RETRY).await?;
                }
            }
        }
    }
    Ok(())
}

async fn put_off(db: &mut Connection, id: &str, until: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query("UPDATE operations SET next_attempt_at = $2 WHERE session_id = $1")
        .bind(id)
        .bind(until)
        .execute(db)
        .await?;
    Ok(())
}

/// Claims that ran out, longest first.
pub(in crate::store) const ENDED: &str = "SELECT session_id, lease_owner FROM operations \
     WHERE lease_owner IS NOT NULL AND lease_expires_at <= $1 ORDER BY lease_expires_at LIMIT $2";

/// Renews claims that ran out under work that has not ended: a second call must not begin beside the first. Whatever
/// else ran out is nobody's from now on.
async fn see_to_ended(
    db: &mut Connection,
    request: &ClaimRequest,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let over: Vec<(String, String)> =
        sqlx::query_as(ENDED).bind(at).bind(ENDED_AT_ONCE).fetch_all(&mut *db).await?;
    for (id, owner) in over {
        let working = owner == request.owner && request.in_flight.iter().any(|busy| busy.as_str() == id);
        if working {
            tracing::warn!(session = id, "a step takes longer than its claim; the claim is renewed");
            sqlx::query("UPDATE operations SET lease_expires_at = $2 WHERE session_id = $1")
                .bind(id)
                .bind(lease_end(request, at))
                .execute(&mut *db)
                .await?;
        } else {
            // When it ran out is remembered: until then nobody could have done anything.
            sqlx::query("UPDATE operations SET lease_owner = NULL WHERE session_id = $1")
                .bind(id)
                .execute(&mut *db)
                .await?;
        }
    }
    Ok(())
}

/// Gives back what an owner has claimed and does not work on. Nobody could have done anything until now.
pub(super) async fn release_claims(
    db: &mut Connection,
    owner: String,
    in_flight: HashSet<SessionId>,
) -> Result<usize, StoreError> {
    let at = dialect::present(db).await?;
    let claimed: Vec<String> = sqlx::query_scalar("SELECT session_id FROM operations WHERE lease_owner = $1")
        .bind(&owner)
        .fetch_all(&mut *db)
        .await?;
    let mut released = 0;
    for id in claimed.iter().filter(|id| !in_flight.iter().any(|busy| busy.as_str() == id.as_str())) {
        tracing::warn!(session = id, "claimed, but nobody works on it; it is free again");
        sqlx::query("UPDATE operations SET lease_owner = NULL, lease_expires_at = $2 WHERE session_id = $1")
            .bind(id)
            .bind(at)
            .execute(&mut *db)
            .await?;
        released += 1;
    }
    Ok(released)
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
    Ok(Some(Claimed { step, session, operation, lease, controller_epoch: None }))
}

/// One look at each queue and lane that has something, however much that is.
pub(in crate::store) const DUE: &str = "\
WITH RECURSIVE queues(queue) AS ( \
    SELECT (SELECT queue FROM operations WHERE next_attempt_at IS NOT NULL AND lease_owner IS NULL \
            ORDER BY queue LIMIT 1) \
    UNION ALL \
    SELECT (SELECT o.queue FROM operations o WHERE o.queue > queues.queue AND o.next_attempt_at IS NOT NULL \
            AND o.lease_owner IS NULL ORDER BY o.queue LIMIT 1) \
      FROM queues WHERE queues.queue IS NOT NULL \
), \
lanes(lane) AS (SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2), \
due(queue, lane, due_at) AS ( \
    SELECT queue, lane, \
           (SELECT o.next_attempt_at FROM operations o WHERE o.queue = queues.queue AND o.lane = lanes.lane \
            AND o.next_attempt_at IS NOT NULL AND o.lease_owner IS NULL ORDER BY o.next_attempt_at LIMIT 1) \
      FROM queues CROSS JOIN lanes WHERE queue IS NOT NULL \
) \
SELECT queue, lane, due_at FROM due WHERE due_at IS NOT NULL \
UNION ALL \
SELECT NULL, NULL, (SELECT lease_expires_at FROM operations WHERE lease_owner IS NOT NULL \
                    ORDER BY lease_expires_at LIMIT 1)";

pub(super) async fn due(db: &mut Connection) -> Result<Due, StoreError> {
    let rows = sqlx::query(DUE).fetch_all(&mut *db).await?;
    // Times of the database, by the clock of whoever waits for them.
    let ahead = dialect::present(db).await? - now();
    let mut found = Due::default();
    for row in &rows {
        let at: Option<DateTime<Utc>> = row.try_get(2)?;
        let at = at.map(|at| at - ahead);
        match (row.try_get::<Option<String>, _>(0)?, at) {
            (Some(queue), Some(at)) => found.lanes.extend(due_lane(row, queue, at)?),
            (_, at) => found.claim_ends = at,
        }
    }
    Ok(found)
}

fn due_lane(row: &Row, queue: String, at: DateTime<Utc>) -> Result<Option<DueLane>, StoreError> {
    let controller = match queue.is_empty() {
        true => None,
        false => match ControllerId::parse(&queue) {
            Ok(id) => Some(id),
            Err(error) => {
                tracing::error!(queue, %error, "sessions cannot be worked on");
                return Ok(None);
            }
        },
    };
    let number: i32 = row.try_get(1)?;
    let lane = Lane::ALL.into_iter().find(|lane| lane.to_db() == i64::from(number));
    Ok(lane.map(|lane| DueLane { controller, lane, at }))
}

/// What is due only then was put off by a clock that has been set back since: no pause is so long.
const LONGEST_PAUSE: chrono::Duration = chrono::Duration::hours(1);

/// Makes due what a clock that was set back has put off.
pub(super) async fn sweep(db: &mut Connection) -> Result<(), StoreError> {
    let at = dialect::present(db).await?;
    let done = sqlx::query("UPDATE operations SET next_attempt_at = $1 WHERE next_attempt_at > $2")
        .bind(at)
        .bind(at + LONGEST_PAUSE)
        .execute(db)
        .await?;
    if done.rows_affected() > 0 {
        tracing::warn!(
            count = done.rows_affected(),
            "operations were due unbelievably late; was a clock set back?"
        );
    }
    Ok(())
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
    if *session != before {
        sessions::store_observed(db, session).await?;
    }
    store(db, session, operation, None).await?;
    let told = Happening::of_operation(&claimed, operation, before.phase, session);
    events::tell(db, session, told.into_iter().chain(Happening::of_change(&before, session))).await?;
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
