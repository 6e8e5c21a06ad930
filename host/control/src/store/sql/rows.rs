//! Rows into domain types and back.

use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::types::Json;

use super::Row;
use crate::domain::{
    Amounts, Capabilities, Controller, ControllerId, ControllerStatus, Epoch, Factor, Generation, Ledger,
    Operation, OperationId, OperationKind, Overcommit, Phase, Session, SessionId, Wish, WishedState,
};
use crate::store::{Glance, SessionRecord, StoreError};

/// A query for sessions with their operations; the argument is everything behind the join.
macro_rules! select_sessions {
    ($tail:literal) => {
        concat!(
            "SELECT s.id, s.user_id, s.template_id, s.controller_id, s.controller_type, s.node_id, s.state, \
             s.deleting, s.purge_home, s.forget_after, s.generation, s.phase, s.observed_generation, \
             s.conditions, s.spec, s.spec_hash, s.controller_config, s.placement, s.last_activity, \
             s.running_since, s.started_at, s.created_at, s.updated_at, s.moving_to, \
             o.id AS op_id, o.kind AS op_kind, o.generation AS op_generation, o.attempt AS op_attempt, \
             o.failures AS op_failures, o.internal_failures AS op_internal_failures, \
             o.next_attempt_at AS op_next_attempt_at, o.deadline AS op_deadline, o.epoch AS op_epoch, \
             o.handle AS op_handle, o.accepted AS op_accepted, o.message AS op_message, \
             o.last_error AS op_last_error, o.established AS op_established, o.repairs AS op_repairs, \
             o.repaired_at AS op_repaired_at, o.updated_at AS op_updated_at, \
             o.lease_expires_at AS op_leased_until \
             FROM sessions s JOIN operations o ON o.session_id = s.id ",
            $tail
        )
    };
}
pub(super) use select_sessions;

fn corrupt(table: &'static str, message: impl Into<String>) -> StoreError {
    StoreError::Corrupt { table, message: message.into() }
}

fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, StoreError> {
    let Json(value) = row.try_get::<Json<T>, _>(column)?;
    Ok(value)
}

fn counter(row: &Row, column: &str) -> Result<u32, StoreError> {
    Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX))
}

/// A row of [`select_sessions`].
pub(super) fn record(row: &Row) -> Result<SessionRecord, StoreError> {
    let session = session(row)?;
    let kind: String = row.try_get("op_kind")?;
    let operation = Operation {
        session_id: session.id.clone(),
        id: OperationId::stored(row.try_get("op_id")?),
        kind: OperationKind::parse(&kind).ok_or_else(|| corrupt("operations", format!("kind {kind}")))?,
        generation: Generation::from_db(row.try_get("op_generation")?),
        attempt: counter(row, "op_attempt")?,
        failures: counter(row, "op_failures")?,
        internal_failures: counter(row, "op_internal_failures")?,
        next_attempt_at: row.try_get("op_next_attempt_at")?,
        deadline: row.try_get("op_deadline")?,
        epoch: Epoch::from_db(row.try_get("op_epoch")?),
        handle: row.try_get("op_handle")?,
        accepted: row.try_get("op_accepted")?,
        message: row.try_get("op_message")?,
        last_error: row.try_get("op_last_error")?,
        established: row.try_get("op_established")?,
        repairs: counter(row, "op_repairs")?,
        repaired_at: row.try_get("op_repaired_at")?,
        updated_at: row.try_get("op_updated_at")?,
    };
    Ok(SessionRecord { session, operation })
}

/// All rows that can be read. One that cannot is left out: it must not take the others with it.
pub(super) fn readable(rows: &[Row]) -> Vec<SessionRecord> {
    let read = |row: &Row| match record(row) {
        Ok(record) => Some(record),
        Err(error) => {
            let id = row.try_get::<String, _>("id").unwrap_or_default();
            tracing::error!(session = id, %error, "a session is left out");
            None
        }
    };
    rows.iter().filter_map(read).collect()
}

/// A row of the columns that are compared with what a backend shows.
pub(super) fn glance(row: &Row) -> Result<Glance, StoreError> {
    Ok(Glance {
        id: session_id(row)?,
        wish: wish(row)?.1,
        phase: phase(row)?,
        node_id: row.try_get("node_id")?,
        conditions: json(row, "conditions")?,
        last_activity: row.try_get("last_activity")?,
    })
}

fn session_id(row: &Row) -> Result<SessionId, StoreError> {
    let id: &str = row.try_get("id")?;
    SessionId::parse(id).map_err(|_| corrupt("sessions", format!("id {id}")))
}

