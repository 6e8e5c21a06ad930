//! `/api/v1/admin/users`, for administrators only.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::LONGEST_LINE;
use crate::control::Shared;
use crate::domain::{Role, User, now};
use crate::rest::auth::{Admin, Caller};
use crate::rest::cursor::{encoded_segment, read_name_cursor, write_name_cursor};
use crate::rest::extract::{Body, Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query};
use crate::rest::openapi::Refused;
use crate::rest::problem::Problem;
use crate::rest::validate::Faults;
use crate::store::{UserChange, UserChanged, UserDeletion};

/// A new user as they are written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// Their name for ever. Also `username`.
    #[serde(alias = "username")]
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    id: String,
    /// Unique, if it is given.
    #[serde(default)]
    #[schema(max_length = 256, pattern = r"^([^@\x00-\x1f\x7f-\x9f]+@[^@\x00-\x1f\x7f-\x9f]+)?$")]
    email: Option<String>,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    full_name: Option<String>,
    /// The most that their tokens can do; `user` if absent.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    role: Option<String>,
    /// Whether their tokens are taken; they are if absent.
    #[serde(default)]
    active: Option<bool>,
}

impl Body for NewUser {}

/// A change of a user as it is written.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UserPatch {
    /// `null` takes it away.
    #[serde(deserialize_with = "present")]
    #[schema(
        value_type = Option<String>,
        max_length = 256,
        pattern = r"^([^@\x00-\x1f\x7f-\x9f]+@[^@\x00-\x1f\x7f-\x9f]+)?$",
    )]
    email: Option<Option<String>>,
    /// For people.
    #[schema(max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    full_name: Option<String>,
    /// The most that their tokens can do.
    #[schema(value_type = Option<Role>)]
    role: Option<String>,
    /// Whether their tokens are taken.
    active: Option<bool>,
}

impl Body for UserPatch {}

fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(input).map(Some)
}

#[derive(Serialize, ToSchema)]
#[schema(as = UserPage)]
struct Page {
    items: Vec<User>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which users are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before.
    #[param(pattern = "^([0-9a-fA-F]{2})*$")]
    cursor: Option<String>,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        Self { limit: given.limit(), cursor: given.take("cursor", read_name_cursor) }
    }
}

/// List users
///
/// By id. For administrators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/users",
    operation_id = "list_users",
    tag = "Accounts",
    params(Wanted),
    responses((status = 200, body = Page, description = "A page of them."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Admin,
    Query(Wanted { limit, cursor }): Query<Wanted>,
) -> Result<Response, Problem> {
    // One more than asked for tells whether there is a next page.
    let mut items = shared.store.users(cursor.as_deref(), limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next_cursor = items.last().filter(|_| more).map(|last| write_name_cursor(&last.id));
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// Read a user
///
/// For administrators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/users/{id}",
    operation_id = "get_user",
    tag = "Accounts",
    params(AnyUser),
    responses((status = 200, body = User, description = "The user."), Refused<400>, Refused<403>, Refused<503>),
)]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    _: Admin,
    _: Query<NoParameters>,
    Path(AnyUser(id)): Path<AnyUser>,
) -> Result<Json<User>, Problem> {
    shared.store.user(&id).await?.map(Json).ok_or_else(AnyUser::unknown)
}

/// Make a user
///
/// For administrators.
#[utoipa::path(
    post,
    path = "/api/v1/admin/users",
    operation_id = "create_user",
    tag = "Accounts",
    responses(
        (
            status = 201,
            body = User,
            description = "The user.",
            headers(("Location" = String, description = "Where they are.")),
        ),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    _: Query<NoParameters>,
    Json(new): Json<NewUser>,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    if new.id.trim().is_empty() || new.id.trim() != new.id {
        faults.add("id", "must not be empty, nor begin or end with a space");
    }
    // In a path they mean something else, before it comes to us.
    if [".", ".."].contains(&new.id.as_str()) {
        faults.add("id", "must not be \".\" or \"..\"");
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
    let user = changed(shared.store.create_user(caller.actor(), user).await?)?;
    tracing::info!(target_user = user.id, role = user.role.as_str(), "a user was made");
    let location = [(header::LOCATION, format!("/api/v1/admin/users/{}", encoded_segment(&user.id)))];
    Ok((StatusCode::CREATED, location, Json(user)).into_response())
}

/// Change a user
///
/// For administrators.
#[utoipa::path(
    patch,
    path = "/api/v1/admin/users/{id}",
    operation_id = "change_user",
    tag = "Accounts",
    params(AnyUser),
    responses(
        (status = 200, body = User, description = "The user."),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    Path(AnyUser(id)): Path<AnyUser>,
    _: Query<NoParameters>,
    Json(patch): Json<UserPatch>,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    let email = patch.email.map(|email| email.filter(|email| !email.is_empty()));
    check_email(&mut faults, email.as_ref().and_then(|email| email.as_deref()));
    faults.line("full_name", patch.full_name.as_deref().unwrap_or_default(), LONGEST_LINE);
    let role = role(&mut faults, patch.role.as_deref());
    faults.finish()?;
    let change = UserChange { email, full_name: patch.full_name, role, active: patch.active };
    let user = changed(shared.store.change_user(caller.actor(), &id, change).await?)?;
    tracing::info!(
        target_user = user.id,
        role = user.role.as_str(),
        active = user.active,
        "a user was changed"
    );
    Ok(Json(user).into_response())
}

/// Remove a user
///
/// One without sessions, with all their tokens. For administrators.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/users/{id}",
    operation_id = "delete_user",
    tag = "Accounts",
    params(AnyUser),
    responses(
        (status = 204, description = "They are removed."),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<503>,
    ),
)]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    _: Query<NoParameters>,
    Path(AnyUser(id)): Path<AnyUser>,
) -> Result<Response, Problem> {
    match shared.store.delete_user(caller.actor(), &id).await? {
        UserDeletion::Deleted => {
            tracing::info!(target_user = id, "a user was removed");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        UserDeletion::NoSuchUser => Err(AnyUser::unknown()),
        UserDeletion::LastAdmin => Err(last_admin()),
        UserDeletion::HasSessions(count) => {
            let detail = format!("the user has {count} sessions; delete them first, or set active to false");
            Err(Problem::conflict("has-sessions", &detail))
        }
    }
}

/// A user as a path names them; whether there are such is seen when it is used.
#[derive(utoipa::IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct AnyUser(
    /// The user's id.
    String,
);

impl InPath for AnyUser {
    async fn find(name: String, _: &Caller, _: &Shared) -> Found<Self> {
        Ok(Some(Self(name)))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no user with this id")
    }
}

fn changed(outcome: UserChanged) -> Result<User, Problem> {
    match outcome {
        UserChanged::Stored(user) => Ok(user),
        UserChanged::NoSuchUser => Err(AnyUser::unknown()),
        UserChanged::IdTaken => Err(Problem::conflict("exists", "there is a user with this id")),
        UserChanged::EmailTaken => Err(Problem::conflict("exists", "another user has this email address")),
        UserChanged::LastAdmin => Err(last_admin()),
    }
}

fn last_admin() -> Problem {
    Problem::conflict("last-admin", "this is the last active administrator; make another one first")
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
