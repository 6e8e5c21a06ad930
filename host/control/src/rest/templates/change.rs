//! Making and changing templates, so that two editors do not overwrite each other: every answer has an `ETag`, and
//! a change with that in `If-Match` is refused if the template is another by then.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use chrono::DateTime;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::body::{TemplateInput, valid_name};
use super::{answer, import, unknown};
use crate::control::Shared;
use crate::domain::{Generation, Template, TemplateBody};
use crate::rest::auth::Caller;
use crate::rest::body::read;
use crate::rest::create::{media_type, read_body};
use crate::rest::problem::{FieldError, Problem};
use crate::rest::query::{Parameters, encoded_segment};
use crate::store::{Expected, TemplateWrite, TemplateWritten};

/// How often a change is made anew because somebody else was faster.
const TRIES: u32 = 8;

/// `POST /api/v1/templates`: a new one; YAML is imported.
pub(super) async fn post(
    state: State<Arc<Shared>>,
    caller: Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    if import::is_yaml(request.headers()) {
        return import::import(state, caller, request).await;
    }
    let (State(shared), Extension(caller)) = (state, caller);
    caller.require_operator()?;
    let (parts, body) = prepared(&shared, request).await?;
    expect(&parts, &["application/json"])?;
    let (name, input) = read::<TemplateInput>(&body)?.named(None)?;
    let body = input.validate(None)?;
    let write = TemplateWrite { name, body, expected: Expected::Nothing };
    match written(&shared, write).await? {
        TemplateWritten::Unmet(_) => {
            Err(Problem::conflict("exists", "there is a template with this name; PUT replaces it"))
        }
        TemplateWritten::Created(template)
        | TemplateWritten::Replaced(template)
        | TemplateWritten::Unchanged(template) => Ok(made(&template)),
    }
}

/// `PUT /api/v1/templates/{name}`: makes or replaces it.
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let Path(name) = path.map_err(|_| unknown())?;
    let (parts, body) = prepared(&shared, request).await?;
    expect(&parts, &["application/json"])?;
    let expected = expected(&parts)?;
    valid_name(&name)?;
    let (name, input) = read::<TemplateInput>(&body)?.named(Some(&name))?;
    change(&shared, &name, expected, |found| input.clone().validate(found.map(|found| &found.body))).await
}

/// `PATCH /api/v1/templates/{name}`: a merge patch (RFC 7396).
pub(super) async fn patch(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require_operator()?;
    let Path(name) = path.map_err(|_| unknown())?;
    let (parts, body) = prepared(&shared, request).await?;
    expect(&parts, &["application/json", "application/merge-patch+json"])?;
    let expected = match expected(&parts)? {
        Expected::Anything => Expected::Something,
        expected => expected,
    };
    let patch: Value = read(&body)?;
    if !patch.is_object() {
        return Err(Problem::bad_request(vec![FieldError::new("", "must be an object")]));
    }
    change(&shared, &name, expected, |found| {
        let found = found.ok_or_else(unknown)?;
        let mut whole = serde_json::to_value(&found.body).map_err(|error| {
            tracing::error!(%error, "a template cannot be written as JSON");
            Problem::internal()
        })?;
        merge_patch(&mut whole, patch.clone());
        let (_, input) = read::<TemplateInput>(whole.to_string().as_bytes())?.named(Some(&name))?;
        input.validate(Some(&found.body))
    })
    .await
}

