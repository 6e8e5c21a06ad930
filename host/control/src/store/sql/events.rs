//! Events: telling them, reading them page by page, and removing them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{QueryBuilder, Row as _};

use super::{Connection, Database, Row, dialect};
use crate::domain::{ControllerId, Event, EventCursor, Generation, Happening, Session, SessionId, now};
use crate::store::{EventPage, EventQuery, EventScope, StoreError};

/// Events removed in one transaction: nobody else can write meanwhile.
const SWEPT_AT_ONCE: i64 = 2000;

/// Tells what happened to a session, in this order.
pub(super) async fn tell(
    db: &mut Connection,
    session: &Session,
    happenings: impl IntoIterator<Item = Happening>,
) -> Result<(), StoreError> {
    let owner = (Some(session.id.as_str()), Some(session.user_id.as_str()), None);
    insert(db, owner, Some(session.generation), happenings).await
}

/// Tells what happened to a controller.
pub(super) async fn tell_of_controller(
    db: &mut Connection,
    id: &ControllerId,
    happening: Happening,
) -> Result<(), StoreError> {
    insert(db, (None, None, Some(id.as_str())), None, [happening]).await
}

/// Tells that a session went without its controller's word.
pub(super) async fn tell_of_forgotten(
    db: &mut Connection,
    id: &str,
    user_id: &str,
    generation: Generation,
) -> Result<(), StoreError> {
    insert(db, (Some(id), Some(user_id), None), Some(generation), [Happening::of_forgetting()]).await
}

async fn insert(
    db: &mut Connection,
    (session, user, controller): (Option<&str>, Option<&str>, Option<&str>),
    generation: Option<Generation>,
    happenings: impl IntoIterator<Item = Happening>,
) -> Result<(), StoreError> {
    let mut happenings = happenings.into_iter().peekable();
    if happenings.peek().is_none() {
        return Ok(());
    }
    let at = now();
    let mut sql = QueryBuilder::<Database>::new(
        "INSERT INTO events (at, type, session_id, user_id, controller_id, generation, reason, message, data) ",
    );
    sql.push_values(happenings, |mut row, happening| {
        row.push_bind(at)
            .push_bind(happening.kind.as_str())
            .push_bind(session.map(str::to_owned))
            .push_bind(user.map(str::to_owned))
            .push_bind(controller.map(str::to_owned))
            .push_bind(generation.map(Generation::to_db))
            .push_bind(happening.reason)
            .push_bind(happening.message)
            .push_bind(Json(happening.data));
    });
    sql.build().execute(db).await?;
    Ok(())
}

pub(super) async fn page(db: &mut Connection, query: &EventQuery) -> Result<EventPage, StoreError> {
    // What has an id up to here is committed and visible to the statements below.
    let upto = dialect::latest_event(db).await?;
    let rows = page_query(query, upto).build().fetch_all(&mut *db).await?;
    let events = rows.iter().map(event).collect::<Result<_, _>>()?;
    // Asked last: what was removed before or while the page was read is noticed.
    let lost = query.after > upto || missed(db, &query.scope, query.after).await?;
    Ok(EventPage { events, upto, lost })
}

pub(in crate::store) fn page_query(query: &EventQuery, upto: EventCursor) -> QueryBuilder<Database> {
    let mut sql = QueryBuilder::new(
        "SELECT id, at, type, session_id, user_id, controller_id, generation, reason, message, data \
         FROM events WHERE id > ",
    );
    sql.push_bind(query.after.to_db()).push(" AND id <= ").push_bind(upto.to_db());
    scoped(&mut sql, &query.scope);
    sql.push(" ORDER BY id LIMIT ").push_bind(i64::from(query.limit));
    sql
}

fn scoped(sql: &mut QueryBuilder<Database>, scope: &EventScope) {
    if let Some(user) = &scope.user_id {
        sql.push(" AND user_id = ").push_bind(user.clone());
    }
    if !scope.sessions.is_empty() {
        sql.push(" AND session_id IN (");
        let mut ids = sql.separated(", ");
        for id in &scope.sessions {
            ids.push_bind(id.as_str().to_owned());
        }
        sql.push(")");
    }
}

