//! What was observed at the backends.

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use sqlx::{QueryBuilder, Row as _};

use super::rows::{glance, readable, select_sessions};
use super::{Connection, Database, Row, dialect, events, operations, reservations, sessions};
use crate::domain::{Condition, ConditionStatus, ControllerId, Happening, SessionId};
use crate::store::{Glance, ObservedChange, Position, SessionRecord, StoreError};

/// Sessions that are read with one statement.
const READ_AT_ONCE: usize = 500;
/// Sessions that one transaction sets a condition on: the whole server waits for it.
const SET_AT_ONCE: i64 = 256;

pub(super) async fn settled(
    db: &mut Connection,
    controller: &ControllerId,
    before: DateTime<Utc>,
) -> Result<Vec<Glance>, StoreError> {
    // Row by row: all of them as the database gives them would take far more memory than what is made of them.
    let mut rows = sqlx::query(
        "SELECT s.id, s.state, s.deleting, s.purge_home, s.phase, s.node_id, s.conditions, s.last_activity \
         FROM sessions s JOIN operations o ON o.session_id = s.id \
         WHERE s.controller_id = $1 AND o.next_attempt_at IS NULL AND o.lease_owner IS NULL \
         AND o.updated_at < $2",
    )
    .bind(controller.as_str())
    .bind(before)
    .fetch(db);
    let mut settled = Vec::new();
    while let Some(row) = rows.try_next().await? {
        match glance(&row) {
            Ok(glance) => settled.push(glance),
            Err(error) => tracing::error!(%error, "a session is left out"),
        }
    }
    Ok(settled)
}

pub(super) async fn still_settled(
    db: &mut Connection,
    ids: &[SessionId],
    before: DateTime<Utc>,
) -> Result<Vec<SessionRecord>, StoreError> {
    let mut found = Vec::new();
    for ids in ids.chunks(READ_AT_ONCE) {
        let mut query = QueryBuilder::<Database>::new(select_sessions!(
            "WHERE o.next_attempt_at IS NULL AND o.lease_owner IS NULL AND o.updated_at < "
        ));
        query.push_bind(before).push(" AND s.updated_at < ").push_bind(before).push(" AND s.id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.as_str().to_owned());
        }
        query.push(")");
        found.extend(readable(&query.build().fetch_all(&mut *db).await?));
    }
    Ok(found)
}

pub(super) async fn record(
    db: &mut Connection,
    changes: Vec<ObservedChange>,
) -> Result<Vec<SessionId>, StoreError> {
    let mut changed = Vec::new();
    let at = dialect::present(db).await?;
    for change in changes {
        let found = operations::untouched(db, &change).await?;
        let Some(mut record) = found else { continue };
        let before = record.session.clone();
        let repaired = change.repair.is_some();
        record.observe(change, at);
        let SessionRecord { session, operation } = record;
        sessions::store_observed(db, &session).await?;
        events::tell(db, &session, Happening::of_change(&before, &session)).await?;
        if repaired {
            operations::store(db, &session, &operation, None).await?;
        }
        reservations::stir_after(db, &before, &session).await?;
        changed.push(session.id);
    }
    Ok(changed)
}

/// Sets it on some of the sessions behind that place, oldest first; the last one looked at, if there may be more.
pub(super) async fn set_condition(
    db: &mut Connection,
    controller: ControllerId,
    condition: Condition,
    after: Option<Position>,
) -> Result<(Vec<SessionId>, Option<Position>), StoreError> {
    let rows = behind(&controller, after.as_ref()).build().fetch_all(&mut *db).await?;
    let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= SET_AT_ONCE;
    let position = |row: &Row| -> Result<Position, StoreError> {
        Ok(Position { created_at: row.try_get("created_at")?, id: row.try_get("id")? })
    };
    let last = rows.last().filter(|_| full).map(position).transpose()?;
    let at = dialect::present(db).await?;
    let mut changed = Vec::new();
    for SessionRecord { mut session, .. } in readable(&rows) {
        let known = session.conditions.get(&condition.kind);
        let needless = match known {
            Some(known) => {
                (known.status, &known.reason, &known.message)
                    == (condition.status, &condition.reason, &condition.message)
            }
            // That all is well is only said where it was not.
            None => condition.status == ConditionStatus::True,
        };
        if needless {
            continue;
        }
        let before = session.clone();
        session.conditions.set(condition.clone());
        session.updated_at = at;
        sessions::store_observed(db, &session).await?;
        events::tell(db, &session, Happening::of_change(&before, &session)).await?;
        changed.push(session.id);
    }
    Ok((changed, last))
}

/// The next sessions of a controller, in the order in which they were made.
fn behind(controller: &ControllerId, after: Option<&Position>) -> QueryBuilder<Database> {
    let mut query = QueryBuilder::new(select_sessions!("WHERE s.controller_id = "));
    query.push_bind(controller.as_str().to_owned());
    if let Some(Position { created_at, id }) = after {
        query.push(" AND (s.created_at, s.id) > (").push_bind(*created_at);
        query.push(", ").push_bind(id.clone()).push(")");
    }
    query.push(" ORDER BY s.created_at, s.id LIMIT ").push_bind(SET_AT_ONCE);
    query
}
