//! What was observed at the backends.

use chrono::{DateTime, Utc};

use super::rows::{readable, select_sessions};
use super::{Connection, dialect, events, operations, sessions};
use crate::domain::{Condition, ConditionStatus, ControllerId, Happening, SessionId};
use crate::store::{ObservedChange, SessionRecord, StoreError};

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
        let Some(SessionRecord { mut session, operation: _ }) = found else { continue };
        let before = session.clone();
        let at = dialect::present(db).await?;
        session.phase = change.phase;
        session.conditions = change.conditions;
        if let Some(node_id) = change.node_id {
            session.node_id = node_id;
        }
        session.updated_at = at;
        sessions::store_observed(db, &session).await?;
        events::tell(db, &session, Happening::of_change(&before, &session)).await?;
        if let Some(mut operation) = change.repair {
            operation.updated_at = at;
            operations::store(db, &session, &operation, None).await?;
        }
        changed.push(session.id);
    }
    Ok(changed)
}

pub(super) async fn set_condition(
    db: &mut Connection,
    controller: ControllerId,
    condition: Condition,
) -> Result<Vec<SessionId>, StoreError> {
    let rows = sqlx::query(select_sessions!("WHERE s.controller_id = $1"))
        .bind(controller.as_str())
        .fetch_all(&mut *db)
        .await?;
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
    Ok(changed)
}
