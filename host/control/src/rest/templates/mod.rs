//! Templates: `/api/v1/templates`.

mod body;
mod change;
mod import;
mod manifest;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use chrono::{DateTime, Utc};
use http::{StatusCode, header};
use serde::Serialize;

use super::auth::Caller;
use super::problem::Problem;
use super::query::{Parameters, read_name_cursor, write_name_cursor};
use crate::control::Shared;
use crate::domain::{AppType, Generation, MAX_ID_BYTES, Template, TemplateBody};
use crate::store::TemplateDeletion;

/// So many are read at once while looking for those that are asked for.
const READ_AHEAD: u32 = 100;

/// The paths of templates.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/templates", get(list).post(change::post))
        .route("/api/v1/templates/import", post(import::import))
        .route("/api/v1/templates/{name}", get(one).put(change::put).patch(change::patch).delete(delete))
}

/// A template as callers see it.
#[derive(Debug, Serialize)]
struct TemplateView<'a> {
    name: &'a str,
    #[serde(flatten)]
    body: TemplateBody,
    generation: Generation,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl<'a> TemplateView<'a> {
    fn new(template: &'a Template) -> Self {
        Self {
            name: &template.name,
            body: TemplateBody { spec: template.body.spec.redacted(), ..template.body.clone() },
            generation: template.generation,
            created_at: template.created_at,
            updated_at: template.updated_at,
        }
    }
}

#[derive(Serialize)]
struct Page<'a> {
    items: Vec<TemplateView<'a>>,
    next_cursor: Option<String>,
}

/// Which templates are asked for.
#[derive(Default)]
struct Filter {
    category: Option<String>,
    tag: Option<String>,
    controller_type: Option<String>,
    app_type: Option<AppType>,
    /// In lower case.
    search: Option<String>,
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

/// `GET /api/v1/templates`, by name.
async fn list(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let allowed = ["category", "tag", "controller_type", "app_type", "search", "limit", "cursor"];
    let mut parameters = Parameters::read(&mut parts, &allowed).await?;
    let filter = Filter {
        category: parameters.take("category", short),
        tag: parameters.take("tag", short),
        controller_type: parameters.take("controller_type", short),
        app_type: parameters.take("app_type", |text| {
            AppType::parse(text).ok_or_else(|| "must be desktop or webapp".to_owned())
        }),
        search: parameters.take("search", |text| short(text).map(|text| text.to_lowercase())),
    };
    let limit = parameters.limit();
    let mut after = parameters.take("cursor", read_name_cursor);
    parameters.finish()?;
    let limit = limit as usize;

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
    let items = found.iter().map(TemplateView::new).collect();
    Ok(Json(Page { items, next_cursor }).into_response())
}

fn short(text: &str) -> Result<String, String> {
    if text.len() > MAX_ID_BYTES {
        Err(format!("longer than {MAX_ID_BYTES} bytes"))
    } else {
        Ok(text.to_owned())
    }
}

/// `GET /api/v1/templates/{name}`.
async fn one(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let Path(name) = path.map_err(|_| unknown())?;
    let template = shared.store.template(&name).await?.ok_or_else(unknown)?;
    Ok(answer(StatusCode::OK, &template))
}

/// `DELETE /api/v1/templates/{name}`. Sessions made from it do not need it any more.
async fn delete(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let (mut parts, _) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let Path(name) = path.map_err(|_| unknown())?;
    let expected = change::expected(&parts.headers)?;
    match shared.store.delete_template(&name, expected).await? {
        TemplateDeletion::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        TemplateDeletion::NoSuchTemplate => Err(unknown()),
        TemplateDeletion::Unmet => Err(change::changed()),
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no template with this name")
}

/// A template with its version.
fn answer(status: StatusCode, template: &Template) -> Response {
    let tag = [(header::ETAG, change::entity_tag(template))];
    (status, tag, Json(TemplateView::new(template))).into_response()
}
