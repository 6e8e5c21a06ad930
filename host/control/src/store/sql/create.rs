//! Storing new sessions and placing them, in one transaction each.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::Row as _;
use sqlx::types::Json;

use super::roster::Roster;
use super::{Connection, audit, controllers, dialect, events, operations, quotas, sessions};
use crate::domain::{
    Action, Condition, ConditionStatus, ControllerId, Deed, Generation, Happening, Limits, Operation, Phase,
    Session, SessionId, condition_type, due,
};
use crate::store::{
    Created, IdempotencyKey, Lease, NewSession, PlacementDecision, Placer, Recorded, SessionRecord,
    StoreError,
};

/// How long a session that found no room waits for its next try, if nothing wakes it before.
const FIRST_RETRY: chrono::Duration = chrono::Duration::seconds(1);

pub(super) async fn create(
    db: &mut Connection,
    new: NewSession,
    limits: Limits,
    roster: Arc<Roster>,
) -> Result<Created, StoreError> {
    let NewSession { by, mut session, placer, idempotency, render } = new;
    let at = dialect::present(db).await?;
    if let Some(key) = &idempotency
        && let Some(answer) = earlier_answer(db, key, at).await?
    {
        return Ok(answer);
    }

    let exceeded = quotas::exceeded_by_new(db, &session.user_id, &limits, &session.spec).await?;
    if !exceeded.is_empty() {
        return Ok(Created::OverQuota(exceeded));
    }

    let mut operation = Operation::first(session.id.clone(), at);
    match roster.choose(db, placer.as_ref()).await? {
        PlacementDecision::On(id, controller_type) => {
            controllers::count(db, &id, 1).await?;
            assign(&mut session, id, controller_type, at)?;
        }
        PlacementDecision::Later(why) => {
            put_off(&mut session, why, at);
            operation.next_attempt_at = Some(at + FIRST_RETRY);
        }
        refused => return Ok(Created::Refused(refused)),
    }
    session.conditions.set(not_started(at));

    insert(db, &session).await?;
    operations::insert(db, &session, &operation).await?;
    events::tell(db, &session, Happening::of_creation(&session)).await?;
    let details = json!({
        "user_id": session.user_id,
        "template_id": session.template_id,
        "controller_id": session.controller_id(),
        "generation": session.generation,
    });
    let deed = Deed::to_session(Action::SessionCreate, &session.id).with(details);
    audit::record(db, at, &by, deed).await?;
    let record = SessionRecord { session, operation };
    if let Some(key) = idempotency {
        store_answer(db, &key, &record.session.id, render(&record), at).await?;
    }
    Ok(Created::Stored(Box::new(record)))
}

/// Places a claimed session that has waited for room.
pub(super) async fn place(
    db: &mut Connection,
    lease: Lease,
    served: Generation,
    placer: Arc<dyn Placer>,
    (retry_at, limit): (DateTime<Utc>, Duration),
    roster: Arc<Roster>,
) -> Result<Recorded, StoreError> {
    let Some(SessionRecord { mut session, mut operation }) = operations::claimed(db, &lease).await? else {
        return Ok(Recorded::Stale);
    };
    let before = session.clone();
    let at = dialect::present(db).await?;
    operation.next_attempt_at = Some(at);
    operation.updated_at = at;
    session.updated_at = at;
    // The wish may have changed since the claim; then what is next is decided anew.
    if session.generation == served && session.placed.is_none() {
        let end = waits_until(&mut session, &mut operation, limit, at);
        match roster.choose(db, placer.as_ref()).await? {
            PlacementDecision::On(id, controller_type) => {
                controllers::count(db, &id, 1).await?;
                assign(&mut session, id, controller_type, at)?;
                store_resolved(db, &session).await?;
            }
            PlacementDecision::Later(why)
            | PlacementDecision::Nobody(why)
            | PlacementDecision::Invalid { message: why, .. } => {
                put_off(&mut session, why, at);
                operation.next_attempt_at = Some(retry_at.min(end));
                operation.failures = operation.failures.saturating_add(1);
                if end <= at {
                    give_up(&mut session, &mut operation, at);
                }
            }
        }
        if session.placed.is_some() {
            // What is done there has a limit of its own.
            (operation.failures, operation.deadline) = (0, None);
        }
        sessions::store_observed(db, &session).await?;
        events::tell(db, &session, Happening::of_change(&before, &session)).await?;
    }
    operations::store(db, &session, &operation, None).await?;
    Ok(Recorded::Stored)
}

/// Until when a session may wait for a controller. A new wish has all the time again, also where an older one failed.
fn waits_until(
    session: &mut Session,
    operation: &mut Operation,
    limit: Duration,
    at: DateTime<Utc>,
) -> DateTime<Utc> {
    if operation.generation != session.generation {
        (operation.generation, operation.deadline, operation.failures) = (session.generation, None, 0);
        if session.phase == Phase::Failed {
            session.phase = Phase::Pending;
            session.conditions.set(not_started(at));
        }
    }
    let limit = chrono::Duration::from_std(limit).unwrap_or(chrono::Duration::days(1));
    *operation.deadline.get_or_insert(at + limit)
}

