//! The processes of remote controllers: which of them is called, and whether they live.
//!
//! All of it goes by the time of the database. The active process keeps its role until its lease is over and another one is
//! heard of. A controller that is called elsewhere has another epoch from that moment on: nothing that was claimed before is
//! begun any more, and the next call comes under the new one.

use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

use serde_json::json;
use sqlx::Row as _;
use sqlx::types::Json;

use super::{Connection, Row, audit, dialect, enrollment, events};
use crate::domain::{
    Action, Actor, ControllerId, Deed, Epoch, Happening, Instance, InstanceRole, InstanceStatus, Place,
};
use crate::store::{Heard, Heartbeat, RemoteController, StoreError};

/// So many processes of one controller are remembered, for the sake of their tokens.
const MOST: i64 = 64;

/// The process that is called.
struct Incumbent {
    place: Place,
    lease_until: DateTime<Utc>,
}

async fn incumbent(db: &mut Connection, id: &ControllerId) -> Result<Option<Incumbent>, StoreError> {
    let active: Option<(String, String, String, DateTime<Utc>)> = sqlx::query_as(
        "SELECT instance, endpoint, ca, lease_until FROM controller_instances WHERE controller_id = $1 AND active",
    )
    .bind(id.as_str())
    .fetch_optional(db)
    .await?;
    Ok(active.map(|(instance, endpoint, ca, lease_until)| Incumbent {
        place: Place { instance, endpoint, ca },
        lease_until,
    }))
}

/// Whether the active process has the name of this place, is at another one, and may live. Processes are told apart by their
/// names only: another one under the same name must not take over at once.
pub(super) async fn is_elsewhere(
    db: &mut Connection,
    id: &ControllerId,
    place: &Place,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let active = incumbent(db, id).await?;
    Ok(active.is_some_and(|active| {
        active.place.instance == place.instance && active.place != *place && active.lease_until > at
    }))
}

/// Whether there is room for a process of this name, if need be in the place of the one that was not heard of for longest.
pub(super) async fn make_room(
    db: &mut Connection,
    id: &ControllerId,
    instance: &str,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let others: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM controller_instances WHERE controller_id = $1 AND instance <> $2",
    )
    .bind(id.as_str())
    .bind(instance)
    .fetch_one(&mut *db)
    .await?;
    if others < MOST {
        return Ok(true);
    }
    let oldest: Option<String> = sqlx::query_scalar(
        "SELECT instance FROM controller_instances WHERE controller_id = $1 AND instance <> $2 AND NOT active \
         AND lease_until <= $3 ORDER BY last_heartbeat LIMIT 1",
    )
    .bind(id.as_str())
    .bind(instance)
    .bind(at)
    .fetch_optional(&mut *db)
    .await?;
    let Some(oldest) = oldest else { return Ok(false) };
    for sql in [
        "DELETE FROM controller_instances WHERE controller_id = $1 AND instance = $2",
        "DELETE FROM controller_tokens WHERE controller_id = $1 AND instance = $2",
    ] {
        sqlx::query(sql).bind(id.as_str()).bind(&oldest).execute(&mut *db).await?;
    }
    Ok(true)
}

