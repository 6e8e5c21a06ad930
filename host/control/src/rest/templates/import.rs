//! `POST /api/v1/templates/import`: Template objects as the earlier implementation had them on Kubernetes, in YAML.
//! Every document is imported completely or not at all, and the answer says which and why.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::manifest;
use crate::control::Shared;
use crate::domain::TemplateBody;
use crate::rest::auth::{Caller, Operator};
use crate::rest::extract::{Json, ParameterSet, Parameters, Query, Serves, media_type, whole};
use crate::rest::openapi::Refused;
use crate::rest::problem::{FieldError, Problem};
use crate::store::{Expected, TemplateWrite, TemplateWritten};

/// More documents in one request are a mistake.
const MOST_DOCUMENTS: usize = 1000;

/// Whether a body is YAML. Nothing was ever registered but `application/yaml` (RFC 9512); the others are in use.
pub(super) fn is_yaml(headers: &HeaderMap) -> bool {
    let known = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];
    media_type(headers).is_some_and(|essence| known.contains(&essence.as_str()))
}

/// A body that says that it is YAML.
pub(super) struct Yaml(String);

impl<S: Serves> FromRequest<S> for Yaml {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_yaml(request.headers()) {
            return Err(Problem::unsupported_media_type_but("application/yaml"));
        }
        let body = whole(request, state.shared().config.body_limit).await?;
        let text = std::str::from_utf8(&body);
        text.map(|text| Self(text.to_owned()))
            .map_err(|error| Problem::bad_request(vec![FieldError::new("", format!("not UTF-8: {error}"))]))
    }
}

/// How templates are imported.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Replace those that are there already under the same names. Of YAML only.
    #[param(default = false, required = false)]
    replace: bool,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        Self { replace: given.flag("replace") }
    }
}

/// What became of an import.
#[derive(Serialize, ToSchema)]
#[schema(as = ImportReport)]
pub(crate) struct Report {
    imported: usize,
    refused: usize,
    items: Vec<Item>,
}

/// What became of a document.
#[derive(Serialize, ToSchema)]
#[schema(as = ImportItem)]
struct Item {
    /// Which document it was, from 1.
    document: usize,
    /// Where it begins, from 1.
    line: usize,
    /// The template's name, if it could be read.
    #[schema(required)]
    name: Option<String>,
    result: Outcome,
    /// Why it was refused.
    errors: Vec<FieldError>,
    /// What was left out or changed on the way.
    notes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ImportOutcome)]
enum Outcome {
    Created,
    Replaced,
    Unchanged,
    Refused,
}

/// A document that can be stored.
struct Ready {
    name: String,
    body: TemplateBody,
}

/// Import templates
///
/// Template objects of the earlier implementation on Kubernetes, in YAML: several documents, or a `List`. Every one is
/// imported completely or not at all, and the answer says which and why. For operators.
#[utoipa::path(
    post,
    path = "/api/v1/templates/import",
    operation_id = "import_templates",
    tag = "Templates",
    params(Wanted),
    request_body(
        content = Object,
        content_type = "application/yaml",
        description = "A Template, or several in documents of their own or in a `List`.",
        example = json!({
            "apiVersion": "stream.space/v1alpha1",
            "kind": "Template",
            "metadata": {"name": "firefox"},
            "spec": {"displayName": "Firefox", "baseImage": "firefox:latest", "webapp": {"port": 3000}},
        }),
    ),
    responses(
        (status = 200, body = Report, description = "Everything was imported."),
        (status = 207, body = Report, description = "Some of it was imported."),
        Refused<400>,
        Refused<403>,
        Refused<422>,
        Refused<503>,
    ),
)]
pub(super) async fn import(
    State(shared): State<Arc<Shared>>,
    Operator(caller): Operator,
    Query(Wanted { replace }): Query<Wanted>,
    Yaml(text): Yaml,
) -> Result<Response, Problem> {
    let report = take_in(&shared, &caller, &text, replace).await?;
    let status = if report.refused == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok((status, Json(report)).into_response())
}

/// Imports the documents of a text.
pub(crate) async fn take_in(
    shared: &Shared,
    caller: &Caller,
    text: &str,
    replace: bool,
) -> Result<Report, Problem> {
    let documents = split(text);
    if documents.is_empty() || documents.len() > MOST_DOCUMENTS {
        let message = format!("must have 1 to {MOST_DOCUMENTS} YAML documents");
        return Err(Problem::bad_request(vec![FieldError::new("", message)]));
    }

    let (mut items, mut writes, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, (line, text)) in documents.into_iter().enumerate() {
        for object in objects(text, line) {
            let mut item = Item {
                document: index + 1,
                line,
                name: None,
                result: Outcome::Refused,
                errors: Vec::new(),
                notes: Vec::new(),
            };
            match object.and_then(|object| ready(&object, &mut item)) {
                Ok(Ready { name, .. }) if !seen.insert(name.clone()) => {
                    item.errors
                        .push(FieldError::new("metadata.name", "given more than once in this request"));
                }
                Ok(Ready { name, body }) => {
                    let expected = if replace { Expected::Anything } else { Expected::Nothing };
                    writes.push((items.len(), TemplateWrite { name, body, expected }));
                }
                Err(errors) => item.errors = errors,
            }
            items.push(item);
        }
    }

    let (places, writes): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
    let bodies: Vec<_> = writes.iter().map(|write: &TemplateWrite| write.body.clone()).collect();
    let written = shared.store.write_templates(caller.actor(), writes).await?;
    for ((place, body), written) in places.into_iter().zip(bodies).zip(written) {
        let Some(item) = items.get_mut(place) else { continue };
        item.result = match written {
            TemplateWritten::Created(_) => Outcome::Created,
            TemplateWritten::Replaced(_) => Outcome::Replaced,
            TemplateWritten::Unchanged(_) => Outcome::Unchanged,
            // What is there already, exactly so, needs no leave to be replaced.
            TemplateWritten::Unmet(Some(found)) if found.body == body => Outcome::Unchanged,
            TemplateWritten::Unmet(_) => {
                let message = "there is another template with this name; replace=true replaces it";
                item.errors.push(FieldError::new("metadata.name", message));
                Outcome::Refused
            }
        };
    }
    report(items)
}

