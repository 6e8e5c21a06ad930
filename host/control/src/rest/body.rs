//! The body of a creation as it comes: read strictly, so that a slip of the pen is not silently ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::{FieldError, Problem};
use crate::domain::SpecDraft;

/// The body as it comes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateRequest {
    #[serde(default, alias = "user")]
    pub(super) user_id: Option<String>,
    #[serde(default, alias = "template")]
    pub(super) template_id: Option<String>,
    #[serde(default)]
    pub(super) spec: Option<SpecDraft>,
    #[serde(default)]
    pub(super) controller_id: Option<String>,
    #[serde(default)]
    pub(super) controller_type: Option<String>,
    #[serde(default)]
    pub(super) controller_labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) require: Option<Vec<String>>,
    #[serde(default)]
    pub(super) controller_config: Option<Map<String, Value>>,
}

impl CreateRequest {
    /// Reads the JSON.
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        read(body)
    }

    /// The template that is asked for.
    pub(super) fn template(&self) -> Option<&str> {
        self.template_id.as_deref().filter(|template| !template.is_empty())
    }
}

/// Reads a body strictly. A spec in it is expected under `spec`.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let read = read_strictly(body)?;
    let lists = lists_for_objects(&serde_json::from_slice(body).unwrap_or_default());
    if lists.is_empty() { Ok(read) } else { Err(Problem::bad_request(lists)) }
}

/// Reads JSON, and names the field at fault.
pub(super) fn read_strictly<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        let message = without_value(&field, error.inner().to_string());
        Problem::bad_request(vec![FieldError::new(field, message)])
    })?;
    json.end().map_err(|error| Problem::bad_request(vec![FieldError::new("", error.to_string())]))?;
    // The generated readers take a list for an object, its items for the fields in their order.
    if body.trim_ascii_start().starts_with(b"[") {
        let message = "must be an object, not a list";
        return Err(Problem::bad_request(vec![FieldError::new("", message)]));
    }
    Ok(read)
}

/// The generated readers repeat a value of the wrong type. In the environment it may be a secret.
fn without_value(field: &str, message: String) -> String {
    if !field.starts_with("spec.env") || !message.starts_with("invalid ") {
        return message;
    }
    // What was expected comes last.
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("must be {expected}"),
        None => "has a wrong type".to_owned(),
    }
}

/// Like a list for the whole body, one for an object within it is not what anybody means.
fn lists_for_objects(body: &Value) -> Vec<FieldError> {
    let spec = &body["spec"];
    let mut places = vec![("spec".to_owned(), spec)];
    for name in ["resources", "vnc", "webapp"] {
        places.push((format!("spec.{name}"), &spec[name]));
    }
    for name in ["ports", "env", "volume_mounts"] {
        for (index, item) in spec[name].as_array().into_iter().flatten().enumerate() {
            places.push((format!("spec.{name}[{index}]"), item));
        }
    }
    let lists = places.into_iter().filter(|(_, value)| value.is_array());
    lists.map(|(field, _)| FieldError::new(field, "must be an object, not a list")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The status and the place of the one fault that is found.
    fn fault(body: &Value) -> String {
        let Err(problem) = CreateRequest::read(body.to_string().as_bytes()) else { return "none".into() };
        let problem = serde_json::to_value(problem).unwrap();
        format!("{} {}", problem["status"], problem["errors"][0]["field"].as_str().unwrap())
    }

    #[test]
    fn values_of_the_environment_are_not_repeated() {
        for env in [
            json!([{"name": "PIN", "value": 4711, "secret": true}]),
            json!([{"name": "PIN", "value": "x", "secret": "4711"}]),
            json!(["PIN=4711, expected nothing"]),
            json!("PIN=4711"),
        ] {
            let body = json!({"spec": {"base_image": "i", "env": env}}).to_string();
            let Err(problem) = CreateRequest::read(body.as_bytes()) else { panic!("taken: {body}") };
            let problem = serde_json::to_string(&problem).unwrap();
            assert!(!problem.contains("4711") && problem.contains("must be "), "{problem}");
        }
    }

    #[test]
    fn what_cannot_be_read_names_its_place() {
        let spec = |inner: Value| json!({"spec": inner});
        for (body, place) in [
            (json!({"sepc": {}}), "sepc"),
            (json!({"user": "a", "user_id": "b"}), ""),
            (spec(json!({"base_image": 7})), "spec.base_image"),
            (spec(json!({"ports": [{"container_port": "80"}]})), "spec.ports[0].container_port"),
            (spec(json!({"ports": [{"container_port": 1.5}]})), "spec.ports[0].container_port"),
            (spec(json!({"resources": {"memory": 512}})), "spec.resources.memory"),
            (spec(json!({"resources": {"ram": "1Gi"}})), "spec.resources.ram"),
            (json!({"controller_config": "{}"}), "controller_config"),
            (json!([]), ""),
            (spec(json!(["alpine"])), "spec"),
            (spec(json!({"ports": [["web", 80]]})), "spec.ports[0]"),
            (spec(json!({"resources": ["1Gi"]})), "spec.resources"),
        ] {
            assert_eq!(fault(&body), format!("400 {place}"), "{body}");
        }
        for text in ["", "{", "[]", "nul", "{} x", "\u{feff}{}", "{\"spec\":{},\"spec\":{}}"] {
            assert!(CreateRequest::read(text.as_bytes()).is_err(), "{text:?}");
        }
        let deep = format!("{{\"controller_config\":{}1{}}}", "{\"a\":".repeat(5000), "}".repeat(5000));
        assert!(CreateRequest::read(deep.as_bytes()).is_err());
    }
}
