//! The description of the API: that it is one, and that it describes what is served.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use axum::body::Body;
use common::{Backend, Server};
use http::Request;
use serde_json::Value;

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

async fn described() -> (tempfile::TempDir, Server, Value) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &Backend::default()).await;
    // Without a token.
    let answer = server.send(Request::get("/api/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    (folder, server, document)
}

/// Every operation: its path, its method, and what is said of it.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |method| Some((path.as_str(), *method, item.get(method)?)))
    });
    all.collect()
}

/// Calls something with every value of a document.
fn walk<'a>(value: &'a Value, look: &mut impl FnMut(&'a Value)) {
    look(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, look)),
        Value::Object(fields) => fields.values().for_each(|field| walk(field, look)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_nothing_is_described_in_vain() {
    let (_folder, server, document) = described().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let mut used = BTreeSet::new();
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            used.insert(pointer.rsplit('/').next().unwrap());
        }
    });
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(used.contains(name.as_str()), "{name} is described and not used");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_operation_says_all_that_generators_need() {
    let (_folder, server, document) = described().await;
    let tags: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    let all = operations(&document);
    assert!(all.len() > 40, "{}", all.len());
    for (path, method, operation) in all {
        let name = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}: its id is taken");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        let own: Vec<_> =
            operation["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
        assert!(own.len() == 1 && tags.contains(own[0]), "{name}: {own:?}");

        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path: BTreeSet<_> =
            path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        let told =
            parameters.iter().filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap());
        assert_eq!(told.collect::<BTreeSet<_>>(), in_path, "{name}");
        for parameter in &parameters {
            assert!(
                parameter["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {parameter}"
            );
            // Nothing in a URL or a header is null.
            assert!(!parameter["schema"].to_string().contains("null"), "{name}: {parameter}");
        }

        let open = operation["security"].as_array().unwrap_or_else(|| panic!("{name}: who may call it?"));
        for scheme in open.iter().flat_map(|one| one.as_object().unwrap().keys()) {
            assert!(schemes.contains_key(scheme), "{name}: {scheme}");
        }
        let answers = operation["responses"].as_object().unwrap();
        assert_eq!(answers.contains_key("401"), open != &[serde_json::json!({})], "{name}");
        for (status, answer) in answers {
            assert!(!answer["description"].as_str().unwrap().is_empty(), "{name}: {status}");
            assert!(answer["headers"]["X-Request-Id"].is_object(), "{name}: {status}");
            if status.parse::<u16>().unwrap() >= 400 {
                let schema = &answer["content"]["application/problem+json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{name}: {status}");
            }
        }
    }
    server.stop().await;
}

/// Descriptions are made where routes are, so no route is without; this sees that none of them is another.
#[tokio::test]
async fn what_is_described_is_served_and_wants_a_token_where_it_says_so() {
    let (_folder, server, document) = described().await;
    for (path, method, operation) in operations(&document) {
        let path = path.replace("{id}", "none").replace("{name}", "none");
        let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        let name = format!("{method} {path}: {} {}", answer.status, answer.text);
        assert_ne!(answer.status, 405, "{name}");
        if operation["security"] == serde_json::json!([{}]) {
            assert_eq!(answer.status, 200, "{name}");
        } else if operation["responses"].get("101").is_some() {
            // Where nothing is found without a token, and a token is asked for, differ between these.
            assert!([401, 404].contains(&answer.status.as_u16()), "{name}");
        } else {
            assert_eq!(answer.status, 401, "{name}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_plain_answer_is_described_as_what_it_is() {
    let (_folder, server, document) = described().await;
    for path in ["/api/v1/ws", "/api/v1/sessions/{id}/vnc"] {
        let operation = &document["paths"][path]["get"];
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.contains_key("101") && !answers.contains_key("200"), "{path}: {answers:?}");
        assert!(answers["101"].get("content").is_none(), "{path}");
        assert!(operation["description"].as_str().unwrap().contains("WebSocket"), "{path}");
        assert!(
            operation["security"].as_array().unwrap().len() > 1,
            "{path}: a browser cannot set the header"
        );
    }
    let logs = &document["paths"]["/api/v1/sessions/{id}/logs"]["get"]["responses"]["200"]["content"];
    let kinds: Vec<_> = logs.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(kinds, ["application/json", "application/x-ndjson", "text/plain"]);
    let metrics = &document["paths"]["/metrics"]["get"]["responses"]["200"]["content"];
    assert!(metrics["application/openmetrics-text"].is_object(), "{metrics}");
    server.stop().await;
}

/// A patch may take anything away that is named freely, and a new template may not.
#[tokio::test]
async fn a_merge_patch_is_described_as_one() {
    let (_folder, server, document) = described().await;
    let schemas = &document["components"]["schemas"];
    let value =
        |schema: &str, field: &str| schemas[schema]["properties"][field]["additionalProperties"].to_string();
    assert!(value("TemplatePatch", "images").contains("null"));
    assert!(!value("TemplateInput", "images").contains("null"));
    let labels = &schemas["TemplatePatch"]["properties"]["spec"]["properties"]["labels"];
    assert!(labels["additionalProperties"].to_string().contains("null"), "{labels}");
    server.stop().await;
}

/// The generator of the description takes a handler's parameters from its attribute and not from its signature: they
/// are compared here.
#[test]
fn every_parameter_that_a_handler_takes_is_described() {
    let mut handlers = 0;
    for source in sources() {
        for block in source.split("#[utoipa::path(").skip(1) {
            let (attribute, rest) = block.split_once("\n)]\n").unwrap();
            let (signature, _) = rest.split_once(" {\n").unwrap();
            handlers += 1;
            for extractor in ["Query<", "Path<"] {
                let taken = signature.split(extractor).skip(1).map(|rest| rest.split('>').next().unwrap());
                for taken in taken.filter(|taken| !["NoParameters", "String"].contains(taken)) {
                    let named = attribute.split(|c: char| !c.is_alphanumeric()).any(|word| word == taken);
                    assert!(named, "{taken} is not among params(…) of {signature}");
                }
            }
            for header in ["RepeatKey", "Precondition"] {
                assert_eq!(signature.contains(header), attribute.contains(header), "{header}: {signature}");
            }
            if signature.contains("JsonText") {
                assert!(attribute.contains("request_body"), "{signature}");
            }
            let roles = signature.contains("Operator") || signature.contains("Admin");
            let refuses = attribute.contains("Refused<403>");
            assert!(!roles || refuses, "some may not call this: {signature}");
        }
    }
    assert!(handlers > 40, "{handlers}");
}

/// The sources of all handlers.
fn sources() -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![root.join("rest"), root.join("gateway")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                Some(extension) if extension == "rs" => found.push(std::fs::read_to_string(path).unwrap()),
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    found
}
