//! Templates: `/api/v1/templates`.

pub(crate) mod body;
pub(crate) mod change;
pub(crate) mod import;
mod manifest;
pub(crate) mod precondition;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, Operator};
use super::cursor::{read_name_cursor, write_name_cursor};
use super::extract::{Found, InPath, Json, NoParameters, ParameterSet, Parameters, Path, Query};
use super::openapi::Refused;
use super::problem::Problem;
use crate::control::Shared;
use crate::domain::{AppType, Generation, Template, TemplateBody};
use crate::store::{Expected, TemplateDeletion};
use precondition::{Precondition, entity_tag};

/// So many are read at once while looking for those that are asked for.
const READ_AHEAD: u32 = 100;

/// The paths of templates.
pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::default()
        .routes(routes!(list, change::post))
        .routes(routes!(import::import))
        .routes(routes!(one, change::put, change::patch, delete))
}

/// A template.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Template)]
pub(crate) struct TemplateView<'a> {
    /// Its key.
    name: &'a str,
    #[serde(flatten)]
    body: TemplateBody,
    /// Counts the changes.
    generation: Generation,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl<'a> TemplateView<'a> {
    pub(crate) fn new(template: &'a Template) -> Self {
        Self {
            name: &template.name,
            body: TemplateBody { spec: template.body.spec.redacted(), ..template.body.clone() },
            generation: template.generation,
            created_at: template.created_at,
            updated_at: template.updated_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = TemplatePage)]
struct Page<'a> {
    items: Vec<TemplateView<'a>>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which templates are asked for.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only those of this category.
    #[param(max_length = 512)]
    category: Option<String>,
    /// Only those with this tag.
    #[param(max_length = 512)]
    tag: Option<String>,
    /// Only those that run on controllers of this type.
    #[param(max_length = 512)]
    controller_type: Option<String>,
    /// Only those of this kind.
    app_type: Option<AppType>,
    /// Only those with this text in their name, display name, description, category or tags.
    // In lower case.
    #[param(max_length = 512)]
    search: Option<String>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 500, default = 50, required = false)]
    limit: u32,
    /// `next_cursor` of the page before.
    #[param(pattern = "^([0-9a-fA-F]{2})*$")]
    cursor: Option<String>,
}

impl ParameterSet for Filter {
    fn take(given: &mut Parameters) -> Self {
        Self {
            category: given.short("category"),
            tag: given.short("tag"),
            controller_type: given.short("controller_type"),
            app_type: given.take("app_type", |text| {
                AppType::parse(text).ok_or_else(|| "must be desktop or webapp".to_owned())
            }),
            search: given.short("search").map(|text| text.to_lowercase()),
            limit: given.limit(),
            cursor: given.take("cursor", read_name_cursor),
        }
    }
}

impl Filter {
    fn takes(&self, template: &Template) -> bool {
        let body = &template.body;
        let found = |text: &str| {
            let mut texts = [&template.name, &body.display_name, &body.description, &body.category]
                .into_iter()
                .chain(&body.tags);
            texts.any(|one| one.to_lowercase().contains(text))
        };
        self.category.as_ref().is_none_or(|category| *category == body.category)
            && self.tag.as_ref().is_none_or(|tag| body.tags.contains(tag))
            && self.controller_type.as_ref().is_none_or(|kind| body.runs_on(kind))
            && self.app_type.is_none_or(|kind| kind == body.app_type)
            && self.search.as_ref().is_none_or(|text| found(text))
    }
}

/// List templates
///
/// By name.
#[utoipa::path(
    get,
    path = "/api/v1/templates",
    operation_id = "list_templates",
    tag = "Templates",
    params(Filter),
    responses((status = 200, body = Page<'_>, description = "A page of them."), Refused<400>, Refused<503>),
)]
async fn list(State(shared): State<Arc<Shared>>, Query(filter): Query<Filter>) -> Result<Response, Problem> {
    let (found, next_cursor) = page(&shared, filter).await?;
    let items = found.iter().map(TemplateView::new).collect();
    Ok(Json(Page { items, next_cursor }).into_response())
}

/// A page of templates, and the cursor of the next one.
pub(crate) async fn page(
    shared: &Shared,
    filter: Filter,
) -> Result<(Vec<Template>, Option<String>), Problem> {
    let limit = filter.limit as usize;
    let mut after = filter.cursor.clone();

    // There are few of them, and texts are compared here as people do, which databases do not do alike. One more
    // than asked for tells whether there is a next page.
    let mut found = Vec::new();
    while found.len() <= limit {
        let page = shared.store.templates(after.as_deref(), READ_AHEAD).await?;
        let last = (page.len() as u64) < u64::from(READ_AHEAD);
        after = page.last().map(|template| template.name.clone());
        found.extend(page.into_iter().filter(|template| filter.takes(template)));
        if last {
            break;
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| write_name_cursor(&last.name));
    Ok((found, next_cursor))
}

/// Read a template
#[utoipa::path(
    get,
    path = "/api/v1/templates/{name}",
    operation_id = "get_template",
    tag = "Templates",
    params(AnyTemplate),
    responses(
        (
            status = 200,
            body = TemplateView<'_>,
            description = "The template.",
            headers(("ETag" = String, description = "Its version, for `If-Match`.")),
        ),
        Refused<400>,
        Refused<503>,
    ),
)]
async fn one(
    State(shared): State<Arc<Shared>>,
    _: Query<NoParameters>,
    Path(AnyTemplate(name)): Path<AnyTemplate>,
) -> Result<Response, Problem> {
    Ok(answer(StatusCode::OK, &named(&shared, &name).await?))
}

/// The template of this name.
pub(crate) async fn named(shared: &Shared, name: &str) -> Result<Template, Problem> {
    shared.store.template(name).await?.ok_or_else(AnyTemplate::unknown)
}

/// Remove a template
///
/// Sessions made from it do not need it any more. For operators.
#[utoipa::path(
    delete,
    path = "/api/v1/templates/{name}",
    operation_id = "delete_template",
    tag = "Templates",
    params(AnyTemplate, Precondition),
    responses(
        (status = 204, description = "It is removed."),
        Refused<400>,
        Refused<403>,
        Refused<412>,
        Refused<503>,
    ),
)]
async fn delete(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    _: Query<NoParameters>,
    Path(AnyTemplate(name)): Path<AnyTemplate>,
    Precondition(expected): Precondition,
) -> Result<StatusCode, Problem> {
    remove(&shared, &caller, &name, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the template of this name.
pub(crate) async fn remove(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    expected: Expected,
) -> Result<(), Problem> {
    match shared.store.delete_template(caller.actor(), name, expected).await? {
        TemplateDeletion::Deleted => Ok(()),
        TemplateDeletion::NoSuchTemplate => Err(AnyTemplate::unknown()),
        TemplateDeletion::Unmet => Err(precondition::changed()),
    }
}

/// A template as a path names it; whether there is one is seen when it is used.
#[derive(utoipa::IntoParams)]
#[into_params(names("name"), parameter_in = Path)]
struct AnyTemplate(
    /// The template's name.
    String,
);

impl InPath for AnyTemplate {
    async fn find(name: String, _: &Caller, _: &Shared) -> Found<Self> {
        Ok(Some(Self(name)))
    }

    fn unknown() -> Problem {
        Problem::not_found("there is no template with this name")
    }
}

/// A template with its version.
fn answer(status: StatusCode, template: &Template) -> Response {
    let tag = [(header::ETAG, entity_tag(template))];
    (status, tag, Json(TemplateView::new(template))).into_response()
}
