//! Users: reading, changing, removing; the last administrator stays.

use serde_json::json;
use sqlx::Row as _;

use super::{Connection, Row, audit, dialect, quotas};
use crate::domain::{Action, Actor, Deed, Role, User, now};
use crate::store::{StoreError, UserChange, UserChanged, UserDeletion};

pub(super) async fn one(db: &mut Connection, id: &str) -> Result<Option<User>, StoreError> {
    let row = sqlx::query("SELECT * FROM users WHERE id = $1").bind(id).fetch_optional(db).await?;
    row.as_ref().map(user).transpose()
}

pub(super) async fn page(
    db: &mut Connection,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<User>, StoreError> {
    let rows = sqlx::query("SELECT * FROM users WHERE $1 IS NULL OR id > $1 ORDER BY id LIMIT $2")
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;
    rows.iter().map(user).collect()
}

pub(super) async fn create(db: &mut Connection, by: Actor, user: User) -> Result<UserChanged, StoreError> {
    let taken: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE id = $1 OR username = $2)")
            .bind(&user.id)
            .bind(&user.username)
            .fetch_one(&mut *db)
            .await?;
    if taken {
        return Ok(UserChanged::IdTaken);
    }
    if email_taken(db, &user).await? {
        return Ok(UserChanged::EmailTaken);
    }
    sqlx::query(
        "INSERT INTO users (id, username, email, full_name, role, provider, active, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&user.id)
    .bind(&user.username)
    .bind(&user.email)
    .bind(&user.full_name)
    .bind(user.role.as_str())
    .bind(&user.provider)
    .bind(user.active)
    .bind(user.created_at)
    .bind(user.updated_at)
    .execute(&mut *db)
    .await?;
    note(db, &by, Action::UserCreate, &user).await?;
    Ok(UserChanged::Stored(user))
}

pub(super) async fn change(
    db: &mut Connection,
    by: Actor,
    id: String,
    change: UserChange,
) -> Result<UserChanged, StoreError> {
    let Some(mut user) = one(db, &id).await? else { return Ok(UserChanged::NoSuchUser) };
    let before = user.clone();
    user.email = change.email.unwrap_or(user.email);
    user.full_name = change.full_name.unwrap_or(user.full_name);
    user.role = change.role.unwrap_or(user.role);
    user.active = change.active.unwrap_or(user.active);
    user.updated_at = now();
    if email_taken(db, &user).await? {
        return Ok(UserChanged::EmailTaken);
    }
    if (user.role != Role::Admin || !user.active) && is_last_admin(db, &id).await? {
        return Ok(UserChanged::LastAdmin);
    }
    sqlx::query(
        "UPDATE users SET email = $2, full_name = $3, role = $4, active = $5, updated_at = $6 WHERE id = $1",
    )
    .bind(&user.id)
    .bind(&user.email)
    .bind(&user.full_name)
    .bind(user.role.as_str())
    .bind(user.active)
    .bind(user.updated_at)
    .execute(&mut *db)
    .await?;
    let told = |user: &User| (user.email.clone(), user.full_name.clone(), user.role, user.active);
    if told(&user) != told(&before) {
        note(db, &by, Action::UserChange, &user).await?;
    }
    Ok(UserChanged::Stored(user))
}

/// Who did what to a user, and how the user stands then.
async fn note(db: &mut Connection, by: &Actor, action: Action, user: &User) -> Result<(), StoreError> {
    let at = dialect::present(db).await?;
    let details = json!({
        "email": user.email,
        "full_name": user.full_name,
        "role": user.role,
        "active": user.active,
    });
    audit::record(db, at, by, Deed::new(action, "user", &user.id).with(details)).await
}

pub(super) async fn delete(db: &mut Connection, by: Actor, id: String) -> Result<UserDeletion, StoreError> {
    if is_last_admin(db, &id).await? {
        return Ok(UserDeletion::LastAdmin);
    }
    let sessions: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions WHERE user_id = $1")
        .bind(&id)
        .fetch_one(&mut *db)
        .await?;
    if sessions > 0 {
        return Ok(UserDeletion::HasSessions(sessions.unsigned_abs()));
    }
    // Whoever gets this id later gets nothing of the answers that were given to this user.
    sqlx::query("DELETE FROM idempotency_keys WHERE caller = $1").bind(&id).execute(&mut *db).await?;
    // The tokens go with them.
    // And nothing of the limits either.
    quotas::remove(db, by.clone(), id.clone()).await?;
    let tokens: Vec<String> = sqlx::query_scalar("DELETE FROM api_tokens WHERE user_id = $1 RETURNING id")
        .bind(&id)
        .fetch_all(&mut *db)
        .await?;
    let done = sqlx::query("DELETE FROM users WHERE id = $1").bind(&id).execute(&mut *db).await?;
    if done.rows_affected() == 0 {
        return Ok(UserDeletion::NoSuchUser);
    }
    let at = dialect::present(db).await?;
    let deed = Deed::new(Action::UserDelete, "user", id).with(json!({ "tokens": tokens }));
    audit::record(db, at, &by, deed).await?;
    Ok(UserDeletion::Deleted)
}

async fn email_taken(db: &mut Connection, user: &User) -> Result<bool, StoreError> {
    let taken = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE email = $1 AND id <> $2)");
    Ok(taken.bind(&user.email).bind(&user.id).fetch_one(db).await?)
}

/// Whether nobody but this user can administrate.
async fn is_last_admin(db: &mut Connection, id: &str) -> Result<bool, StoreError> {
    let last = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM users WHERE id = $1 AND active AND role = 'admin') \
         AND NOT EXISTS (SELECT 1 FROM users WHERE id <> $1 AND active AND role = 'admin')",
    );
    Ok(last.bind(id).fetch_one(db).await?)
}

fn user(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: row.try_get("id")?,
        username: row.try_get("username")?,
        email: row.try_get("email")?,
        full_name: row.try_get("full_name")?,
        role: Role::stored(&row.try_get::<String, _>("role")?),
        provider: row.try_get("provider")?,
        active: row.try_get("active")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