async fn missed(db: &mut Connection, scope: &EventScope, after: EventCursor) -> Result<bool, StoreError> {
    let mut sql = QueryBuilder::new("SELECT EXISTS (SELECT 1 FROM swept_events WHERE last_id > ");
    sql.push_bind(after.to_db()).push(" AND (session_id = '' OR (TRUE");
    scoped(&mut sql, scope);
    sql.push(")))");
    Ok(sql.build_query_scalar().fetch_one(db).await?)
}

fn event(row: &Row) -> Result<Event, StoreError> {
    let Json(data): Json<Value> = row.try_get("data")?;
    Ok(Event {
        cursor: EventCursor::from_db(row.try_get("id")?),
        at: row.try_get("at")?,
        kind: row.try_get("type")?,
        session_id: row.try_get("session_id")?,
        user_id: row.try_get("user_id")?,
        controller_id: row.try_get("controller_id")?,
        generation: row.try_get::<Option<i64>, _>("generation")?.map(Generation::from_db),
        reason: row.try_get("reason")?,
        message: row.try_get("message")?,
        data,
    })
}

/// Whose a session is or was, as its events say.
pub(super) async fn owner(db: &mut Connection, id: &SessionId) -> Result<Option<String>, StoreError> {
    let owner = sqlx::query_scalar("SELECT user_id FROM events WHERE session_id = $1 ORDER BY id LIMIT 1");
    Ok(owner.bind(id.as_str()).fetch_optional(db).await?)
}

/// Sessions with more events than that.
pub(super) async fn crowded(db: &mut Connection, most: u32) -> Result<Vec<String>, StoreError> {
    let crowded = sqlx::query_scalar(
        "SELECT session_id FROM events WHERE session_id IS NOT NULL GROUP BY session_id HAVING count(*) > $1",
    );
    Ok(crowded.bind(i64::from(most)).fetch_all(db).await?)
}

/// Removes some of what is too old; whether there may be more.
pub(super) async fn sweep_old(db: &mut Connection, keep: Duration) -> Result<bool, StoreError> {
    let keep = chrono::Duration::from_std(keep).unwrap_or(chrono::Duration::days(7));
    let before: DateTime<Utc> = now() - keep;
    let removed: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at <= $1 ORDER BY at LIMIT $2) RETURNING id",
    )
    .bind(before)
    .bind(SWEPT_AT_ONCE)
    .fetch_all(&mut *db)
    .await?;
    if let Some(last) = removed.iter().max() {
        remember(db, "", None, *last).await?;
        sqlx::query("DELETE FROM swept_events WHERE session_id <> '' AND last_id <= $1")
            .bind(*last)
            .execute(db)
            .await?;
    }
    Ok(i64::try_from(removed.len()).unwrap_or(i64::MAX) >= SWEPT_AT_ONCE)
}

/// Removes some of the oldest events of a session that has too many; whether there may be more.
pub(super) async fn thin_out(db: &mut Connection, session: String, most: u32) -> Result<bool, StoreError> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE session_id = $1")
        .bind(&session)
        .fetch_one(&mut *db)
        .await?;
    let removed: Vec<(i64, Option<String>)> = sqlx::query_as(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE session_id = $1 ORDER BY id LIMIT $2) \
         RETURNING id, user_id",
    )
    .bind(&session)
    .bind((count - i64::from(most)).clamp(0, SWEPT_AT_ONCE))
    .fetch_all(&mut *db)
    .await?;
    if let Some((last, user)) = removed.iter().max() {
        remember(db, &session, user.as_deref(), *last).await?;
    }
    Ok(i64::try_from(removed.len()).unwrap_or(i64::MAX) >= SWEPT_AT_ONCE)
}

async fn remember(
    db: &mut Connection,
    session: &str,
    user: Option<&str>,
    last: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO swept_events (session_id, user_id, last_id) VALUES ($1, $2, $3) \
         ON CONFLICT (session_id) DO UPDATE SET last_id = excluded.last_id \
         WHERE swept_events.last_id < excluded.last_id",
    )
    .bind(session)
    .bind(user)
    .bind(last)
    .execute(db)
    .await?;
    Ok(())
}