/// Stores where a process is, and makes it the active one if there is no other that lives; what it is then.
pub(super) async fn settle(
    db: &mut Connection,
    by: &Actor,
    id: &ControllerId,
    place: &Place,
    labels: &BTreeMap<String, String>,
    (at, lease_until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<InstanceRole, StoreError> {
    let before = incumbent(db, id).await?;
    let active = before
        .as_ref()
        .is_none_or(|before| before.place.instance == place.instance || before.lease_until <= at);
    // Two cannot be active even for a moment.
    if active {
        depose(db, id).await?;
    }
    sqlx::query(
        "INSERT INTO controller_instances (controller_id, instance, endpoint, ca, active, lease_until, status, \
         registered_at, last_heartbeat, labels) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) \
         ON CONFLICT (controller_id, instance) DO UPDATE SET endpoint = excluded.endpoint, ca = excluded.ca, \
         active = excluded.active, lease_until = excluded.lease_until, status = excluded.status, \
         registered_at = excluded.registered_at, last_heartbeat = excluded.last_heartbeat, \
         labels = excluded.labels",
    )
    .bind(id.as_str())
    .bind(&place.instance)
    .bind(&place.endpoint)
    .bind(&place.ca)
    .bind(active)
    .bind(lease_until)
    .bind(InstanceStatus::Healthy.as_str())
    .bind(at)
    .bind(Json(labels))
    .execute(&mut *db)
    .await?;
    if active && before.as_ref().is_none_or(|before| before.place != *place) {
        moved(db, by, id, place, before.map(|before| before.place.instance), at).await?;
    }
    Ok(InstanceRole::of(active))
}

async fn depose(db: &mut Connection, id: &ControllerId) -> Result<(), StoreError> {
    sqlx::query("UPDATE controller_instances SET active = FALSE WHERE controller_id = $1 AND active")
        .bind(id.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// The controller is called elsewhere from now on, and under another epoch.
async fn moved(
    db: &mut Connection,
    by: &Actor,
    id: &ControllerId,
    place: &Place,
    before: Option<String>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE controllers SET epoch = epoch + 1, endpoint = $2, updated_at = $3 WHERE id = $1")
        .bind(id.as_str())
        .bind(&place.endpoint)
        .bind(at)
        .execute(&mut *db)
        .await?;
    events::tell_of_controller(db, id, Happening::of_controller_move(id, place)).await?;
    let details = json!({ "instance": place.instance, "endpoint": place.endpoint, "previous": before });
    audit::record(db, at, by, Deed::to_controller(Action::ControllerActivate, id).with(details)).await
}

/// A process lives. `None` = there is no such process.
pub(super) async fn heard(db: &mut Connection, beat: Heartbeat) -> Result<Option<Heard>, StoreError> {
    let at = dialect::present(db).await?;
    // Who is about to end keeps nobody waiting.
    let lease_until = match beat.status {
        InstanceStatus::Draining => at,
        InstanceStatus::Healthy | InstanceStatus::Unhealthy => until(at, beat.lease),
    };
    let row = sqlx::query(
        "UPDATE controller_instances SET last_heartbeat = $3, lease_until = $4, status = $5, current_sessions = $6, \
         memory = $7, cpu = $8 WHERE controller_id = $1 AND instance = $2 RETURNING active, endpoint, ca, labels",
    )
    .bind(beat.id.as_str())
    .bind(&beat.instance)
    .bind(at)
    .bind(lease_until)
    .bind(beat.status.as_str())
    .bind(beat.current_sessions.map(i64::from))
    .bind(beat.memory)
    .bind(beat.cpu)
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    enrollment::token_used(db, &beat.token_hash, until(at, beat.token_overlap)).await?;
    let was_active: bool = row.try_get("active")?;
    let mut activated = false;
    if !was_active && beat.status != InstanceStatus::Draining {
        let before = incumbent(db, &beat.id).await?;
        if before.as_ref().is_none_or(|before| before.lease_until <= at) {
            depose(db, &beat.id).await?;
            sqlx::query(
                "UPDATE controller_instances SET active = TRUE WHERE controller_id = $1 AND instance = $2",
            )
            .bind(beat.id.as_str())
            .bind(&beat.instance)
            .execute(&mut *db)
            .await?;
            let labels: Option<Json<BTreeMap<String, String>>> = row.try_get("labels")?;
            if let Some(labels) = labels {
                sqlx::query("UPDATE controllers SET labels = $2 WHERE id = $1")
                    .bind(beat.id.as_str())
                    .bind(labels)
                    .execute(&mut *db)
                    .await?;
            }
            let place =
                Place { instance: beat.instance, endpoint: row.try_get("endpoint")?, ca: row.try_get("ca")? };
            let by = Actor::Controller {
                id: Some(beat.id.clone()),
                join_token: None,
                request_id: beat.request_id,
            };
            moved(db, &by, &beat.id, &place, before.map(|before| before.place.instance), at).await?;
            activated = true;
        }
    }
    let row = sqlx::query("SELECT epoch, draining FROM controllers WHERE id = $1")
        .bind(beat.id.as_str())
        .fetch_one(db)
        .await?;
    Ok(Some(Heard {
        role: InstanceRole::of(was_active || activated),
        activated,
        epoch: Epoch::from_db(row.try_get("epoch")?),
        draining: row.try_get("draining")?,
    }))
}

/// When something ends that begins then.
pub(super) fn until(at: DateTime<Utc>, length: std::time::Duration) -> DateTime<Utc> {
    let length = chrono::Duration::from_std(length).unwrap_or(chrono::Duration::days(1));
    at.checked_add_signed(length).unwrap_or(at)
}

/// Whether the process that is called was heard of in time.
pub(super) async fn is_heard_of(db: &mut Connection, id: &ControllerId) -> Result<bool, StoreError> {
    let at = dialect::present(db).await?;
    let heard = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM controller_instances WHERE controller_id = $1 AND active AND lease_until > $2)",
    );
    Ok(heard.bind(id.as_str()).bind(at).fetch_one(db).await?)
}

/// All remote controllers that have a process to be called.
pub(super) async fn remote(db: &mut Connection) -> Result<Vec<RemoteController>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.id, c.type, c.epoch, c.active_server, i.instance, i.endpoint, i.ca \
         FROM controllers c JOIN controller_instances i ON i.controller_id = c.id AND i.active WHERE c.remote",
    )
    .fetch_all(db)
    .await?;
    // One that cannot be read is left out: it must not take the others with it.
    let read = |row: &Row| {
        remote_row(row).inspect_err(|error| tracing::error!(%error, "a remote controller is left out")).ok()
    };
    Ok(rows.iter().filter_map(read).collect())
}

