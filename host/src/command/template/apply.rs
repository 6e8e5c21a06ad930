//! `streamspace template apply`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::command::{Remote, file};
use crate::print;
use crate::table::{Cell, Table, Tone};

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    remote: Remote,

    /// The files; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What a file holds.
#[derive(Debug, PartialEq)]
enum Content {
    /// Templates as the API takes them.
    Templates(Vec<Value>),
    /// YAML that the server reads.
    Objects,
}

/// The server's report on an import.
#[derive(Deserialize)]
struct Report {
    items: Vec<Value>,
}

/// What became of a template.
#[derive(Deserialize)]
struct Item {
    file: String,
    document: usize,
    name: Option<String>,
    result: String,
    #[serde(default)]
    errors: Vec<Fault>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    field: String,
    message: String,
}

pub(super) async fn run(args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut items = Vec::new();
    let mut end = None;
    for path in &args.files {
        match apply(&client, path, &mut items).await {
            Ok(()) => {}
            // Nothing would come of the other files either.
            Err(error) if error.downcast_ref::<ClientError>().is_some_and(is_final) => {
                end = Some(error);
                break;
            }
            Err(error) => {
                let fault = json!({ "field": "", "message": format!("{error:#}") });
                items.push(refused(&path.display().to_string(), 1, None, vec![fault]));
            }
        }
    }
    // What was done before the end is told in any case.
    if end.is_none() || !items.is_empty() {
        print::even_unread(report(&args, &client, &items))?;
    }
    match end {
        Some(error) => Err(error),
        None => Ok(u8::from(items.iter().any(|item| item["result"] == "refused")).into()),
    }
}

fn report(args: &ApplyArgs, client: &Client, items: &[Value]) -> anyhow::Result<()> {
    let answer = json!({ "items": items });
    args.remote.print(&answer, || {
        let mut table = Table::new(["FILE", "DOCUMENT", "NAME", "RESULT"]);
        for item in items {
            let item: Item = client.typed(item)?;
            let tone = if item.result == "refused" { Tone::Bad } else { Tone::Good };
            let result = Cell::toned(item.result, Some(tone));
            table.row([
                item.file.into(),
                item.document.to_string().into(),
                item.name.unwrap_or_default().into(),
                result,
            ]);
            for Fault { field, message } in item.errors {
                table.note(&if field.is_empty() { message } else { format!("{field}: {message}") }, 4);
            }
            for note in item.notes {
                table.note(&note, 4);
            }
        }
        Ok(table.render())
    })?;
    Ok(())
}

/// No token, no right, no server.
fn is_final(error: &ClientError) -> bool {
    error.exit_code() > 3
}

/// Applies a file, and adds to the items what became of each of its templates.
async fn apply(client: &Client, path: &Path, items: &mut Vec<Value>) -> anyhow::Result<()> {
    let file = path.display().to_string();
    let text = file::read(path)?;
    match content(&text)? {
        Content::Objects => items.extend(import(client, &file, text).await?),
        Content::Templates(templates) => {
            for (index, template) in templates.into_iter().enumerate() {
                items.push(put(client, &file, index + 1, template).await?);
            }
        }
    }
    Ok(())
}

/// Template objects are known by their `apiVersion`. The server reads them, and all YAML of several documents.
fn content(text: &str) -> anyhow::Result<Content> {
    let is_json = text.trim_start().starts_with(['{', '[']);
    let templates = match file::parse(text) {
        Ok(Value::Array(templates)) => templates,
        Ok(one) => vec![one],
        Err(error) if is_json => return Err(error),
        Err(_) => return Ok(Content::Objects),
    };
    let object = |template: &Value| template.get("apiVersion").is_some();
    if templates.iter().any(object) { Ok(Content::Objects) } else { Ok(Content::Templates(templates)) }
}

/// Has the server read Template objects.
async fn import(client: &Client, file: &str, text: String) -> anyhow::Result<Vec<Value>> {
    let call = client.call(Method::POST, &["templates", "import"]).query(&[("replace", "true".to_owned())]);
    // 422 = nothing was imported; the report says why.
    let answer = call.text("application/yaml", text).send_for(&[StatusCode::UNPROCESSABLE_ENTITY]).await?;
    let report: Report = client.typed(&answer.body)?;
    let mut items = report.items;
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.insert("file".to_owned(), file.into());
    }
    Ok(items)
}

/// Writes one template.
async fn put(client: &Client, file: &str, document: usize, template: Value) -> anyhow::Result<Value> {
    let Some(name) = template["name"].as_str().map(str::to_owned) else {
        let fault = json!({ "field": "name", "message": "is missing" });
        return Ok(refused(file, document, None, vec![fault]));
    };
    let path = ["templates", &name];
    let before = match client.get(&path).await {
        Ok(found) => Some(found["generation"].clone()),
        Err(error) if error.exit_code() == 3 => None,
        Err(error) => return Err(error.into()),
    };
    let answer = match client.call(Method::PUT, &path).json(&template).send().await {
        Ok(answer) => answer,
        Err(error) if is_final(&error) => return Err(error.into()),
        Err(error) => {
            let fault = json!({ "field": "", "message": error.to_string() });
            return Ok(refused(file, document, Some(&name), vec![fault]));
        }
    };
    let result = match before {
        _ if answer.status == StatusCode::CREATED => "created",
        Some(generation) if generation == answer.body["generation"] => "unchanged",
        _ => "replaced",
    };
    let item = json!({ "file": file, "document": document, "name": name, "result": result });
    Ok(item)
}

fn refused(file: &str, document: usize, name: Option<&str>, errors: Vec<Value>) -> Value {
    json!({ "file": file, "document": document, "name": name, "result": "refused", "errors": errors })
}

#[cfg(test)]
mod tests {
    use axum::extract::Path;
    use axum::routing::get;

    use super::*;
    use crate::client::client_of;

    #[tokio::test]
    async fn what_was_done_before_the_end_is_told() {
        let put = |Path(name): Path<String>| async move {
            let status = if name == "a" { StatusCode::CREATED } else { StatusCode::SERVICE_UNAVAILABLE };
            (status, axum::Json(json!({ "title": "x", "generation": 1 })))
        };
        let missing = async || (StatusCode::NOT_FOUND, axum::Json(json!({ "title": "Not found" })));
        let router = axum::Router::new().route("/base/api/v1/templates/{name}", get(missing).put(put));
        let client = client_of(router).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"[{"name": "a"}, {"name": "b"}, {"name": "c"}]"#).unwrap();
        let mut items = Vec::new();
        let error = apply(&client, file.path(), &mut items).await.unwrap_err();
        assert!(is_final(&error.downcast().unwrap()));
        let told: Vec<_> = items.iter().map(|item| (&item["name"], &item["result"])).collect();
        assert_eq!(told, [(&json!("a"), &json!("created"))]);
    }

    #[test]
    fn template_objects_are_known_by_their_version() {
        let template = json!({"name": "a", "spec": {}});
        for text in
            ["{\"name\": \"a\", \"spec\": {}}", "[{\"name\": \"a\", \"spec\": {}}]", "name: a\nspec: {}\n"]
        {
            assert_eq!(content(text).unwrap(), Content::Templates(vec![template.clone()]), "{text}");
        }
        for text in [
            "apiVersion: stream.space/v1alpha1\nkind: Template\n",
            "{\"apiVersion\": \"v1\"}",
            "a: 1\n---\nb: 2\n",
        ] {
            assert_eq!(content(text).unwrap(), Content::Objects, "{text}");
        }
        assert!(content("{\"name\": ").is_err());
    }
}