fn not_started(at: DateTime<Utc>) -> Condition {
    Condition {
        kind: condition_type::READY.to_owned(),
        status: ConditionStatus::False,
        reason: "Pending".to_owned(),
        message: "not started yet".to_owned(),
        since: at,
    }
}

/// No controller could take it for too long.
fn give_up(session: &mut Session, operation: &mut Operation, at: DateTime<Utc>) {
    let scheduled = session.conditions.get(condition_type::SCHEDULED);
    let why = scheduled.map_or("", |scheduled| scheduled.message.as_str());
    session.conditions.set(Condition {
        kind: condition_type::READY.to_owned(),
        status: ConditionStatus::False,
        reason: "DeadlineExceeded".to_owned(),
        message: format!("no controller could take it in time; last: {why}"),
        since: at,
    });
    session.phase = Phase::Failed;
    session.observed_generation = Some(session.generation);
    operation.settle();
}

fn assign(
    session: &mut Session,
    id: ControllerId,
    controller_type: String,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    session.conditions.set(Condition {
        kind: condition_type::SCHEDULED.to_owned(),
        status: ConditionStatus::True,
        reason: "Placed".to_owned(),
        message: format!("placed on {id}"),
        since: at,
    });
    Ok(session.place_on(id, controller_type)?)
}

/// Stores what placement made of the spec; see [`Session::place_on`].
async fn store_resolved(db: &mut Connection, session: &Session) -> Result<(), StoreError> {
    sqlx::query("UPDATE sessions SET spec = $2, spec_hash = $3, controller_config = $4 WHERE id = $1")
        .bind(session.id.as_str())
        .bind(Json(&session.spec))
        .bind(&session.spec_hash)
        .bind(Json(&session.controller_config))
        .execute(db)
        .await?;
    Ok(())
}

fn put_off(session: &mut Session, why: String, at: DateTime<Utc>) {
    session.conditions.set(Condition {
        kind: condition_type::SCHEDULED.to_owned(),
        status: ConditionStatus::False,
        reason: "Unschedulable".to_owned(),
        message: why,
        since: at,
    });
}

pub(super) async fn insert(db: &mut Connection, session: &Session) -> Result<(), StoreError> {
    let [sessions, cpu, memory, storage] = session.held().to_db();
    sqlx::query(
        "INSERT INTO sessions (id, user_id, template_id, controller_id, controller_type, node_id, state, \
         generation, phase, conditions, url, spec, spec_hash, controller_config, placement, created_at, \
         updated_at, running_since, started_at, policy_due_at, held_sessions, held_cpu, held_memory, \
         held_storage) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $18, $19, $20, $21, $22, $23, $24)",
    )
    .bind(session.id.as_str())
    .bind(&session.user_id)
    .bind(&session.template_id)
    .bind(session.placed.as_ref().map(|(id, _)| id.as_str()))
    .bind(session.placed.as_ref().map(|(_, controller_type)| controller_type.as_str()))
    .bind(&session.node_id)
    .bind(session.state.as_str())
    .bind(session.generation.to_db())
    .bind(session.phase.as_str())
    .bind(Json(&session.conditions))
    // Nobody reads it here: it is for others who read the table, as they did before.
    .bind(session.url())
    .bind(Json(&session.spec))
    .bind(&session.spec_hash)
    .bind(Json(&session.controller_config))
    .bind(Json(&session.placement))
    .bind(session.created_at)
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

/// What a request with this key was answered, if it was.
pub(super) async fn earlier_answer(
    db: &mut Connection,
    key: &IdempotencyKey,
    at: DateTime<Utc>,
) -> Result<Option<Created>, StoreError> {
    let row = sqlx::query(
        "SELECT body_hash, session_id, response FROM idempotency_keys WHERE caller = $1 AND key = $2 \
         AND expires_at > $3",
    )
    .bind(&key.caller)
    .bind(&key.key)
    .bind(at)
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.try_get::<String, _>("body_hash")? != key.body_hash {
        return Ok(Some(Created::KeyMismatch));
    }
    let id: String = row.try_get("session_id")?;
    let session_id = SessionId::parse(&id)
        .map_err(|error| StoreError::Corrupt { table: "idempotency_keys", message: error.to_string() })?;
    Ok(Some(Created::Replayed { session_id, response: row.try_get("response")? }))
}

/// An answer that is not kept any more must not be in the way of the next one.
async fn forget_expired(
    db: &mut Connection,
    key: &IdempotencyKey,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE caller = $1 AND key = $2 AND expires_at <= $3")
        .bind(&key.caller)
        .bind(&key.key)
        .bind(at)
        .execute(db)
        .await?;
    Ok(())
}

/// Binds an answer to its key.
pub(super) async fn store_answer(
    db: &mut Connection,
    key: &IdempotencyKey,
    session_id: &SessionId,
    response: String,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    forget_expired(db, key, at).await?;
    let keep = chrono::Duration::from_std(key.keep).unwrap_or(chrono::Duration::days(1));
    sqlx::query(
        "INSERT INTO idempotency_keys (caller, key, body_hash, session_id, response, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&key.caller)
    .bind(&key.key)
    .bind(&key.body_hash)
    .bind(session_id.as_str())
    .bind(response)
    .bind(at)
    .bind(at + keep)
    .execute(db)
    .await?;
    Ok(())
}
