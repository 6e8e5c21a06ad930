//! `/api/v1/admin/users`, for administrators only.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Deserializer};

use super::{LONGEST_LINE, Page};
use crate::control::Shared;
use crate::domain::{Role, User, now};
use crate::rest::auth::Caller;
use crate::rest::body::read;
use crate::rest::create::{expect_json, read_body};
use crate::rest::problem::Problem;
use crate::rest::query::{Parameters, encoded_segment, read_name_cursor, write_name_cursor};
use crate::rest::validate::Faults;
use crate::store::{UserChange, UserChanged, UserDeletion};

/// A new user as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    #[serde(alias = "username")]
    id: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    full_name: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    active: Option<bool>,
}

/// A change of a user as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UserPatch {
    /// `null` takes it away.
    #[serde(deserialize_with = "present")]
    email: Option<Option<String>>,
    full_name: Option<String>,
    role: Option<String>,
    active: Option<bool>,
}

fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(input).map(Some)
}

/// `GET /api/v1/admin/users`, by id.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let (mut parts, _) = request.into_parts();
    let mut parameters = Parameters::read(&mut parts, &["limit", "cursor"]).await?;
    let limit = parameters.limit();
    let after = parameters.take("cursor", read_name_cursor);
    parameters.finish()?;
    // One more than asked for tells whether there is a next page.
    let mut items = shared.store.users(after.as_deref(), limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next_cursor = items.last().filter(|_| more).map(|last| write_name_cursor(&last.id));
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// `GET /api/v1/admin/users/{id}`.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let Path(id) = path.map_err(|_| unknown())?;
    let user = shared.store.user(&id).await?.ok_or_else(unknown)?;
    Ok(Json(user).into_response())
}

/// `POST /api/v1/admin/users`.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let new: NewUser = body(&shared, request).await?;
    let mut faults = Faults::default();
    if new.id.trim().is_empty() || new.id.trim() != new.id {
        faults.add("id", "must not be empty, nor begin or end with a space");
    }
    faults.line("id", &new.id, LONGEST_LINE);
    let email = new.email.filter(|email| !email.is_empty());
    check_email(&mut faults, email.as_deref());
    let full_name = new.full_name.unwrap_or_default();
    faults.line("full_name", &full_name, LONGEST_LINE);
    let role = role(&mut faults, new.role.as_deref()).unwrap_or(Role::User);
    faults.finish()?;
    let at = now();
    let user = User {
        username: new.id.clone(),
        id: new.id,
        email,
        full_name,
        role,
        provider: "local".to_owned(),
        active: new.active.unwrap_or(true),
        created_at: at,
        updated_at: at,
    };
    let user = changed(shared.store.create_user(user).await?)?;
    tracing::info!(target_user = user.id, role = user.role.as_str(), "a user was made");
    let location = [(header::LOCATION, format!("/api/v1/admin/users/{}", encoded_segment(&user.id)))];
    Ok((StatusCode::CREATED, location, Json(user)).into_response())
}

/// `PATCH /api/v1/admin/users/{id}`.
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let Path(id) = path.map_err(|_| unknown())?;
    let patch: UserPatch = body(&shared, request).await?;
    let mut faults = Faults::default();
    let email = patch.email.map(|email| email.filter(|email| !email.is_empty()));
    check_email(&mut faults, email.as_ref().and_then(|email| email.as_deref()));
    faults.line("full_name", patch.full_name.as_deref().unwrap_or_default(), LONGEST_LINE);
    let role = role(&mut faults, patch.role.as_deref());
    faults.finish()?;
    let change = UserChange { email, full_name: patch.full_name, role, active: patch.active };
    let user = changed(shared.store.change_user(&id, change).await?)?;
    tracing::info!(
        target_user = user.id,
        role = user.role.as_str(),
        active = user.active,
        "a user was changed"
    );
    Ok(Json(user).into_response())
}

/// `DELETE /api/v1/admin/users/{id}`.
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_admin()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let Path(id) = path.map_err(|_| unknown())?;
    match shared.store.delete_user(&id).await? {
        UserDeletion::Deleted => {
            tracing::info!(target_user = id, "a user was removed");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        UserDeletion::NoSuchUser => Err(unknown()),
        UserDeletion::LastAdmin => Err(last_admin()),
        UserDeletion::HasSessions(count) => {
            let detail = format!("the user has {count} sessions; delete them first, or set active to false");
            Err(Problem::conflict("has-sessions", &detail))
        }
    }
}

fn changed(outcome: UserChanged) -> Result<User, Problem> {
    match outcome {
        UserChanged::Stored(user) => Ok(user),
        UserChanged::NoSuchUser => Err(unknown()),
        UserChanged::IdTaken => Err(Problem::conflict("exists", "there is a user with this id")),
        UserChanged::EmailTaken => Err(Problem::conflict("exists", "another user has this email address")),
        UserChanged::LastAdmin => Err(last_admin()),
    }
}

fn last_admin() -> Problem {
    Problem::conflict("last-admin", "this is the last active administrator; make another one first")
}

fn unknown() -> Problem {
    Problem::not_found("there is no user with this id")
}

fn role(faults: &mut Faults, text: Option<&str>) -> Option<Role> {
    let role = text.and_then(Role::parse);
    if text.is_some() && role.is_none() {
        faults.add("role", "must be user, operator or admin");
    }
    role
}

/// Only what cannot be an address is refused: whether one is, only a letter to it tells.
fn check_email(faults: &mut Faults, email: Option<&str>) {
    let Some(email) = email else { return };
    faults.line("email", email, LONGEST_LINE);
    let parts = email.split_once('@');
    let good = parts.is_some_and(|(who, host)| !who.is_empty() && !host.is_empty() && !host.contains('@'));
    if !good || email.chars().any(char::is_whitespace) {
        faults.add("email", "must be an email address");
    }
}

async fn body<T: serde::de::DeserializeOwned>(shared: &Shared, request: Request) -> Result<T, Problem> {
    let (mut parts, body) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    expect_json(&parts.headers)?;
    let body = read_body(Request::from_parts(parts, body), shared.config.body_limit).await?;
    read(&body)
}
