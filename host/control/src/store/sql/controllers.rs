//! Controllers: registration, health, and how many sessions they have.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::Row as _;
use sqlx::types::Json;

use super::rows::controller_row;
use super::{Connection, Row, audit, dialect, events, instances, reservations};
use crate::domain::{
    Action, Actor, Capabilities, Controller, ControllerId, ControllerStatus, Deed, Happening, Registration,
    now,
};
use crate::store::{ControllerChange, ControllerDeletion, ProbeRecord, StoreError};

pub(super) async fn register(
    db: &mut Connection,
    by: Actor,
    registration: Registration,
) -> Result<ControllerId, StoreError> {
    let at = now();
    take_in(db, &registration).await?;
    let known: Option<(String, Json<BTreeMap<String, String>>)> =
        sqlx::query_as("SELECT endpoint, labels FROM controllers WHERE type = $1 AND name = $2")
            .bind(&registration.controller_type)
            .bind(&registration.name)
            .fetch_optional(&mut *db)
            .await?;
    let news = known != Some((registration.endpoint.clone(), Json(registration.labels.clone())));
    let details = json!({
        "type": registration.controller_type,
        "name": registration.name,
        "endpoint": registration.endpoint,
        "labels": registration.labels,
    });
    let row = sqlx::query(
        "INSERT INTO controllers (id, type, name, endpoint, labels, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $6) \
         ON CONFLICT (type, name) DO UPDATE SET endpoint = excluded.endpoint, labels = excluded.labels, \
         updated_at = excluded.updated_at \
         RETURNING id",
    )
    .bind(ControllerId::generate().as_str())
    .bind(registration.controller_type)
    .bind(registration.name)
    .bind(registration.endpoint)
    .bind(Json(registration.labels))
    .bind(at)
    .fetch_one(&mut *db)
    .await?;
    let id: String = row.try_get("id")?;
    let id = ControllerId::parse(&id)
        .map_err(|error| StoreError::Corrupt { table: "controllers", message: error.to_string() })?;
    // It comes with every start, mostly as it was.
    if news {
        let at = dialect::present(db).await?;
        let deed = Deed::to_controller(Action::ControllerRegister, &id).with(details);
        audit::record(db, at, &by, deed).await?;
        reservations::stir(db, &id).await?;
    }
    Ok(id)
}

/// What ran elsewhere may become part of a server, once nothing is heard of it there any more.
async fn take_in(db: &mut Connection, registration: &Registration) -> Result<(), StoreError> {
    let id: Option<String> =
        sqlx::query_scalar("SELECT id FROM controllers WHERE type = $1 AND name = $2 AND remote")
            .bind(&registration.controller_type)
            .bind(&registration.name)
            .fetch_optional(&mut *db)
            .await?;
    let Some(id) = id.and_then(|id| ControllerId::parse(&id).ok()) else { return Ok(()) };
    if instances::is_heard_of(db, &id).await? {
        return Err(StoreError::RunsElsewhere(registration.name.clone()));
    }
    for sql in [
        "DELETE FROM controller_tokens WHERE controller_id = $1",
        "DELETE FROM controller_instances WHERE controller_id = $1",
        "UPDATE controllers SET remote = FALSE WHERE id = $1",
    ] {
        sqlx::query(sql).bind(id.as_str()).execute(&mut *db).await?;
    }
    Ok(())
}

macro_rules! select_controllers {
    ($rest:literal) => {
        concat!(
            "SELECT c.*, f.overcommit_cpu, f.overcommit_memory, f.overcommit_storage \
             FROM controllers c CROSS JOIN fleet f ",
            $rest
        )
    };
}

pub(super) async fn all(db: &mut Connection) -> Result<Vec<Controller>, StoreError> {
    let rows = sqlx::query(select_controllers!("ORDER BY c.created_at, c.id")).fetch_all(db).await?;
    // One that cannot be read is left out: it must not take the others with it.
    let read = |row: &Row| {
        controller_row(row).inspect_err(|error| tracing::error!(%error, "a controller is left out")).ok()
    };
    Ok(rows.iter().filter_map(read).collect())
}

pub(super) async fn one(db: &mut Connection, id: &ControllerId) -> Result<Option<Controller>, StoreError> {
    let row =
        sqlx::query(select_controllers!("WHERE c.id = $1")).bind(id.as_str()).fetch_optional(db).await?;
    row.as_ref().map(controller_row).transpose()
}

/// The type of a controller, by an id as a caller writes it.
pub(super) async fn type_of(db: &mut Connection, id: &str) -> Result<Option<String>, StoreError> {
    let found = sqlx::query_scalar("SELECT type FROM controllers WHERE id = $1").bind(id);
    Ok(found.fetch_optional(db).await?)
}

