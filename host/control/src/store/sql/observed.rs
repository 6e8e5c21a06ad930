//! What was observed at the backends.

use chrono::{DateTime, Utc};
use sqlx::Row as _;

use super::rows::{readable, select_sessions};
use super::{Connection, dialect, events, operations, sessions};
use crate::domain::{Condition, ConditionStatus, ControllerId, Happening, SessionId};
use crate::store::{ObservedChange, SessionRecord, StoreError};

/// Sessions that one transaction sets a condition on: the whole server waits for it.
const SET_AT_ONCE: i64 = 256;

pub(super) async fn settled(
    db: &mut Connection,
    controller: &ControllerId,
    before: DateTime<Utc>,
) -> Result<Vec<SessionRecord>, StoreError> {
    let rows = sqlx::query(select_sessions!(
        "WHERE s.controller_id = $1 AND o.next_attempt_at IS NULL AND o.lease_owner IS NULL \
         AND o.updated_at < $2"
    ))
    .bind(controller.as_str())
    .bind(before)
    .fetch_all(db)
    .await?;
    Ok(readable(&rows))
}

pub(super) async fn record(
    db: &mut Connection,
    changes: Vec<ObservedChange>,
) -> Result<Vec<SessionId>, StoreError> {
    let mut changed = Vec::new();
    for change in changes {
        let found = operations::untouched(db, &change).await?;
        let Some(mut record) = found else { continue };
        let before = record.session.clone();
        let repaired = change.repair.is_some();
        record.observe(change, dialect::present(db).await?);
        let SessionRecord { session, operation } = record;
        sessions::store_observed(db, &session).await?;
        events::tell(db, &session, Happening::of_change(&before, &session)).await?;
        if repaired {
            operations::store(db, &session, &operation, None).await?;
        }
        changed.push(session.id);
    }
    Ok(changed)
}

/// Sets it on some of the sessions behind that one, in the order of their ids; the last one looked at, if there may be
/// more.
pub(super) async fn set_condition(
    db: &mut Connection,
    controller: ControllerId,
    condition: Condition,
    after: String,
) -> Result<(Vec<SessionId>, Option<String>), StoreError> {
    let rows =
        sqlx::query(select_sessions!("WHERE s.controller_id = $1 AND s.id > $2 ORDER BY s.id LIMIT $3"))
            .bind(controller.as_str())
            .bind(after)
            .bind(SET_AT_ONCE)
            .fetch_all(&mut *db)
            .await?;
    let full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= SET_AT_ONCE;
    let last = rows.last().filter(|_| full).map(|row| row.try_get("id")).transpose()?;
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
        session.updated_at = dialect::present(db).await?;
        sessions::store_observed(db, &session).await?;
        events::tell(db, &session, Happening::of_change(&before, &session)).await?;
        changed.push(session.id);
    }
    Ok((changed, last))
}
