//! The body of a creation as it comes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::extract::read;
use super::problem::Problem;
use crate::domain::{Requirement, SpecDraft};

/// A session as it is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateSession)]
pub(super) struct CreateRequest {
    /// Whose session it is; the caller's if absent. For others: operators only. Also `user`.
    #[serde(default, alias = "user")]
    #[schema(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub(super) user_id: Option<String>,
    /// A template; the spec is laid over it. Also `template`.
    #[serde(default, alias = "template")]
    #[schema(max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub(super) template_id: Option<String>,
    /// What it is made of. Without a template it needs a `base_image`.
    #[serde(default)]
    pub(super) spec: Option<SpecDraft>,
    /// Only on this controller.
    #[serde(default)]
    #[schema(max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub(super) controller_id: Option<String>,
    /// Only on controllers of this type.
    #[serde(default)]
    #[schema(max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub(super) controller_type: Option<String>,
    /// Only on controllers with these labels.
    #[serde(default)]
    pub(super) controller_labels: Option<BTreeMap<String, String>>,
    /// Only on controllers that can do all of it.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Requirement>>)]
    pub(super) require: Option<Vec<String>>,
    /// Settings for the type of backend.
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