pub(super) async fn change(
    db: &mut Connection,
    by: Actor,
    id: ControllerId,
    change: ControllerChange,
) -> Result<Option<Controller>, StoreError> {
    let Some(mut controller) = one(db, &id).await? else { return Ok(None) };
    let before = controller.clone();
    controller.draining = change.draining.unwrap_or(controller.draining);
    for (key, value) in change.labels {
        match value {
            Some(value) => drop(controller.operator_labels.insert(key, value)),
            None => drop(controller.operator_labels.remove(&key)),
        }
    }
    controller.updated_at = now();
    sqlx::query("UPDATE controllers SET draining = $2, operator_labels = $3, updated_at = $4 WHERE id = $1")
        .bind(id.as_str())
        .bind(controller.draining)
        .bind(Json(&controller.operator_labels))
        .bind(controller.updated_at)
        .execute(&mut *db)
        .await?;
    if let Some(happening) = Happening::of_controller_change(&before, &controller) {
        events::tell_of_controller(db, &id, happening).await?;
        let at = dialect::present(db).await?;
        let details = json!({ "draining": controller.draining, "labels": controller.operator_labels });
        let deed = Deed::to_controller(Action::ControllerChange, &id).with(details);
        audit::record(db, at, &by, deed).await?;
        // There may be room now where there was none.
        reservations::stir(db, &id).await?;
    }
    Ok(Some(controller))
}

pub(super) async fn delete(
    db: &mut Connection,
    by: Actor,
    id: ControllerId,
) -> Result<ControllerDeletion, StoreError> {
    let sessions: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sessions WHERE controller_id = $1 OR moving_to = $1")
            .bind(id.as_str())
            .fetch_one(&mut *db)
            .await?;
    if sessions > 0 {
        return Ok(ControllerDeletion::HasSessions(sessions.unsigned_abs()));
    }
    let done =
        sqlx::query("DELETE FROM controllers WHERE id = $1").bind(id.as_str()).execute(&mut *db).await?;
    if done.rows_affected() == 0 {
        return Ok(ControllerDeletion::NoSuchController);
    }
    events::tell_of_controller(db, &id, Happening::of_controller_deletion(&id)).await?;
    let at = dialect::present(db).await?;
    audit::record(db, at, &by, Deed::to_controller(Action::ControllerDelete, &id)).await?;
    Ok(ControllerDeletion::Deleted)
}

/// Stores what a probe found; whether sessions are tried now that waited for room.
pub(super) async fn record_probe(
    db: &mut Connection,
    id: ControllerId,
    probe: ProbeRecord,
) -> Result<bool, StoreError> {
    let known: Option<(String, Option<Json<Capabilities>>)> =
        sqlx::query_as("SELECT status, capabilities FROM controllers WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *db)
            .await?;
    let status = known.as_ref().and_then(|(status, _)| ControllerStatus::parse(status));
    if let Some(known) = status
        && let Some(happening) = Happening::of_health(&id, known, probe.status, &probe.message)
    {
        events::tell_of_controller(db, &id, happening).await?;
    }
    let said = known.and_then(|(_, capabilities)| capabilities).map(|Json(said)| said);
    let news = status != Some(probe.status)
        || probe.capabilities.as_ref().is_some_and(|now| said.as_ref() != Some(now));
    let available = probe.capabilities.as_ref().is_some_and(|now| now.capacity.tells_available());
    sqlx::query(
        "UPDATE controllers SET status = $2, message = $3, capabilities = coalesce($4, capabilities), \
         last_heartbeat = coalesce($5, last_heartbeat), updated_at = $6 WHERE id = $1",
    )
    .bind(id.as_str())
    .bind(probe.status.as_str())
    .bind(probe.message)
    .bind(probe.capabilities.map(Json))
    .bind(probe.answered.then_some(probe.at))
    .bind(probe.at)
    .execute(&mut *db)
    .await?;
    if available {
        reservations::seen(db, &id, probe.at).await?;
    }
    // It got well, or has more than it said before.
    if news { reservations::stir(db, &id).await } else { Ok(false) }
}

/// How many sessions are placed on it.
pub(super) async fn placed(db: &mut Connection, id: &ControllerId) -> Result<u64, StoreError> {
    let placed: Option<i64> = sqlx::query_scalar("SELECT current_sessions FROM controllers WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(db)
        .await?;
    Ok(placed.and_then(|placed| u64::try_from(placed).ok()).unwrap_or(0))
}

/// Counts a session in or out.
pub(super) async fn count(db: &mut Connection, id: &ControllerId, change: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE controllers SET current_sessions = current_sessions + $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(change)
        .execute(db)
        .await?;
    Ok(())
}
