//! Sessions: reading them and wishing them gone.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;
use sqlx::{QueryBuilder, Row as _};

use super::rows::{readable, record, select_sessions};
use super::{Connection, Database, audit, controllers, dialect, events};
use crate::domain::{Action, Actor, Deed, Generation, Happening, Lane, Phase, Session, SessionId, Wish, due};
use crate::store::{Deletion, NewDeletion, Position, SessionFilter, SessionRecord, StoreError};

pub(super) async fn one(db: &mut Connection, id: &SessionId) -> Result<Option<SessionRecord>, StoreError> {
    let row = sqlx::query(select_sessions!("WHERE s.id = $1")).bind(id.as_str()).fetch_optional(db).await?;
    row.as_ref().map(record).transpose()
}

/// Whose a session is: readable even if the rest of the row is not.
pub(super) async fn owner(db: &mut Connection, id: &SessionId) -> Result<Option<String>, StoreError> {
    let owner = sqlx::query_scalar("SELECT user_id FROM sessions WHERE id = $1").bind(id.as_str());
    Ok(owner.fetch_optional(db).await?)
}

pub(super) async fn page(
    db: &mut Connection,
    filter: &SessionFilter,
    after: Option<&Position>,
    limit: u32,
) -> Result<Vec<SessionRecord>, StoreError> {
    let mut filter = filter.clone();
    // A controller has one type for ever: either it says nothing new, or there is nothing.
    if let (Some(id), Some(wanted)) = (&filter.controller_id, &filter.controller_type)
        && let Some(found) = controllers::type_of(db, id).await?
    {
        if found != *wanted {
            return Ok(Vec::new());
        }
        filter.controller_type = None;
    }
    let mut found = Vec::new();
    let mut passed = 0;
    loop {
        let missing = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(found.len());
        let rows = page_query(&filter, after, missing, passed).build().fetch_all(&mut *db).await?;
        found.extend(readable(&rows));
        passed += rows.len();
        // A page that unreadable rows made shorter would look like the last one.
        if rows.len() < missing || found.len() >= limit as usize {
            return Ok(found);
        }
    }
}

/// What `idx_sessions_in_between` has, in its own words: otherwise no database sees that it can be used.
const IN_BETWEEN: &str = " AND NOT ((s.state = 'running' AND s.phase = 'Running') \
     OR (s.state = 'hibernated' AND s.phase = 'Hibernated') \
     OR (s.state = 'terminated' AND s.phase = 'Terminated'))";

/// Only the conditions that are asked for: with others in it, even ones that hold for every row, no index is used.
pub(in crate::store) fn page_query(
    filter: &SessionFilter,
    after: Option<&Position>,
    limit: usize,
    offset: usize,
) -> QueryBuilder<Database> {
    let mut query = QueryBuilder::new(select_sessions!("WHERE TRUE"));
    // The first one chooses the index: what few sessions have in common comes before what many have.
    let (few, many) = match filter.phase {
        Some(Phase::Pending | Phase::Failed) => (filter.phase, None),
        phase => (None, phase),
    };
    let conditions = [
        ("s.user_id", filter.user_id.as_deref()),
        ("s.phase", few.map(|phase| phase.as_str())),
        ("s.template_id", filter.template_id.as_deref()),
        ("s.controller_id", filter.controller_id.as_deref()),
        ("s.phase", many.map(|phase| phase.as_str())),
        ("s.state", filter.state.map(|state| state.as_str())),
        ("s.controller_type", filter.controller_type.as_deref()),
    ];
    // Few sessions have both at once, whatever many have one by one.
    let in_between = match (filter.state, filter.phase) {
        (Some(state), Some(phase)) => filter.user_id.is_none() && !Wish::State(state).is_fulfilled_by(phase),
        _ => false,
    };
    if in_between {
        query.push(IN_BETWEEN);
    }
    let mut chosen = in_between;
    for (column, value) in conditions {
        if let Some(value) = value {
            let chooses = in_between && matches!(column, "s.state" | "s.phase");
            let mark = if chosen && !chooses { dialect::NOT_BY_INDEX } else { "" };
            query.push(" AND ").push(mark).push(column).push(" = ").push_bind(value.to_owned());
            chosen = true;
        }
    }
    if let Some(Position { created_at, id }) = after {
        query.push(" AND (s.created_at, s.id) < (").push_bind(*created_at);
        query.push(", ").push_bind(id.clone()).push(")");
    }
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    query.push(" ORDER BY s.created_at DESC, s.id DESC LIMIT ").push_bind(number(limit));
    query.push(" OFFSET ").push_bind(number(offset));
    query
}

