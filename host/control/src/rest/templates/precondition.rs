//! Versions of templates, so that two editors do not overwrite each other: every answer has an `ETag`, and a change with
//! that in `If-Match` is refused if the template is another by then.

use axum::extract::FromRequestParts;
use chrono::DateTime;
use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};

use crate::domain::{Generation, Template};
use crate::rest::problem::{FieldError, Problem};
use crate::store::Expected;

/// What has to be there for a change to be made.
pub(super) struct Precondition(pub(super) Expected);

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        of_headers(&parts.headers).map(Self)
    }
}

impl IntoParams for Precondition {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let header = |name: &str, schema: ObjectBuilder, description: &str| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(schema))
                .build()
        };
        vec![
            header(
                "If-Match",
                text().pattern(Some("^[^,]*$")),
                "The `ETag` of the version that is meant, or `*` for any.",
            ),
            header(
                "If-None-Match",
                text().enum_values(Some(["*"])),
                "There must be none of this name. Not beside `If-Match`.",
            ),
        ]
    }
}

/// A changed template is not what the caller believes it to be.
pub(super) fn changed() -> Problem {
    Problem::precondition_failed("the template is not the version that was expected; read it again")
}

/// The version of a template. One that was deleted and made again is another.
pub(crate) fn entity_tag(template: &Template) -> String {
    format!("\"{}-{:x}\"", template.generation.get(), template.created_at.timestamp_micros())
}

/// What the headers `If-Match` and `If-None-Match` expect to be there.
fn of_headers(headers: &HeaderMap) -> Result<Expected, Problem> {
    let single = |name: HeaderName| {
        let mut values = headers.get_all(&name).iter();
        let value = values.next().map(|value| value.to_str().unwrap_or_default().trim().to_owned());
        let many = values.next().is_some() || value.as_ref().is_some_and(|value| value.contains(','));
        if many {
            return Err(Problem::bad_request(vec![FieldError::new(name.as_str(), "expected one value")]));
        }
        Ok(value)
    };
    expected(single(header::IF_MATCH)?, single(header::IF_NONE_MATCH)?)
}

/// What a version that has to match, and one that must not, expect to be there.
pub(crate) fn expected(matching: Option<String>, not_matching: Option<String>) -> Result<Expected, Problem> {
    match (matching, not_matching) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TemplateBody, now};

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