/// Makes one version out of another. Somebody else who is faster does not matter to those who expect no special
/// version: then it is made out of theirs.
async fn change(
    shared: &Shared,
    name: &str,
    expected: Expected,
    make: impl Fn(Option<&Template>) -> Result<TemplateBody, Problem>,
) -> Result<Response, Problem> {
    for _ in 0..TRIES {
        let found = shared.store.template(name).await?;
        if !expected.met(found.as_ref()) {
            return Err(if expected == Expected::Something { unknown() } else { changed() });
        }
        let body = make(found.as_ref())?;
        let exactly = match &found {
            Some(found) => Expected::Version(found.generation, found.created_at),
            None => Expected::Nothing,
        };
        match written(shared, TemplateWrite { name: name.to_owned(), body, expected: exactly }).await? {
            TemplateWritten::Created(template) => return Ok(made(&template)),
            TemplateWritten::Replaced(template) | TemplateWritten::Unchanged(template) => {
                return Ok(answer(StatusCode::OK, &template));
            }
            TemplateWritten::Unmet(_) => {}
        }
    }
    Err(Problem::conflict("busy", "the template changes all the time; try again"))
}

async fn written(shared: &Shared, write: TemplateWrite) -> Result<TemplateWritten, Problem> {
    let all = shared.store.write_templates(vec![write]).await?;
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

/// A changed template is not what the caller believes it to be.
pub(super) fn changed() -> Problem {
    Problem::precondition_failed("the template is not the version that was expected; read it again")
}

/// The version of a template. One that was deleted and made again is another.
pub(super) fn entity_tag(template: &Template) -> String {
    format!("\"{}-{:x}\"", template.generation.get(), template.created_at.timestamp_micros())
}

/// What `If-Match` and `If-None-Match` expect to be there.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let single = |name: HeaderName| {
        let mut values = headers.get_all(&name).iter();
        let value = values.next().map(|value| value.to_str().unwrap_or_default().trim().to_owned());
        let many = values.next().is_some() || value.as_ref().is_some_and(|value| value.contains(','));
        if many {
            return Err(Problem::bad_request(vec![FieldError::new(name.as_str(), "expected one value")]));
        }
        Ok(value)
    };
    match (single(header::IF_MATCH)?, single(header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Expected::Anything),
        (None, Some(none)) if none == "*" => Ok(Expected::Nothing),
        (Some(tag), None) if tag == "*" => Ok(Expected::Something),
        (Some(tag), None) => read_entity_tag(&tag).ok_or_else(changed),
        _ => Err(Problem::bad_request(vec![FieldError::new(
            "if-none-match",
            "only * is understood for a change, and not beside If-Match",
        )])),
    }
}

/// A tag that was never given out is of no version.
fn read_entity_tag(tag: &str) -> Option<Expected> {
    let (generation, created) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
    let created_at = DateTime::from_timestamp_micros(i64::from_str_radix(created, 16).ok()?)?;
    Some(Expected::Version(Generation::from_db(generation.parse().ok()?), created_at))
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

async fn prepared(shared: &Shared, request: Request) -> Result<(HeaderMap, axum::body::Bytes), Problem> {
    let (mut parts, body) = request.into_parts();
    Parameters::read(&mut parts, &[]).await?.finish()?;
    let headers = parts.headers.clone();
    let body = read_body(Request::from_parts(parts, body), shared.config.body_limit).await?;
    Ok((headers, body))
}

fn expect(headers: &HeaderMap, types: &[&str]) -> Result<(), Problem> {
    match media_type(headers) {
        Some(essence) if types.contains(&essence.as_str()) => Ok(()),
        _ => Err(Problem::unsupported_media_type()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::now;

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

    #[test]
    fn tags_come_back_as_they_went() {
        let template = Template {
            name: "x".into(),
            body: TemplateBody::default(),
            generation: Generation::FIRST.next(),
            created_at: now(),
            updated_at: now(),
        };
        let expected = read_entity_tag(&entity_tag(&template)).unwrap();
        assert!(expected.met(Some(&template)));
        let later = Template { created_at: now() + chrono::Duration::microseconds(1), ..template.clone() };
        assert!(!expected.met(Some(&later)) && !expected.met(None));
        for bad in ["", "x", "\"\"", "\"1\"", "W/\"1-2\"", "\"1-zz\"", "\"x-2\""] {
            assert!(read_entity_tag(bad).is_none(), "{bad}");
        }
    }
}
