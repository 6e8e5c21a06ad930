//! Limits in time: which sessions may have reached one, and what is done then.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Connection, dialect, sessions, wishes};
use crate::domain::{Actor, SessionId, Verdict, WishedState, verdict};
use crate::store::{ActivitySign, StoreError};

/// A row that cannot be read is looked at again after so long, so that it does not hold up the others.
const UNREADABLE_RETRY: chrono::Duration = chrono::Duration::minutes(1);

pub(in crate::store) const DUE: &str =
    "SELECT id FROM sessions WHERE policy_due_at <= $1 ORDER BY policy_due_at LIMIT $2";

/// Those that may have reached a limit: they are to be looked at anew.
pub(super) async fn due(db: &mut Connection, limit: u32) -> Result<Vec<SessionId>, StoreError> {
    let at = dialect::present(db).await?;
    let ids: Vec<String> = sqlx::query_scalar(DUE).bind(at).bind(i64::from(limit)).fetch_all(db).await?;
    // An id that cannot be read is no session that anything could be done about.
    Ok(ids.iter().filter_map(|id| SessionId::parse(id).ok()).collect())
}

/// Notes what is known of the use of these sessions, and wishes those otherwise that have reached a limit even so:
/// they are returned. Whoever else does the same at the same time finds nothing left to do.
pub(super) async fn enforce(
    db: &mut Connection,
    due: Vec<SessionId>,
    signs: Vec<ActivitySign>,
    grace: Duration,
) -> Result<Vec<SessionId>, StoreError> {
    wishes::record_activity(db, signs).await?;
    let mut changed = Vec::new();
    for id in due {
        if enforce_one(db, &id, grace).await? {
            changed.push(id);
        }
    }
    Ok(changed)
}

async fn enforce_one(db: &mut Connection, id: &SessionId, grace: Duration) -> Result<bool, StoreError> {
    let at = dialect::present(db).await?;
    let mut record = match sessions::one(db, id).await {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(false),
        Err(error) if error.is_unreadable_row() => {
            tracing::error!(session = %id, %error, "the limits in time of a session cannot be looked at");
            postpone(db, id, Some(at + UNREADABLE_RETRY)).await?;
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let limit = match verdict(&record.session, grace, at) {
        Verdict::Reached(limit) => limit,
        Verdict::NotBefore(when) => {
            postpone(db, id, Some(when)).await?;
            return Ok(false);
        }
        Verdict::Never => {
            postpone(db, id, None).await?;
            return Ok(false);
        }
    };
    // What is idle goes on later where that can be; its home is kept in any case.
    let hibernates =
        matches!(limit, crate::domain::Limit::Idle(_)) && wishes::can_hibernate(db, &record.session).await?;
    let state = if hibernates { WishedState::Hibernated } else { WishedState::Terminated };
    let before = record.session.clone();
    if !record.wish(state, at) {
        // It is wished so already, which no limit is reached by.
        postpone(db, id, None).await?;
        return Ok(false);
    }
    record.session.conditions.set(limit.condition(state, at));
    wishes::keep(db, &Actor::System(limit.rule()), &before, &mut record, at).await?;
    Ok(true)
}

async fn postpone(
    db: &mut Connection,
    id: &SessionId,
    until: Option<DateTime<Utc>>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE sessions SET policy_due_at = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(until)
        .execute(db)
        .await?;
    Ok(())
}
