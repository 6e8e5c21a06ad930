//! The drift list: what listings say of objects that no session explains, and what operators say.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{QueryBuilder, Row as _};

use super::{Connection, Database, Row, audit, controllers, create, dialect, events, operations, sessions};
use crate::domain::{
    Action, Actor, ControllerId, Deed, Drift, DriftAlarm, DriftAlarmKind, DriftId, DriftObject,
    DriftOwnership, DriftReason, DriftState, Happening,
};
use crate::store::{
    Adopted, Adoption, DriftFilter, DriftOrder, DriftOrdered, DriftReport, DriftSighting, Position,
    RaisedAlarm, SessionRecord, StoreError, Stray,
};

/// Ids in one query.
const CHUNK: usize = 500;
/// A tombstone is written anew once this part of its time is over.
const TOMBSTONE_GRAIN: i32 = 30;

/// Those ids that belong to no session on this controller.
pub(super) async fn unexplained(
    db: &mut Connection,
    controller: &ControllerId,
    ids: Vec<String>,
) -> Result<Vec<Stray>, StoreError> {
    let mut found = Vec::new();
    for ids in ids.chunks(CHUNK) {
        let mut placed = HashMap::new();
        for row in rows_of(db, "SELECT id, controller_id FROM sessions WHERE id IN (", ids).await? {
            let here = row.try_get::<Option<String>, _>(1)?.as_deref() == Some(controller.as_str());
            placed.insert(row.try_get::<String, _>(0)?, here);
        }
        let tombs = "SELECT session_id, deleted_at FROM tombstones WHERE session_id IN (";
        let mut buried = HashMap::new();
        for row in rows_of(db, tombs, ids).await? {
            buried.insert(row.try_get::<String, _>(0)?, row.try_get::<DateTime<Utc>, _>(1)?);
        }
        let left = left_from(db, controller, ids).await?;
        found.extend(ids.iter().filter(|id| placed.get(*id) != Some(&true)).map(|id| {
            let elsewhere = placed.contains_key(id);
            // A session that is there was not deleted, but what it left behind where it was is not wanted any more.
            let deleted_at = if elsewhere { left.get(id) } else { buried.get(id) }.copied();
            Stray { id: id.clone(), deleted_at, elsewhere: elsewhere && deleted_at.is_none() }
        }));
    }
    Ok(found)
}

/// Those of them that were moved away from there, and when.
async fn left_from(
    db: &mut Connection,
    controller: &ControllerId,
    ids: &[String],
) -> Result<HashMap<String, DateTime<Utc>>, StoreError> {
    let mut query =
        QueryBuilder::<Database>::new("SELECT session_id, left_at FROM departures WHERE controller_id = ");
    query.push_bind(controller.as_str().to_owned()).push(" AND session_id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id.clone());
    }
    query.push(")");
    let rows = query.build().fetch_all(db).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

async fn rows_of(db: &mut Connection, select: &'static str, ids: &[String]) -> Result<Vec<Row>, StoreError> {
    let mut query = QueryBuilder::<Database>::new(select);
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id.clone());
    }
    query.push(")");
    Ok(query.build().fetch_all(db).await?)
}

pub(super) async fn one(db: &mut Connection, id: &DriftId) -> Result<Option<Drift>, StoreError> {
    let row = sqlx::query("SELECT * FROM drift WHERE id = $1").bind(id.as_str()).fetch_optional(db).await?;
    row.as_ref().map(drift).transpose()
}

pub(super) async fn of_controller(db: &mut Connection, id: &ControllerId) -> Result<Vec<Drift>, StoreError> {
    let rows =
        sqlx::query("SELECT * FROM drift WHERE controller_id = $1").bind(id.as_str()).fetch_all(db).await?;
    rows.iter().map(drift).collect()
}

