//! Quotas: counted from the sessions themselves, in the transaction that adds to them. So they are never wrong, and
//! two that ask at once never both get the last of something.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::Row as _;
use sqlx::types::Json;

use super::{Connection, Row, audit, dialect};
use crate::domain::{
    Action, Actor, Deed, Limits, QuotaExcess, QuotaOverride, SessionSpec, Usage, WishedState, now,
};
use crate::store::{QuotaState, StoreError};

/// What a new session would exceed.
pub(super) async fn exceeded_by_new(
    db: &mut Connection,
    user_id: &str,
    defaults: &Limits,
    spec: &SessionSpec,
) -> Result<Vec<QuotaExcess>, StoreError> {
    let limits = limits(db, user_id, defaults).await?;
    // Nothing is counted for those who are not limited.
    if limits.is_empty() {
        return Ok(Vec::new());
    }
    let before = usage(db, user_id).await?;
    let mut after = before.clone();
    after.add(spec, true);
    Ok(limits.exceeded(&before, &after, spec))
}

/// What a session would exceed that is there and is to run again.
pub(super) async fn exceeded_by_run(
    db: &mut Connection,
    user_id: &str,
    defaults: &Limits,
    spec: &SessionSpec,
) -> Result<Vec<QuotaExcess>, StoreError> {
    let limits = limits(db, user_id, defaults).await?;
    if limits.is_empty() {
        return Ok(Vec::new());
    }
    let before = usage(db, user_id).await?;
    let mut after = before.clone();
    after.run(spec);
    Ok(limits.exceeded(&before, &after, spec))
}

async fn limits(db: &mut Connection, user_id: &str, defaults: &Limits) -> Result<Limits, StoreError> {
    Ok(defaults.with(&set_for(db, user_id).await?))
}

/// What was set for a user.
async fn set_for(db: &mut Connection, user_id: &str) -> Result<QuotaOverride, StoreError> {
    let row =
        sqlx::query("SELECT limits FROM quotas WHERE user_id = $1").bind(user_id).fetch_optional(db).await?;
    row.as_ref().map_or_else(|| Ok(QuotaOverride::default()), read)
}

fn read(row: &Row) -> Result<QuotaOverride, StoreError> {
    let Json(texts): Json<BTreeMap<String, String>> = row.try_get("limits")?;
    QuotaOverride::from_texts(&texts).map_err(|message| StoreError::Corrupt { table: "quotas", message })
}

async fn usage(db: &mut Connection, user_id: &str) -> Result<Usage, StoreError> {
    let rows = sqlx::query("SELECT state, deleting, spec FROM sessions WHERE user_id = $1")
        .bind(user_id)
        .fetch_all(db)
        .await?;
    let mut usage = Usage::default();
    for row in &rows {
        let runs = row.try_get::<String, _>("state")? == WishedState::Running.as_str()
            && !row.try_get::<bool, _>("deleting")?;
        match row.try_get::<Json<SessionSpec>, _>("spec") {
            Ok(Json(spec)) => usage.add(&spec, runs),
            // One that cannot be read is there all the same.
            Err(_) => usage.add_unknown(),
        }
    }
    Ok(usage)
}

/// How a user stands.
pub(super) async fn state(
    db: &mut Connection,
    user_id: &str,
    defaults: &Limits,
) -> Result<QuotaState, StoreError> {
    let set = set_for(db, user_id).await?;
    let used = usage(db, user_id).await?;
    Ok(QuotaState { user_id: user_id.to_owned(), limits: defaults.with(&set), set, used })
}

/// A page of those users for whom something is set, by id.
pub(super) async fn page(
    db: &mut Connection,
    after: Option<&str>,
    limit: u32,
    defaults: &Limits,
) -> Result<Vec<QuotaState>, StoreError> {
    let users: Vec<String> = sqlx::query_scalar(
        "SELECT user_id FROM quotas WHERE $1 IS NULL OR user_id > $1 ORDER BY user_id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(&mut *db)
    .await?;
    let mut page = Vec::with_capacity(users.len());
    for user in users {
        page.push(state(db, &user, defaults).await?);
    }
    Ok(page)
}

/// Sets what applies to one user alone.
pub(super) async fn set(
    db: &mut Connection,
    by: Actor,
    user_id: String,
    set: QuotaOverride,
    defaults: Limits,
) -> Result<QuotaState, StoreError> {
    let known = sqlx::query("SELECT limits FROM quotas WHERE user_id = $1")
        .bind(&user_id)
        .fetch_optional(&mut *db)
        .await?;
    let known = known.as_ref().map(read).transpose();
    // What cannot be read is replaced like anything else.
    if !matches!(&known, Ok(Some(known)) if *known == set) {
        sqlx::query(
            "INSERT INTO quotas (user_id, limits, updated_at) VALUES ($1, $2, $3) \
             ON CONFLICT (user_id) DO UPDATE SET limits = excluded.limits, updated_at = excluded.updated_at",
        )
        .bind(&user_id)
        .bind(Json(set.to_texts()))
        .bind(now())
        .execute(&mut *db)
        .await?;
        let before = known.ok().flatten().map(|known| known.to_texts());
        let details = json!({ "limits": set.to_texts(), "previous": before });
        let at = dialect::present(db).await?;
        audit::record(db, at, &by, Deed::new(Action::QuotaSet, "quota", &user_id).with(details)).await?;
    }
    state(db, &user_id, &defaults).await
}

/// From here on what is configured applies to that user; whether something else did.
pub(super) async fn remove(db: &mut Connection, by: Actor, user_id: String) -> Result<bool, StoreError> {
    let gone: Option<Json<serde_json::Value>> =
        sqlx::query_scalar("DELETE FROM quotas WHERE user_id = $1 RETURNING limits")
            .bind(&user_id)
            .fetch_optional(&mut *db)
            .await?;
    let Some(Json(before)) = gone else { return Ok(false) };
    let at = dialect::present(db).await?;
    let deed = Deed::new(Action::QuotaRemove, "quota", user_id).with(json!({ "previous": before }));
    audit::record(db, at, &by, deed).await?;
    Ok(true)
}
