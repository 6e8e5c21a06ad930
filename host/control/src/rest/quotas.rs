//! Quotas: one's own under `/api/v1/quota`, everybody's under `/api/v1/admin/quotas`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Admin, Caller, Operator};
use super::cursor::{read_name_cursor, write_name_cursor};
use super::extract::{Body, Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use super::validate::Faults;
use crate::control::Shared;
use crate::domain::{QuotaKind, QuotaOverride, UNLIMITED};
use crate::store::QuotaState;

/// The paths of quotas.
pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::default().routes(routes!(own)).routes(routes!(list)).routes(routes!(get, put, delete))
}

/// A number of sessions, or `unlimited`.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a number, or \"unlimited\"")]
enum SessionLimit {
    /// So many.
    Number(u32),
    /// None.
    Word(NoLimit),
}

/// By hand, because a variant cannot say how large its number may be.
impl utoipa::PartialSchema for SessionLimit {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(u32::MAX))
            .description(Some("So many."));
        let word = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some([UNLIMITED]))
            .description(Some("No limit."));
        let either = OneOfBuilder::new().item(number).item(word);
        either.description(Some("A number of sessions, or `unlimited`.")).into()
    }
}

impl ToSchema for SessionLimit {}

/// No limit.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NoLimit {
    /// There may be any number.
    Unlimited,
}

/// What is to apply to one user alone. What is absent or `null` is as configured.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct QuotaInput {
    /// Sessions, however they are: a number, or `unlimited`.
    sessions: Option<SessionLimit>,
    /// Processors of sessions that are to run, like `4` or `500m`, or `unlimited`.
    #[schema(
        pattern = r"^(unlimited|[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)$"
    )]
    cpu: Option<String>,
    /// Memory of sessions that are to run, like `16Gi`, or `unlimited`.
    #[schema(
        pattern = r"^(unlimited|[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)$"
    )]
    memory: Option<String>,
    /// Disks, volumes and the home, like `100Gi`, or `unlimited`.
    #[schema(
        pattern = r"^(unlimited|[+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)$"
    )]
    storage: Option<String>,
}

impl Body for QuotaInput {}

impl QuotaInput {
    fn read(self) -> Result<QuotaOverride, Problem> {
        let sessions = self.sessions.map(|limit| match limit {
            SessionLimit::Number(number) => number.to_string(),
            SessionLimit::Word(NoLimit::Unlimited) => UNLIMITED.to_owned(),
        });
        let (mut set, mut faults) = (QuotaOverride::default(), Faults::default());
        for (kind, text) in [
            (QuotaKind::Sessions, sessions),
            (QuotaKind::Cpu, self.cpu),
            (QuotaKind::Memory, self.memory),
            (QuotaKind::Storage, self.storage),
        ] {
            if let Some(text) = text
                && let Err(error) = set.set(kind, &text)
            {
                faults.add(kind.as_str(), format!("{error}, or \"{UNLIMITED}\""));
            }
        }
        faults.finish()?;
        Ok(set)
    }
}

/// What applies to a user; `null` = no limit.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaLimits)]
struct LimitsView {
    #[schema(required)]
    sessions: Option<u64>,
    #[schema(required)]
    cpu: Option<String>,
    #[schema(required)]
    memory: Option<String>,
    #[schema(required)]
    storage: Option<String>,
}

/// What the user's sessions take.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaUsage)]
struct UsageView {
    /// All of them.
    sessions: u64,
    /// Of those that are to run.
    cpu: String,
    /// Of those that are to run.
    memory: String,
    /// Of all of them; the home counts once.
    storage: String,
}

/// What was set for the user alone; what is `null` is as configured.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaSetting)]
struct SettingView {
    #[schema(required)]
    sessions: Option<SessionLimit>,
    #[schema(required)]
    cpu: Option<String>,
    #[schema(required)]
    memory: Option<String>,
    #[schema(required)]
    storage: Option<String>,
}

/// How a user stands with their quota.
#[derive(Serialize, ToSchema)]
#[schema(as = Quota)]
struct QuotaView {
    user_id: String,
    limits: LimitsView,
    used: UsageView,
    set: SettingView,
}

impl From<QuotaState> for QuotaView {
    fn from(state: QuotaState) -> Self {
        let QuotaState { user_id, limits, set, used } = state;
        let limit = |kind: QuotaKind| limits.of(kind).map(|limit| kind.write(limit));
        let used_of = |kind: QuotaKind| kind.write(used.of(kind));
        let setting = |kind: QuotaKind| {
            set.of(kind).map(|limit| limit.map_or_else(|| UNLIMITED.to_owned(), |limit| kind.write(limit)))
        };
        let sessions = set.of(QuotaKind::Sessions).map(|limit| match limit {
            Some(limit) => SessionLimit::Number(u32::try_from(limit).unwrap_or(u32::MAX)),
            None => SessionLimit::Word(NoLimit::Unlimited),
        });
        Self {
            limits: LimitsView {
                sessions: limits.of(QuotaKind::Sessions),
                cpu: limit(QuotaKind::Cpu),
                memory: limit(QuotaKind::Memory),
                storage: limit(QuotaKind::Storage),
            },
            used: UsageView {
                sessions: used.of(QuotaKind::Sessions),
                cpu: used_of(QuotaKind::Cpu),
                memory: used_of(QuotaKind::Memory),
                storage: used_of(QuotaKind::Storage),
            },
            set: SettingView {
                sessions,
                cpu: setting(QuotaKind::Cpu),
                memory: setting(QuotaKind::Memory),
                storage: setting(QuotaKind::Storage),
            },
            user_id,
        }
    }
}