/// A page of the list, newest first.
pub(super) async fn page(
    db: &mut Connection,
    filter: &DriftFilter,
    after: Option<&Position>,
    limit: u32,
) -> Result<Vec<Drift>, StoreError> {
    let mut query = QueryBuilder::<Database>::new("SELECT * FROM drift WHERE TRUE");
    for (column, value) in [
        ("controller_id", filter.controller_id.as_deref()),
        ("state", filter.state.map(DriftState::as_str)),
        ("reason", filter.reason.map(DriftReason::as_str)),
        ("user_id", filter.user_id.as_deref()),
    ] {
        if let Some(value) = value {
            query.push(" AND ").push(column).push(" = ").push_bind(value.to_owned());
        }
    }
    if let Some(Position { created_at, id }) = after {
        query.push(" AND (first_seen, id) < (").push_bind(*created_at);
        query.push(", ").push_bind(id.clone()).push(")");
    }
    query.push(" ORDER BY first_seen DESC, id DESC LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(db).await?.iter().map(drift).collect()
}

pub(super) async fn alarms(db: &mut Connection) -> Result<Vec<RaisedAlarm>, StoreError> {
    let rows = sqlx::query("SELECT * FROM drift_alarms ORDER BY since, controller_id").fetch_all(db).await?;
    rows.iter()
        .map(|row| {
            let kind: String = row.try_get("kind")?;
            let kind = DriftAlarmKind::parse(&kind).ok_or_else(|| corrupt(format!("alarm {kind}")))?;
            Ok(RaisedAlarm {
                controller_id: controller(row.try_get("controller_id")?)?,
                alarm: DriftAlarm {
                    kind,
                    objects: count(row.try_get("objects")?),
                    placed: count(row.try_get("placed")?),
                },
                since: row.try_get("since")?,
            })
        })
        .collect()
}

/// Stores what a complete listing says.
pub(super) async fn record(
    db: &mut Connection,
    controller: ControllerId,
    report: DriftReport,
    keep_tombstones: Duration,
) -> Result<(), StoreError> {
    let at = dialect::present(db).await?;
    for DriftSighting { object, reason } in report.seen {
        // A session that was adopted since the listing was read explains it.
        sqlx::query(
            "INSERT INTO drift (id, controller_id, object, session_id, external_ref, ownership, node_id, phase, \
             wish, user_id, reason, state, first_seen, last_seen) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13 WHERE NOT EXISTS \
             (SELECT 1 FROM sessions WHERE id = $4 AND controller_id = $2) \
             ON CONFLICT (controller_id, object) DO UPDATE SET session_id = excluded.session_id, \
             external_ref = excluded.external_ref, ownership = excluded.ownership, node_id = excluded.node_id, \
             phase = excluded.phase, wish = excluded.wish, user_id = excluded.user_id, \
             reason = excluded.reason, last_seen = excluded.last_seen",
        )
        .bind(DriftId::generate().as_str())
        .bind(controller.as_str())
        .bind(object.key())
        .bind(&object.session_id)
        .bind(&object.external_ref)
        .bind(object.ownership.as_str())
        .bind(&object.node_id)
        .bind(&object.phase)
        .bind(&object.wish)
        .bind(&object.user_id)
        .bind(reason.as_str())
        .bind(DriftState::Found.as_str())
        .bind(at)
        .execute(&mut *db)
        .await?;
    }
    for id in report.gone {
        sqlx::query("DELETE FROM drift WHERE id = $1").bind(id.as_str()).execute(&mut *db).await?;
    }
    let keep = chrono::Duration::from_std(keep_tombstones).unwrap_or(chrono::Duration::days(30));
    for ids in report.buried.chunks(CHUNK) {
        let mut query = QueryBuilder::<Database>::new("UPDATE tombstones SET expires_at = ");
        query.push_bind(at + keep).push(" WHERE expires_at < ").push_bind(at + keep - keep / TOMBSTONE_GRAIN);
        query.push(" AND session_id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.clone());
        }
        query.push(")");
        query.build().execute(&mut *db).await?;
    }
    match report.alarm {
        Some(alarm) => raise(db, &controller, alarm, at).await,
        None => {
            sqlx::query("DELETE FROM drift_alarms WHERE controller_id = $1")
                .bind(controller.as_str())
                .execute(db)
                .await?;
            Ok(())
        }
    }
}

async fn raise(
    db: &mut Connection,
    controller: &ControllerId,
    alarm: DriftAlarm,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO drift_alarms (controller_id, kind, objects, placed, since) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (controller_id) DO UPDATE SET kind = excluded.kind, objects = excluded.objects, \
         placed = excluded.placed",
    )
    .bind(controller.as_str())
    .bind(alarm.kind.as_str())
    .bind(number(alarm.objects))
    .bind(number(alarm.placed))
    .bind(at)
    .execute(db)
    .await?;
    Ok(())
}