fn phase(row: &Row) -> Result<Phase, StoreError> {
    let phase: &str = row.try_get("phase")?;
    Phase::parse(phase).ok_or_else(|| corrupt("sessions", format!("phase {phase}")))
}

/// The state that is wanted or was before the session was to be gone, and the whole wish.
fn wish(row: &Row) -> Result<(WishedState, Wish), StoreError> {
    let state: &str = row.try_get("state")?;
    let state = WishedState::parse(state).ok_or_else(|| corrupt("sessions", format!("state {state}")))?;
    Ok(match row.try_get("deleting")? {
        true => (state, Wish::Gone { purge_home: row.try_get("purge_home")? }),
        false => (state, Wish::State(state)),
    })
}

fn session(row: &Row) -> Result<Session, StoreError> {
    let (state, wish) = wish(row)?;
    let controller_id: Option<String> = row.try_get("controller_id")?;
    let controller_type: Option<String> = row.try_get("controller_type")?;
    let placed = match controller_id {
        Some(id) => Some((controller(id)?, controller_type.unwrap_or_default())),
        None => None,
    };
    Ok(Session {
        id: session_id(row)?,
        user_id: row.try_get("user_id")?,
        template_id: row.try_get("template_id")?,
        wish,
        state,
        phase: phase(row)?,
        placed,
        moving_to: row.try_get::<Option<String>, _>("moving_to")?.map(controller).transpose()?,
        placement: json(row, "placement")?,
        node_id: row.try_get("node_id")?,
        spec: json(row, "spec")?,
        controller_config: json(row, "controller_config")?,
        spec_hash: row.try_get("spec_hash")?,
        conditions: json(row, "conditions")?,
        generation: Generation::from_db(row.try_get("generation")?),
        forget_after: row.try_get("forget_after")?,
        observed_generation: row.try_get::<Option<i64>, _>("observed_generation")?.map(Generation::from_db),
        last_activity: row.try_get("last_activity")?,
        running_since: row.try_get("running_since")?,
        started_at: row.try_get("started_at")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn controller(id: String) -> Result<ControllerId, StoreError> {
    ControllerId::parse(&id).map_err(|_| corrupt("controllers", format!("id {id}")))
}

/// Amounts as [`Amounts::to_db`] writes them; a column without a name has none.
fn amounts(row: &Row, columns: [&str; 4]) -> Result<Amounts, StoreError> {
    let mut stored = [0; 4];
    for (amount, column) in stored.iter_mut().zip(columns).filter(|(_, column)| !column.is_empty()) {
        *amount = row.try_get(column)?;
    }
    Ok(Amounts::from_db(stored))
}

/// A row of `controllers`, all columns, with what of `fleet` says how often what they have is given away.
pub(super) fn controller_row(row: &Row) -> Result<Controller, StoreError> {
    let status: String = row.try_get("status")?;
    let capabilities: Option<Json<Capabilities>> = row.try_get("capabilities")?;
    let capabilities = capabilities.map(|Json(value)| value);
    let reserved =
        amounts(row, ["reserved_sessions", "reserved_cpu", "reserved_memory", "reserved_storage"])?;
    let unseen = amounts(row, ["", "unseen_cpu", "unseen_memory", "unseen_storage"])?;
    let capacity = capabilities.as_ref().map(|can| &can.capacity);
    let factor = |column| Ok::<_, StoreError>(Factor::from_db(row.try_get(column)?));
    let overcommit = Overcommit {
        cpu: factor("overcommit_cpu")?,
        memory: factor("overcommit_memory")?,
        storage: factor("overcommit_storage")?,
    };
    let ledger = Ledger::new(capacity, overcommit, reserved, unseen);
    Ok(Controller {
        id: controller(row.try_get("id")?)?,
        controller_type: row.try_get("type")?,
        name: row.try_get("name")?,
        endpoint: row.try_get("endpoint")?,
        remote: row.try_get("remote")?,
        status: ControllerStatus::parse(&status)
            .ok_or_else(|| corrupt("controllers", format!("status {status}")))?,
        message: row.try_get("message")?,
        capabilities,
        labels: json(row, "labels")?,
        operator_labels: json(row, "operator_labels")?,
        draining: row.try_get("draining")?,
        sessions: counter(row, "current_sessions")?,
        ledger,
        last_placed: u64::try_from(row.try_get::<i64, _>("last_placed")?).unwrap_or(0),
        active_server: row.try_get("active_server")?,
        last_heartbeat: row.try_get("last_heartbeat")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