/// Reads no more than it needs: a session whose row cannot be read can be wished gone as well. It goes once the row can
/// be read again.
pub(super) async fn request_deletion(
    db: &mut Connection,
    by: Actor,
    id: SessionId,
    wanted: NewDeletion,
) -> Result<Deletion, StoreError> {
    let NewDeletion { purge_home, force_after } = wanted;
    let row = sqlx::query("SELECT user_id, deleting, purge_home, generation FROM sessions WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(&mut *db)
        .await?;
    let Some(row) = row else { return Ok(Deletion::NoSuchSession) };
    let (deleting, purging): (bool, bool) = (row.try_get("deleting")?, row.try_get("purge_home")?);
    // A purge that was asked for is not taken back by asking again without it.
    let purge_home = purge_home || (deleting && purging);
    let news = !deleting || purge_home != purging;
    if news {
        let at = dialect::present(db).await?;
        let generation = Generation::from_db(row.try_get("generation")?).next();
        sqlx::query(
            "UPDATE sessions SET deleting = TRUE, purge_home = $2, generation = $3, updated_at = $4, \
             policy_due_at = NULL WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(purge_home)
        .bind(generation.to_db())
        .bind(at)
        .execute(&mut *db)
        .await?;
        // A step under way keeps its lease; the next one begins when it has been recorded.
        sqlx::query(
            "UPDATE operations SET next_attempt_at = $2, updated_at = $2, lane = $3 WHERE session_id = $1",
        )
        .bind(id.as_str())
        .bind(at)
        .bind(Lane::Remove.to_db())
        .execute(&mut *db)
        .await?;
        let details = json!({
            "user_id": row.try_get::<String, _>("user_id")?,
            "purge_home": purge_home,
            "force": force_after.is_some(),
            "generation": generation,
        });
        let deed = Deed::to_session(Action::SessionDelete, &id).with(details);
        audit::record(db, at, &by, deed).await?;
    }
    if let Some(limit) = force_after
        && force(db, &id, limit).await?
        && !news
    {
        let details = json!({ "user_id": row.try_get::<String, _>("user_id")?, "force": true });
        let deed = Deed::to_session(Action::SessionDelete, &id).with(details);
        let at = dialect::present(db).await?;
        audit::record(db, at, &by, deed).await?;
    }
    match one(db, &id).await {
        Ok(Some(record)) => {
            let told = news.then(|| Happening::of_wish(&record.session));
            events::tell(db, &record.session, told).await?;
            Ok(Deletion::Wished(Box::new(record)))
        }
        // It has no operation, which nothing of ours leaves behind.
        Ok(None) => Ok(Deletion::WishedUnreadable),
        Err(error) if error.is_unreadable_row() => {
            tracing::error!(session = %id, %error, "a session to be deleted cannot be read");
            Ok(Deletion::WishedUnreadable)
        }
        Err(error) => Err(error),
    }
}

/// Sets a limit to a deletion, or a sooner one, and has it tried at once; whether that is news.
async fn force(db: &mut Connection, id: &SessionId, limit: std::time::Duration) -> Result<bool, StoreError> {
    let at = dialect::present(db).await?;
    let end = at + chrono::Duration::from_std(limit).unwrap_or(chrono::Duration::minutes(1));
    let set = sqlx::query(
        "UPDATE sessions SET forget_after = $2, updated_at = $3 \
         WHERE id = $1 AND (forget_after IS NULL OR forget_after > $2)",
    )
    .bind(id.as_str())
    .bind(end)
    .bind(at)
    .execute(&mut *db)
    .await?;
    sqlx::query("UPDATE operations SET next_attempt_at = $2 WHERE session_id = $1 AND next_attempt_at > $2")
        .bind(id.as_str())
        .bind(at)
        .execute(db)
        .await?;
    Ok(set.rows_affected() > 0)
}

/// Stores everything about a session that can change, the wish excepted.
pub(super) async fn store_observed(db: &mut Connection, session: &Session) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sessions SET phase = $2, node_id = $3, conditions = $4, observed_generation = $5, \
         controller_id = $6, controller_type = $7, updated_at = $8, running_since = $9, started_at = $10, \
         policy_due_at = $11 WHERE id = $1",
    )
    .bind(session.id.as_str())
    .bind(session.phase.as_str())
    .bind(&session.node_id)
    .bind(Json(&session.conditions))
    .bind(session.observed_generation.map(|generation| generation.to_db()))
    .bind(session.placed.as_ref().map(|(id, _)| id.as_str()))
    .bind(session.placed.as_ref().map(|(_, controller_type)| controller_type.as_str()))
    .bind(session.updated_at)
    .bind(session.running_since)
    .bind(session.started_at)
    .bind(due(session))
    .execute(db)
    .await?;
    Ok(())
}

/// Removes a session and leaves its tombstone.
pub(super) async fn remove(
    db: &mut Connection,
    session: &Session,
    at: DateTime<Utc>,
    keep_tombstone: std::time::Duration,
) -> Result<(), StoreError> {
    // The operation goes with it.
    sqlx::query("DELETE FROM sessions WHERE id = $1").bind(session.id.as_str()).execute(&mut *db).await?;
    let controller = session.controller_id();
    bury(db, session.id.as_str(), controller.map(|id| id.as_str()), at, keep_tombstone).await?;
    if let Some(controller) = controller {
        controllers::count(db, controller, -1).await?;
    }
    Ok(())
}

/// Remembers that nothing is wanted any more under this id, unless there is a session of it.
pub(super) async fn bury(
    db: &mut Connection,
    id: &str,
    controller: Option<&str>,
    at: DateTime<Utc>,
    keep: std::time::Duration,
) -> Result<(), StoreError> {
    let keep = chrono::Duration::from_std(keep).unwrap_or(chrono::Duration::days(30));
    sqlx::query(
        "INSERT INTO tombstones (session_id, controller_id, deleted_at, expires_at) SELECT $1, $2, $3, $4 \
         WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE id = $1) \
         ON CONFLICT (session_id) DO UPDATE SET deleted_at = excluded.deleted_at, \
         expires_at = excluded.expires_at",
    )
    .bind(id)
    .bind(controller)
    .bind(at)
    .bind(at + keep)
    .execute(db)
    .await?;
    Ok(())
}