/// Stores what an operator says. A deletion is remembered as that of a session: it holds for whatever comes back.
pub(super) async fn order(
    db: &mut Connection,
    by: Actor,
    id: DriftId,
    order: DriftOrder,
) -> Result<DriftOrdered, StoreError> {
    let Some(mut entry) = one(db, &id).await? else { return Ok(DriftOrdered::NoSuchEntry) };
    match (order, entry.state) {
        (DriftOrder::Ignore, DriftState::Deleting) => return Ok(DriftOrdered::Deleting),
        (DriftOrder::Ignore, _) => entry.state = DriftState::Ignored,
        (DriftOrder::Delete { .. }, _) if entry.object.ownership != DriftOwnership::Owned => {
            return Ok(DriftOrdered::Foreign);
        }
        (DriftOrder::Delete { keep_tombstone }, _) => {
            entry.state = DriftState::Deleting;
            let at = dialect::present(db).await?;
            let session = entry.object.session_id.as_str();
            sessions::bury(db, session, Some(entry.controller_id.as_str()), at, keep_tombstone).await?;
        }
    }
    sqlx::query("UPDATE drift SET state = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(entry.state.as_str())
        .execute(&mut *db)
        .await?;
    let action = match order {
        DriftOrder::Ignore => Action::DriftIgnore,
        DriftOrder::Delete { .. } => Action::DriftDelete,
    };
    let details = json!({ "controller_id": entry.controller_id, "session_id": entry.object.session_id,
        "external_ref": entry.object.external_ref, "user_id": entry.object.user_id });
    let at = dialect::present(db).await?;
    audit::record(db, at, &by, Deed::new(action, "drift", id.as_str()).with(details)).await?;
    Ok(DriftOrdered::Stored(Box::new(entry)))
}

/// What became of the removal of an object: it is gone, or why it is not.
pub(super) async fn removed(
    db: &mut Connection,
    id: DriftId,
    outcome: Result<(), String>,
) -> Result<(), StoreError> {
    match outcome {
        Ok(()) => {
            sqlx::query("DELETE FROM drift WHERE id = $1 AND state = $2")
                .bind(id.as_str())
                .bind(DriftState::Deleting.as_str())
                .execute(db)
                .await?
        }
        Err(message) => {
            sqlx::query("UPDATE drift SET message = $2 WHERE id = $1")
                .bind(id.as_str())
                .bind(message)
                .execute(db)
                .await?
        }
    };
    Ok(())
}

/// Stores a session for an object that is there. Its id is the object's: there is never a second one.
pub(super) async fn adopt(db: &mut Connection, by: Actor, adoption: Adoption) -> Result<Adopted, StoreError> {
    let Adoption { drift_id, mut session, mut operation } = adoption;
    let Some(entry) = one(db, &drift_id).await? else { return Ok(Adopted::NoSuchEntry) };
    if entry.state == DriftState::Deleting {
        return Ok(Adopted::Deleting);
    }
    if sessions::owner(db, &session.id).await?.is_some() {
        return Ok(Adopted::IdTaken);
    }
    let at = dialect::present(db).await?;
    (session.created_at, session.updated_at, operation.updated_at) = (at, at, at);
    sqlx::query("DELETE FROM tombstones WHERE session_id = $1")
        .bind(session.id.as_str())
        .execute(&mut *db)
        .await?;
    sqlx::query("DELETE FROM drift WHERE id = $1").bind(drift_id.as_str()).execute(&mut *db).await?;
    controllers::count(db, &entry.controller_id, 1).await?;
    create::insert(db, &session).await?;
    sessions::store_observed(db, &session).await?;
    operations::insert(db, &session, &operation).await?;
    events::tell(db, &session, Happening::of_creation(&session)).await?;
    let details = json!({ "user_id": session.user_id, "controller_id": entry.controller_id,
        "drift_id": drift_id.as_str(), "generation": session.generation });
    let deed = Deed::to_session(Action::SessionAdopt, &session.id).with(details);
    audit::record(db, at, &by, deed).await?;
    Ok(Adopted::Stored(Box::new(SessionRecord { session, operation })))
}

fn drift(row: &Row) -> Result<Drift, StoreError> {
    let word = |column: &str| row.try_get::<String, _>(column);
    let (ownership, reason, state) = (word("ownership")?, word("reason")?, word("state")?);
    Ok(Drift {
        id: DriftId::named(word("id")?),
        controller_id: controller(word("controller_id")?)?,
        object: DriftObject {
            session_id: word("session_id")?,
            external_ref: word("external_ref")?,
            ownership: DriftOwnership::parse(&ownership)
                .ok_or_else(|| corrupt(format!("ownership {ownership}")))?,
            node_id: word("node_id")?,
            phase: word("phase")?,
            wish: word("wish")?,
            user_id: word("user_id")?,
        },
        reason: DriftReason::parse(&reason).ok_or_else(|| corrupt(format!("reason {reason}")))?,
        state: DriftState::parse(&state).ok_or_else(|| corrupt(format!("state {state}")))?,
        message: word("message")?,
        first_seen: row.try_get("first_seen")?,
        last_seen: row.try_get("last_seen")?,
    })
}

fn controller(id: String) -> Result<ControllerId, StoreError> {
    ControllerId::parse(&id).map_err(|_| corrupt(format!("controller {id}")))
}

fn count(stored: i64) -> usize {
    usize::try_from(stored).unwrap_or(0)
}

fn corrupt(message: String) -> StoreError {
    StoreError::Corrupt { table: "drift", message }
}