fn report(items: Vec<Item>) -> Result<Report, Problem> {
    let refused = items.iter().filter(|item| item.result == Outcome::Refused).count();
    let imported = items.len() - refused;
    if imported == 0 {
        let errors = items.into_iter().flat_map(|item| {
            let place = format!("documents[{}]", item.document);
            item.errors.into_iter().map(move |error| {
                let field =
                    if error.field.is_empty() { place.clone() } else { format!("{place}.{}", error.field) };
                FieldError::new(field, error.message)
            })
        });
        return Err(Problem::invalid(errors.collect()));
    }
    Ok(Report { imported, refused, items })
}

/// A document as a template.
fn ready(object: &Value, item: &mut Item) -> Result<Ready, Vec<FieldError>> {
    item.name = object["metadata"]["name"].as_str().map(str::to_owned);
    let input = manifest::read(object, &mut item.notes)?;
    let read = crate::rest::extract::read::<super::body::TemplateInput>(input.to_string().as_bytes());
    let (name, input) = read.and_then(|input| input.named(None)).map_err(Problem::into_errors)?;
    let body = input.validate(None).map_err(Problem::into_errors)?;
    Ok(Ready { name, body })
}

/// The documents with the lines they begin at. `---` at the beginning of a line is a mark wherever it stands: YAML
/// allows it in no text. So one broken document leaves the others alone.
fn split(text: &str) -> Vec<(usize, &str)> {
    let is_mark = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let is_end = |line: &str| line.trim_end() == "...";
    let (mut documents, mut begin, mut begin_line, mut offset) = (Vec::new(), 0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_mark(line) || is_end(line) {
            documents.push((begin_line, &text[begin..offset]));
            (begin, begin_line) =
                if is_end(line) { (offset + line.len(), index + 2) } else { (offset, index + 1) };
        }
        offset += line.len();
    }
    documents.push((begin_line, &text[begin..]));
    documents.retain(|(_, text)| {
        text.lines().any(|line| {
            let line = line.trim();
            let line = line.strip_prefix("---").unwrap_or(line).trim();
            !line.is_empty() && !line.starts_with(['#', '%'])
        })
    });
    documents
}

/// The objects of a document: itself, or the items of a list.
fn objects(text: &str, line: usize) -> Vec<Result<Value, Vec<FieldError>>> {
    // A snippet of the text in an error could show what is secret.
    let options = serde_saphyr::options! { with_snippet: false };
    match serde_saphyr::from_str_with_options::<Value>(text, options) {
        Ok(Value::Object(mut list)) if list.get("kind") == Some(&Value::from("List")) => {
            match list.remove("items") {
                Some(Value::Array(items)) => items.into_iter().map(Ok).collect(),
                _ => vec![Err(vec![FieldError::new("items", "a List must have a list of items")])],
            }
        }
        Ok(object) => vec![Ok(object)],
        Err(error) => {
            let place = error.location().map(|place| format!(" (line {})", line as u64 + place.line() - 1));
            let message = format!("not YAML: {error}{}", place.unwrap_or_default());
            vec![Err(vec![FieldError::new("", message)])]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart() {
        let lines = |text: &str| split(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
        assert_eq!(lines(""), Vec::<usize>::new());
        assert_eq!(lines("---\n# nothing\n---\n"), Vec::<usize>::new());
        assert_eq!(lines("a: 1"), [1]);
        assert_eq!(lines("a: 1\n---\nb: 2\n---\r\nc: 3\n"), [1, 2, 4]);
        assert_eq!(lines("# head\n---\na: |\n  ---\n  x\n...\n---\nb: 1\n"), [2, 7]);
        assert_eq!(lines("a: ---x\n---x: 1\n--- {a: 1}\n"), [1, 3]);
    }

    #[test]
    fn bombs_and_broken_texts_are_refused() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, of) in
            ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip(["a", "b", "c", "d", "e", "f", "g", "h"])
        {
            let all = vec![format!("*{of}"); 9].join(",");
            bomb.push_str(&format!("{name}: &{name} [{all}]\n"));
        }
        let deep = "[".repeat(100_000);
        for text in [bomb.as_str(), deep.as_str(), "a: [", "a: 1\na: 2\n", "a: !!binary zz%"] {
            assert!(objects(text, 1)[0].is_err(), "{}", text.get(..40).unwrap_or(text));
        }
        let Err(errors) = &objects("a: 1\nb: [hunter2\n", 10)[0] else { panic!() };
        assert!(errors[0].message.contains("line 1") && !errors[0].message.contains("hunter2"), "{errors:?}");
    }
}
