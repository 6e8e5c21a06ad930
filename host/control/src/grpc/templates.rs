//! `TemplateService`.

use std::sync::Arc;

use streamspace_proto::api::v1 as proto;
use tonic::{Request, Response};

use super::call::{Reply, digits, fault, json_object, opened, opened_for_operators, word};
use crate::control::Shared;
use crate::domain::Template;
use crate::rest::extract::{parameters, read};
use crate::rest::problem::Problem;
use crate::rest::templates::body::TemplateInput;
use crate::rest::templates::change::{self, Changed};
use crate::rest::templates::precondition::{entity_tag, expected};
use crate::rest::templates::{self, TemplateView, import};
use crate::store::Expected;

/// The service.
pub(super) struct Templates(pub(super) Arc<Shared>);

impl Templates {
    fn shown(&self, template: &Template) -> Result<proto::Template, Problem> {
        let shown = self.0.contract.message::<proto::Template>(&TemplateView::new(template))?;
        Ok(proto::Template { etag: entity_tag(template), ..shown })
    }

    /// A template as somebody wrote it.
    fn written(&self, template: Option<proto::Template>) -> Result<TemplateInput, Problem> {
        let template = template.ok_or_else(|| fault("template", "is required"))?;
        let mut written = self.0.contract.json(&template)?;
        // A header there; and a name that is not said is the one of the request.
        written.remove("etag");
        if template.name.is_empty() {
            written.remove("name");
        }
        read(serde_json::Value::from(written).to_string().as_bytes())
    }
}

fn precondition(given: Option<proto::Precondition>) -> Result<Expected, Problem> {
    let proto::Precondition { if_match, if_none_match } = given.unwrap_or_default();
    expected(if_match, if_none_match)
}

#[tonic::async_trait]
impl proto::template_service_server::TemplateService for Templates {
    async fn create(&self, request: Request<proto::CreateTemplateRequest>) -> Reply<proto::Template> {
        let (caller, request) = opened_for_operators(request)?;
        let input = self.written(request.template)?;
        let template = change::make(&self.0, &caller, input).await?;
        Ok(Response::new(self.shown(&template)?))
    }

    async fn get(&self, request: Request<proto::GetTemplateRequest>) -> Reply<proto::Template> {
        let (_, request) = opened(request)?;
        let template = templates::named(&self.0, &request.name).await?;
        Ok(Response::new(self.shown(&template)?))
    }

    async fn list(
        &self,
        request: Request<proto::ListTemplatesRequest>,
    ) -> Reply<proto::ListTemplatesResponse> {
        let (_, request) = opened(request)?;
        let app_type = word("app_type", request.app_type, |kind| match kind {
            proto::AppType::Unspecified => None,
            proto::AppType::Desktop => Some("desktop"),
            proto::AppType::Webapp => Some("webapp"),
        })?;
        let filter = parameters([
            ("category", request.category),
            ("tag", request.tag),
            ("controller_type", request.controller_type),
            ("app_type", app_type),
            ("search", request.search),
            ("limit", digits(request.limit)),
            ("cursor", request.cursor),
        ])?;
        let (found, next_cursor) = templates::page(&self.0, filter).await?;
        let items = found.iter().map(|template| self.shown(template)).collect::<Result<_, _>>()?;
        Ok(Response::new(proto::ListTemplatesResponse { items, next_cursor }))
    }

    async fn put(&self, request: Request<proto::PutTemplateRequest>) -> Reply<proto::PutTemplateResponse> {
        let (caller, request) = opened_for_operators(request)?;
        let expected = precondition(request.precondition)?;
        let input = self.written(request.template)?;
        let changed = change::make_or_replace(&self.0, &caller, &request.name, expected, input).await?;
        let Changed { template, created } = changed;
        Ok(Response::new(proto::PutTemplateResponse { template: Some(self.shown(&template)?), created }))
    }

    async fn patch(&self, request: Request<proto::PatchTemplateRequest>) -> Reply<proto::Template> {
        let (caller, request) = opened_for_operators(request)?;
        let expected = precondition(request.precondition)?;
        let patch = request.patch.ok_or_else(|| fault("patch", "is required"))?;
        let patch = json_object(patch).into();
        let template = change::merge(&self.0, &caller, &request.name, expected, patch).await?;
        Ok(Response::new(self.shown(&template)?))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteTemplateRequest>,
    ) -> Reply<proto::DeleteTemplateResponse> {
        let (caller, request) = opened_for_operators(request)?;
        let expected = precondition(request.precondition)?;
        templates::remove(&self.0, &caller, &request.name, expected).await?;
        Ok(Response::new(proto::DeleteTemplateResponse {}))
    }

    async fn import(
        &self,
        request: Request<proto::ImportTemplatesRequest>,
    ) -> Reply<proto::ImportTemplatesResponse> {
        let (caller, proto::ImportTemplatesRequest { yaml, replace }) = opened_for_operators(request)?;
        let report = import::take_in(&self.0, &caller, &yaml, replace).await?;
        Ok(Response::new(self.0.contract.message(&report)?))
    }
}