fn remote_row(row: &Row) -> Result<RemoteController, StoreError> {
    Ok(RemoteController {
        id: controller(row, "id")?,
        controller_type: row.try_get("type")?,
        epoch: Epoch::from_db(row.try_get("epoch")?),
        active_server: row.try_get("active_server")?,
        place: Place {
            instance: row.try_get("instance")?,
            endpoint: row.try_get("endpoint")?,
            ca: row.try_get("ca")?,
        },
    })
}

/// The processes of a controller, or of all: the active ones, and those that were heard of since then.
pub(super) async fn list(
    db: &mut Connection,
    id: Option<&ControllerId>,
    since: std::time::Duration,
) -> Result<Vec<Instance>, StoreError> {
    let at = dialect::present(db).await?;
    let since = chrono::Duration::from_std(since).ok().and_then(|since| at.checked_sub_signed(since));
    let rows = sqlx::query(
        "SELECT * FROM controller_instances WHERE ($1 IS NULL OR controller_id = $1) \
         AND (active OR last_heartbeat > $2) ORDER BY controller_id, active DESC, registered_at, instance",
    )
    .bind(id.map(ControllerId::as_str))
    .bind(since.unwrap_or(DateTime::<Utc>::UNIX_EPOCH))
    .fetch_all(db)
    .await?;
    rows.iter().map(instance).collect()
}

fn instance(row: &Row) -> Result<Instance, StoreError> {
    let status: String = row.try_get("status")?;
    let sessions: Option<i64> = row.try_get("current_sessions")?;
    Ok(Instance {
        controller_id: controller(row, "controller_id")?,
        instance: row.try_get("instance")?,
        endpoint: row.try_get("endpoint")?,
        role: InstanceRole::of(row.try_get("active")?),
        status: InstanceStatus::parse(&status).unwrap_or(InstanceStatus::Unhealthy),
        current_sessions: sessions.map(|sessions| u32::try_from(sessions).unwrap_or(u32::MAX)),
        memory: row.try_get("memory")?,
        cpu: row.try_get("cpu")?,
        lease_until: row.try_get("lease_until")?,
        registered_at: row.try_get("registered_at")?,
        last_heartbeat: row.try_get("last_heartbeat")?,
    })
}

fn controller(row: &Row, column: &str) -> Result<ControllerId, StoreError> {
    let id: String = row.try_get(column)?;
    ControllerId::parse(&id)
        .map_err(|error| StoreError::Corrupt { table: "controller_instances", message: error.to_string() })
}