/// Read one's own quota
///
/// The limits for one's sessions, and what they take.
#[utoipa::path(
    get,
    path = "/api/v1/quota",
    operation_id = "get_own_quota",
    tag = "Accounts",
    responses((status = 200, body = QuotaView, description = "The quota."), Refused<400>, Refused<503>),
)]
async fn own(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    _: Query<NoParameters>,
) -> Result<Response, Problem> {
    let state = shared.store.quota(&caller.user_id).await?;
    Ok(Json(QuotaView::from(state)).into_response())
}

#[derive(Serialize, ToSchema)]
#[schema(as = QuotaPage)]
struct Page {
    items: Vec<QuotaView>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which quotas are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
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

/// List quotas
///
/// Of the users for whom something else applies than is configured, by id. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/quotas",
    operation_id = "list_quotas",
    tag = "Accounts",
    params(Wanted),
    responses((status = 200, body = Page, description = "A page of them."), Refused<400>, Refused<403>, Refused<503>),
)]
async fn list(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    Query(Wanted { limit, cursor }): Query<Wanted>,
) -> Result<Response, Problem> {
    // One more than asked for tells whether there is a next page.
    let mut states = shared.store.quotas(cursor.as_deref(), limit + 1).await?;
    let more = states.len() > limit as usize;
    states.truncate(limit as usize);
    let next_cursor = states.last().filter(|_| more).map(|last| write_name_cursor(&last.user_id));
    let items = states.into_iter().map(QuotaView::from).collect();
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// Read a user's quota
///
/// Of any user, whether something was set for them or not. For operators.
#[utoipa::path(
    get,
    path = "/api/v1/admin/quotas/{user_id}",
    operation_id = "get_quota",
    tag = "Accounts",
    params(AnyOwner),
    responses((status = 200, body = QuotaView, description = "The quota."), Refused<400>, Refused<403>, Refused<503>),
)]
async fn get(
    State(shared): State<Arc<Shared>>,
    _: Operator,
    _: Query<NoParameters>,
    Path(AnyOwner(user_id)): Path<AnyOwner>,
) -> Result<Response, Problem> {
    let state = shared.store.quota(&user_id).await?;
    Ok(Json(QuotaView::from(state)).into_response())
}

/// Set a user's quota
///
/// In place of what is configured; what is not given is as configured. Sessions that are there already stay. For
/// administrators.
#[utoipa::path(
    put,
    path = "/api/v1/admin/quotas/{user_id}",
    operation_id = "put_quota",
    tag = "Accounts",
    params(AnyOwner),
    responses(
        (status = 200, body = QuotaView, description = "The quota."),
        Refused<400>,
        Refused<403>,
        Refused<422>,
        Refused<503>,
    ),
)]
async fn put(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    Path(AnyOwner(user_id)): Path<AnyOwner>,
    _: Query<NoParameters>,
    Json(input): Json<QuotaInput>,
) -> Result<Response, Problem> {
    let mut faults = Faults::default();
    faults.id("user_id", &user_id);
    faults.finish()?;
    let state = shared.store.set_quota(caller.actor(), &user_id, input.read()?).await?;
    tracing::info!(target_user = user_id, "a quota was set");
    Ok(Json(QuotaView::from(state)).into_response())
}

/// Remove a user's quota
///
/// What is configured applies to them again. For administrators.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/quotas/{user_id}",
    operation_id = "delete_quota",
    tag = "Accounts",
    params(AnyOwner),
    responses((status = 204, description = "It is removed."), Refused<400>, Refused<403>, Refused<503>),
)]
async fn delete(
    State(shared): State<Arc<Shared>>,
    Admin(caller): Admin,
    _: Query<NoParameters>,
    Path(AnyOwner(user_id)): Path<AnyOwner>,
) -> Result<StatusCode, Problem> {
    if !shared.store.remove_quota(caller.actor(), &user_id).await? {
        return Err(AnyOwner::unknown());
    }
    tracing::info!(target_user = user_id, "a quota was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Whoever sessions may belong to, as a path names them: sessions need no user who is known here.
#[derive(utoipa::IntoParams)]
#[into_params(names("user_id"), parameter_in = Path)]
struct AnyOwner(
    /// The user's id.
    String,
);

impl InPath for AnyOwner {
    async fn find(name: String, _: &Caller, _: &Shared) -> Found<Self> {
        Ok(Some(Self(name)))
    }

    fn unknown() -> Problem {
        Problem::not_found("nothing is set for this user")
    }
}
