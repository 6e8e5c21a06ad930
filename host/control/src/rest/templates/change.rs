//! Making and changing templates.

use std::sync::Arc;

use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::body::{TemplateInput, TemplatePatch, valid_name};
use super::precondition::{Precondition, changed};
use super::{AnyTemplate, TemplateView, answer, import};
use crate::control::Shared;
use crate::domain::{Template, TemplateBody};
use crate::rest::auth::{Caller, Operator};
use crate::rest::cursor::encoded_segment;
use crate::rest::extract::{InPath as _, Json, NoParameters, Path, Query, read};
use crate::rest::openapi::Refused;
use crate::rest::problem::{FieldError, Problem};
use crate::store::{Expected, TemplateWrite, TemplateWritten};

/// How often a change is made anew because somebody else was faster.
const TRIES: u32 = 8;

/// Make a template
///
/// YAML is imported, as under `/api/v1/templates/import`. For operators.
#[utoipa::path(
    post,
    path = "/api/v1/templates",
    operation_id = "create_template",
    tag = "Templates",
    params(import::Wanted),
    request_body(content((TemplateInput = "application/json"), (Object = "application/yaml"))),
    responses(
        (
            status = 201,
            body = TemplateView<'_>,
            description = "The template.",
            headers(
                ("ETag" = String, description = "Its version, for `If-Match`."),
                ("Location" = String, description = "Where it is."),
            ),
        ),
        (status = 200, body = import::Report, description = "Of YAML: everything was imported."),
        (status = 207, body = import::Report, description = "Of YAML: some of it was imported."),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn post(
    State(shared): State<Arc<Shared>>,
    operator: Operator,
    request: Request,
) -> Result<Response, Problem> {
    let is_yaml = import::is_yaml(request.headers());
    let (mut parts, body) = request.into_parts();
    if is_yaml {
        let wanted = Query::from_request_parts(&mut parts, &shared).await?;
        let yaml = import::Yaml::from_request(Request::from_parts(parts, body), &shared).await?;
        return import::import(State(shared), operator, wanted, yaml).await;
    }
    let _: Query<NoParameters> = Query::from_request_parts(&mut parts, &shared).await?;
    let Json(input) = Json::<TemplateInput>::from_request(Request::from_parts(parts, body), &shared).await?;
    Ok(made(&make(&shared, &operator.0, input).await?))
}

/// Makes a template of which there is none.
pub(crate) async fn make(
    shared: &Shared,
    caller: &Caller,
    input: TemplateInput,
) -> Result<Template, Problem> {
    let (name, input) = input.named(None)?;
    let body = input.validate(None)?;
    let write = TemplateWrite { name, body, expected: Expected::Nothing };
    match written(shared, caller, write).await? {
        TemplateWritten::Unmet(_) => {
            Err(Problem::conflict("exists", "there is a template with this name; PUT replaces it"))
        }
        TemplateWritten::Created(template)
        | TemplateWritten::Replaced(template)
        | TemplateWritten::Unchanged(template) => Ok(template),
    }
}

/// Make or replace a template
///
/// For operators.
#[utoipa::path(
    put,
    path = "/api/v1/templates/{name}",
    operation_id = "put_template",
    tag = "Templates",
    params(AnyTemplate, Precondition),
    responses(
        (
            status = 200,
            body = TemplateView<'_>,
            description = "The template, replaced or as it was.",
            headers(("ETag" = String, description = "Its version, for `If-Match`.")),
        ),
        (
            status = 201,
            body = TemplateView<'_>,
            description = "The template, made.",
            headers(
                ("ETag" = String, description = "Its version, for `If-Match`."),
                ("Location" = String, description = "Where it is."),
            ),
        ),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<412>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Path(AnyTemplate(name)): Path<AnyTemplate>,
    _: Query<NoParameters>,
    Precondition(expected): Precondition,
    Json(input): Json<TemplateInput>,
) -> Result<Response, Problem> {
    let Changed { template, created } = make_or_replace(&shared, &caller, &name, expected, input).await?;
    Ok(if created { made(&template) } else { answer(StatusCode::OK, &template) })
}

/// A template as it is after a change.
pub(crate) struct Changed {
    pub(crate) template: Template,
    /// There was none before.
    pub(crate) created: bool,
}

/// Makes or replaces the template of this name.
pub(crate) async fn make_or_replace(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    expected: Expected,
    input: TemplateInput,
) -> Result<Changed, Problem> {
    valid_name(name)?;
    let (name, input) = input.named(Some(name))?;
    change(shared, caller, &name, expected, |found| input.clone().validate(found.map(|found| &found.body)))
        .await
}

/// Change a template
///
/// With a merge patch (RFC 7396). For operators.
#[utoipa::path(
    patch,
    path = "/api/v1/templates/{name}",
    operation_id = "change_template",
    tag = "Templates",
    params(AnyTemplate, Precondition),
    request_body(content((TemplatePatch = "application/json"), (TemplatePatch = "application/merge-patch+json"))),
    responses(
        (
            status = 200,
            body = TemplateView<'_>,
            description = "The template.",
            headers(("ETag" = String, description = "Its version, for `If-Match`.")),
        ),
        Refused<400>,
        Refused<403>,
        Refused<409>,
        Refused<412>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Path(AnyTemplate(name)): Path<AnyTemplate>,
    _: Query<NoParameters>,
    Precondition(expected): Precondition,
    Json(TemplatePatch(patch)): Json<TemplatePatch>,
) -> Result<Response, Problem> {
    let template = merge(&shared, &caller, &name, expected, patch).await?;
    Ok(answer(StatusCode::OK, &template))
}

/// Changes the template of this name with a merge patch.
pub(crate) async fn merge(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    expected: Expected,
    patch: Value,
) -> Result<Template, Problem> {
    let expected = match expected {
        Expected::Anything => Expected::Something,
        expected => expected,
    };
    if !patch.is_object() {
        return Err(Problem::bad_request(vec![FieldError::new("", "must be an object")]));
    }
    let changed = change(shared, caller, name, expected, |found| {
        let found = found.ok_or_else(AnyTemplate::unknown)?;
        let mut whole = serde_json::to_value(&found.body).map_err(|error| {
            tracing::error!(%error, "a template cannot be written as JSON");
            Problem::internal()
        })?;
        merge_patch(&mut whole, patch.clone());
        let (_, input) = read::<TemplateInput>(whole.to_string().as_bytes())?.named(Some(name))?;
        input.validate(Some(&found.body))
    });
    Ok(changed.await?.template)
}

/// Makes one version out of another. Somebody else who is faster does not matter to those who expect no special
/// version: then it is made out of theirs.
async fn change(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    expected: Expected,
    make: impl Fn(Option<&Template>) -> Result<TemplateBody, Problem>,
) -> Result<Changed, Problem> {
    for _ in 0..TRIES {
        let found = shared.store.template(name).await?;
        if !expected.met(found.as_ref()) {
            return Err(if expected == Expected::Something { AnyTemplate::unknown() } else { changed() });
        }
        let body = make(found.as_ref())?;
        let exactly = match &found {
            Some(found) => Expected::Version(found.generation, found.created_at),
            None => Expected::Nothing,
        };
        match written(shared, caller, TemplateWrite { name: name.to_owned(), body, expected: exactly })
            .await?
        {
            TemplateWritten::Created(template) => return Ok(Changed { template, created: true }),
            TemplateWritten::Replaced(template) | TemplateWritten::Unchanged(template) => {
                return Ok(Changed { template, created: false });
            }
            TemplateWritten::Unmet(_) => {}
        }
    }
    Err(Problem::conflict("busy", "the template changes all the time; try again"))
}

async fn written(shared: &Shared, caller: &Caller, write: TemplateWrite) -> Result<TemplateWritten, Problem> {
    let all = shared.store.write_templates(caller.actor(), vec![write]).await?;
    all.into_iter().next().ok_or_else(Problem::internal)
}

fn made(template: &Template) -> Response {
    let mut response = answer(StatusCode::CREATED, template);
    let encoded = encoded_segment(&template.name);
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/templates/{encoded}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// RFC 7396: objects are merged, `null` removes, everything else replaces.
fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(&key);
            } else {
                merge_patch(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": "foo"}), json!({"b": {"c": null}}), json!({"a": "foo", "b": {}})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        ] {
            let mut merged = target;
            merge_patch(&mut merged, patch);
            assert_eq!(merged, expected);
        }
    }
}
