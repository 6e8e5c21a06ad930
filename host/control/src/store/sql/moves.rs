//! Sessions that go on on another controller: asked for, and arrived.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;

use super::rows::{readable, select_sessions};
use super::{Connection, audit, controllers, create, dialect, events, reservations, sessions, wishes};
use crate::domain::{
    Action, Controller, ControllerId, ControllerStatus, Deed, HOME_STORAGE, Happening, Session,
};
use crate::store::{Created, Moved, NewMove, PlacementDecision, SessionRecord, StoreError};

/// Stores the wish that a session go on elsewhere, and reserves its place there.
pub(super) async fn depart(db: &mut Connection, new: NewMove) -> Result<Moved, StoreError> {
    let NewMove { by, session_id, target, placer, idempotency, render } = new;
    let at = dialect::present(db).await?;
    if let Some(key) = &idempotency {
        match create::earlier_answer(db, key, at).await? {
            Some(Created::Replayed { response, .. }) => return Ok(Moved::Replayed { response }),
            Some(_) => return Ok(Moved::KeyMismatch),
            None => {}
        }
    }
    let Some(mut record) = sessions::one(db, &session_id).await? else { return Ok(Moved::NoSuchSession) };
    if record.session.is_deleting() {
        return Ok(Moved::Deleting);
    }
    let Some(from) = record.session.controller_id().cloned() else { return Ok(Moved::NotPlaced) };
    let unchanged = match &record.session.moving_to {
        Some(under_way) if *under_way != target => return Ok(Moved::UnderWay(under_way.clone())),
        Some(_) => true,
        None => from == target,
    };
    if !unchanged {
        let source = controllers::one(db, &from).await?;
        let other = controllers::one(db, &target).await?;
        if let Some(refusal) = refusal(&record.session, source.as_ref(), other.as_ref()) {
            return Ok(refusal);
        }
        match placer.place(other.as_slice()) {
            PlacementDecision::On(..) => {}
            refused => return Ok(Moved::Refused(refused)),
        }
        let before = record.session.clone();
        record.depart(target.clone(), at);
        store(db, &mut record, at).await?;
        let session = &record.session;
        events::tell(db, session, Happening::of_change(&before, session)).await?;
        let details = json!({
            "user_id": session.user_id,
            "from": from,
            "to": target,
            "generation": session.generation,
        });
        let deed = Deed::to_session(Action::SessionMigrate, &session_id).with(details);
        audit::record(db, at, &by, deed).await?;
    }
    if let Some(key) = idempotency {
        create::store_answer(db, &key, &session_id, render(&record), at).await?;
    }
    let record = Box::new(record);
    Ok(if unchanged { Moved::Unchanged(record) } else { Moved::Stored(record) })
}

/// What is in the way whatever room there is.
fn refusal(session: &Session, from: Option<&Controller>, to: Option<&Controller>) -> Option<Moved> {
    let (from, to) = (from?, to?);
    if from.controller_type != to.controller_type {
        return Some(Moved::Unsupported(format!(
            "a session moves between controllers of one type only, and {} is of type {:?}, not {:?}",
            to.id, to.controller_type, from.controller_type
        )));
    }
    if session.spec.persistent_home {
        let home = |controller: &Controller| {
            controller.label(HOME_STORAGE).map(str::to_owned).filter(|name| !name.is_empty())
        };
        match (home(from), home(to)) {
            (Some(here), Some(there)) if here == there => {}
            _ => {
                return Some(Moved::Unsupported(format!(
                    "the session has a home that outlives it, and the two controllers do not say that they share \
                     homes: both need the same label {HOME_STORAGE}"
                )));
            }
        }
    }
    (from.status != ControllerStatus::Healthy).then_some(Moved::Unreachable(from.status))
}

async fn store(db: &mut Connection, record: &mut SessionRecord, at: DateTime<Utc>) -> Result<(), StoreError> {
    wishes::store(db, record, at).await?;
    sqlx::query("UPDATE sessions SET moving_to = $2, placement = $3 WHERE id = $1")
        .bind(record.session.id.as_str())
        .bind(record.session.moving_to.as_ref().map(|id| id.as_str()))
        .bind(Json(&record.session.placement))
        .execute(db)
        .await?;
    Ok(())
}

/// A session is where it was moved to. What may turn up of it where it was is not wanted there any more.
pub(super) async fn arrived(
    db: &mut Connection,
    before: &Session,
    after: &Session,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (Some(from), Some(to)) = (before.controller_id(), after.controller_id()) else { return Ok(()) };
    controllers::count(db, from, -1).await?;
    controllers::count(db, to, 1).await?;
    sqlx::query(
        "INSERT INTO departures (session_id, controller_id, left_at) VALUES ($1, $2, $3) \
         ON CONFLICT (session_id, controller_id) DO UPDATE SET left_at = excluded.left_at",
    )
    .bind(after.id.as_str())
    .bind(from.as_str())
    .bind(at)
    .execute(&mut *db)
    .await?;
    sqlx::query("DELETE FROM departures WHERE session_id = $1 AND controller_id = $2")
        .bind(after.id.as_str())
        .bind(to.as_str())
        .execute(db)
        .await?;
    Ok(())
}

/// Nothing moves to a controller that is about to be removed.
pub(super) async fn cancel_all_to(
    db: &mut Connection,
    target: &ControllerId,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let rows = sqlx::query(select_sessions!("WHERE s.moving_to = $1"))
        .bind(target.as_str())
        .fetch_all(&mut *db)
        .await?;
    for mut record in readable(&rows) {
        let before = record.session.clone();
        record.stay("the controller that it was to move to is removed", at);
        store(db, &mut record, at).await?;
        events::tell(db, &record.session, Happening::of_change(&before, &record.session)).await?;
        reservations::stir_after(db, &before, &record.session).await?;
    }
    Ok(())
}
