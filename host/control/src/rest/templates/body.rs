//! A template as it is written, and what makes sense of it.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder, Schema, Type};
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{AppType, SpecDraft, TemplateBody};
use crate::rest::extract::Body;
use crate::rest::problem::{FieldError, Problem};
use crate::rest::validate::{Extent, Faults, LARGEST_STORED, stored_size};

/// The longest name, in bytes.
const LONGEST_NAME: usize = 128;
/// The longest text that is shown in one line, in bytes.
const LONGEST_LINE: usize = 256;
/// The longest description, in bytes.
const LONGEST_DESCRIPTION: usize = 16 * 1024;
/// More tags, types or the like than that are a mistake.
const MOST_WORDS: usize = 64;

/// A template as it is written. What the server alone decides is taken as well, and ignored: people send back what they
/// have read.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TemplateInput {
    /// Its key; the path has it already where there is one.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[^/\x00-\x1f\x7f-\x9f]*$")]
    name: Option<String>,
    /// For people; the name if it is empty.
    #[schema(max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    display_name: Option<String>,
    /// For people.
    #[schema(max_length = 16384, pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$")]
    description: Option<String>,
    /// Where it is found.
    #[schema(max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    category: Option<String>,
    /// URL of a picture.
    #[schema(max_length = 4096, pattern = r"^((https?://|/|data:image/)[^\x00-\x1f\x7f-\x9f]*)?$")]
    icon: Option<String>,
    /// Words to find it by.
    #[schema(max_items = 64)]
    tags: Option<Vec<String>>,
    /// `desktop` or `webapp`; told from the spec if absent.
    #[schema(pattern = "^(desktop|webapp)?$")]
    app_type: Option<String>,
    /// What it offers (`Network`, `Audio`, …); for display.
    #[schema(max_items = 64)]
    capabilities: Option<Vec<String>>,
    /// What its sessions are made of, if a request does not say otherwise.
    spec: Option<SpecDraft>,
    /// The image for each type of controller.
    images: Option<BTreeMap<String, String>>,
    /// The types of controller that it may run on; empty = all it has an image for.
    #[schema(max_items = 64)]
    compatible_controllers: Option<Vec<String>>,
    /// The type that is taken if a request names none.
    #[schema(max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    preferred_controller: Option<String>,
    /// Settings for each type of controller.
    controller_config: Option<BTreeMap<String, Map<String, Value>>>,
    /// Ignored.
    #[serde(rename = "generation")]
    _generation: Option<Value>,
    /// Ignored.
    #[serde(rename = "created_at")]
    _created_at: Option<Value>,
    /// Ignored.
    #[serde(rename = "updated_at")]
    _updated_at: Option<Value>,
}

impl Body for TemplateInput {
    /// A patch that was sent to the wrong method must not replace everything.
    fn comes_as(essence: &str) -> bool {
        essence == "application/json"
    }
}

/// A merge patch (RFC 7396) of a template.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct TemplatePatch(pub(super) Value);

impl Body for TemplatePatch {
    fn comes_as(essence: &str) -> bool {
        ["application/json", "application/merge-patch+json"].contains(&essence)
    }
}

impl ToSchema for TemplatePatch {}

/// A template of which everything may be missing, or be `null`, which takes it away.
impl PartialSchema for TemplatePatch {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut template)) = removable(TemplateInput::schema()) else {
            return TemplateInput::schema();
        };
        template.properties.insert("spec".to_owned(), removable(SpecDraft::schema()));
        template.description = Some("A merge patch (RFC 7396) of a template.".to_owned());
        RefOr::T(Schema::Object(template))
    }
}

/// What is named freely, like a label, may be taken away as well; and nothing has a default in a patch.
fn removable(schema: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = schema else { return schema };
    for property in object.properties.values_mut() {
        let RefOr::T(Schema::Object(property)) = property else { continue };
        property.default = None;
        if let Some(AdditionalProperties::RefOr(value)) = property.additional_properties.as_deref_mut() {
            let nothing = ObjectBuilder::new().schema_type(Type::Null);
            *value = AnyOfBuilder::new().item(value.clone()).item(nothing).into();
        }
    }
    RefOr::T(Schema::Object(object))
}

/// Whether a template may have this name.
pub(super) fn valid_name(name: &str) -> Result<(), Problem> {
    let fault = if name.is_empty() {
        "must not be empty".to_owned()
    } else if name.len() > LONGEST_NAME {
        format!("longer than {LONGEST_NAME} bytes")
    } else if name.chars().any(char::is_control) {
        "must not have control characters".to_owned()
    } else if name.contains('/') || name.trim() != name || [".", "..", "import"].contains(&name) {
        "must not have \"/\", begin or end with a space, or be \".\", \"..\" or \"import\"".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::invalid(vec![FieldError::new("name", fault)]))
}

impl TemplateInput {
    /// Its name, which the path may have said already.
    pub(super) fn named(mut self, path: Option<&str>) -> Result<(String, Self), Problem> {
        let name = match (self.name.take(), path) {
            (Some(name), Some(path)) if name != path => {
                let message = "is not the name in the path; a template keeps its name";
                return Err(Problem::invalid(vec![FieldError::new("name", message)]));
            }
            (_, Some(path)) => path.to_owned(),
            (name, None) => {
                let name = name.unwrap_or_default();
                valid_name(&name)?;
                name
            }
        };
        if self.display_name.as_ref().is_none_or(|shown| shown.trim().is_empty()) {
            self.display_name = Some(name.clone());
        }
        Ok((name, self))
    }

    /// Checks everything. Secret values that the caller was not shown are taken from the version before.
    pub(super) fn validate(self, before: Option<&TemplateBody>) -> Result<TemplateBody, Problem> {
        let mut faults = Faults::default();
        let mut spec = self.spec.unwrap_or_default();
        spec.say_enabled(true);
        for index in spec.restore(before.map(|before| &before.spec)) {
            let field = format!("spec.env[{index}].value");
            faults.add(field, "stands for a hidden value, and none is hidden under this name");
        }
        faults.spec(spec.clone(), Extent::Part);

        let app_type = match self.app_type.as_deref() {
            None | Some("") => {
                let webapp = spec.webapp.as_ref().and_then(|webapp| webapp.enabled) == Some(true);
                let vnc = spec.vnc.as_ref().and_then(|vnc| vnc.enabled) == Some(true);
                if webapp && !vnc { AppType::WebApp } else { AppType::Desktop }
            }
            Some(text) => AppType::parse(text).unwrap_or_else(|| {
                faults.add("app_type", "must be desktop or webapp");
                AppType::Desktop
            }),
        };
        let body = TemplateBody {
            display_name: self.display_name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            category: self.category.unwrap_or_default(),
            icon: self.icon.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            app_type,
            capabilities: self.capabilities.unwrap_or_default(),
            spec,
            images: self.images.unwrap_or_default(),
            compatible_controllers: self.compatible_controllers.unwrap_or_default(),
            preferred_controller: self.preferred_controller.filter(|kind| !kind.is_empty()),
            controller_config: self.controller_config.unwrap_or_default(),
        };
        shown(&mut faults, &body);
        words(&mut faults, "tags", &body.tags);
        words(&mut faults, "capabilities", &body.capabilities);
        controllers(&mut faults, &body);
        if stored_size(&body) > LARGEST_STORED {
            faults.add("", format!("the template has more than {LARGEST_STORED} bytes of JSON"));
        }
        faults.finish()?;
        Ok(body)
    }
}

/// What people see.
fn shown(faults: &mut Faults, body: &TemplateBody) {
    for (field, text) in [("display_name", &body.display_name), ("category", &body.category)] {
        faults.line(field, text, LONGEST_LINE);
    }
    if body.description.len() > LONGEST_DESCRIPTION {
        faults.add("description", format!("longer than {LONGEST_DESCRIPTION} bytes"));
    } else if body.description.chars().any(|one| one.is_control() && !matches!(one, '\n' | '\r' | '\t')) {
        faults.add("description", "must not have control characters other than line ends and tabs");
    }
    faults.text("icon", &body.icon);
    let schemes = ["https://", "http://", "/", "data:image/"];
    if !body.icon.is_empty() && !schemes.iter().any(|scheme| body.icon.starts_with(scheme)) {
        faults.add("icon", "must be a URL of http, https or data:image, or a path");
    }
}

fn words(faults: &mut Faults, field: &str, all: &[String]) {
    if all.len() > MOST_WORDS {
        faults.add(field, format!("more than {MOST_WORDS} items"));
    }
    let mut seen = HashSet::new();
    for (index, word) in all.iter().enumerate() {
        let field = format!("{field}[{index}]");
        faults.id(&field, word);
        faults.unique(&mut seen, word, &field);
    }
}

/// What it is made of on which type of controller.
fn controllers(faults: &mut Faults, body: &TemplateBody) {
    words(faults, "compatible_controllers", &body.compatible_controllers);
    let compatible =
        |kind: &String| body.compatible_controllers.is_empty() || body.compatible_controllers.contains(kind);
    let not_compatible = "is not among compatible_controllers";
    for (field, count) in [("images", body.images.len()), ("controller_config", body.controller_config.len())]
    {
        if count > MOST_WORDS {
            faults.add(field, format!("more than {MOST_WORDS} items"));
        }
    }
    for (kind, image) in &body.images {
        let field = format!("images.{kind}");
        faults.id("images", kind);
        if image.trim().is_empty() {
            faults.add(&field, "must not be empty");
        } else {
            faults.image(&field, image);
        }
        if !compatible(kind) {
            faults.add(&field, not_compatible);
        }
    }
    for kind in body.controller_config.keys() {
        faults.id("controller_config", kind);
        if !compatible(kind) {
            faults.add(format!("controller_config.{kind}"), not_compatible);
        }
    }
    if let Some(kind) = &body.preferred_controller {
        faults.id("preferred_controller", kind);
        if !compatible(kind) {
            faults.add("preferred_controller", not_compatible);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rest::extract::read;

    fn faults(body: &Value) -> Vec<String> {
        let read = read::<TemplateInput>(body.to_string().as_bytes());
        let checked = read.and_then(|input| input.named(None)).and_then(|(_, input)| input.validate(None));
        let Err(problem) = checked else { return vec![] };
        let problem = serde_json::to_value(problem).unwrap();
        let errors = problem["errors"].as_array().unwrap().iter();
        errors.map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(faults(&json!({"name": "x"})), Vec::<String>::new());
        for (body, fields) in [
            (json!({}), vec!["name"]),
            (json!({"name": "a\u{7}b"}), vec!["name"]),
            (json!({"name": "a/b"}), vec!["name"]),
            (json!({"name": "import"}), vec!["name"]),
            (json!({"name": "x".repeat(129)}), vec!["name"]),
            (json!({"name": "x", "colour": "red"}), vec!["colour"]),
            (json!({"name": "x", "spec": []}), vec!["spec"]),
            (json!({"name": "x", "spec": {"resources": {"memory": "lots"}}}), vec!["spec.resources.memory"]),
            (
                json!({"name": "x", "spec": {"env": [{"name": "A", "value": "[redacted]"}]}}),
                vec!["spec.env[0].value"],
            ),
            (json!({"name": "x", "app_type": "game"}), vec!["app_type"]),
            (json!({"name": "x", "icon": "javascript:alert(1)"}), vec!["icon"]),
            (json!({"name": "x", "tags": ["a", "a", ""]}), vec!["tags[1]", "tags[2]"]),
            (
                json!({"name": "x", "display_name": "a\nb", "description": "a\u{0}"}),
                vec!["display_name", "description"],
            ),
            (json!({"name": "x", "images": {"docker": " "}}), vec!["images.docker"]),
            (
                json!({"name": "x", "compatible_controllers": ["docker"], "images": {"kvm": "i"},
                       "preferred_controller": "kvm", "controller_config": {"kvm": {}}}),
                vec!["images.kvm", "controller_config.kvm", "preferred_controller"],
            ),
            (json!({"name": "x", "description": "d".repeat(20_000)}), vec!["description"]),
        ] {
            assert_eq!(faults(&body), fields, "{body}");
        }
    }

    #[test]
    fn parts_may_be_missing_and_the_rest_is_derived() {
        let body = json!({"name": "ü x", "spec": {"webapp": {"enabled": true}}, "generation": 7});
        let (name, input) = read::<TemplateInput>(body.to_string().as_bytes()).unwrap().named(None).unwrap();
        let body = input.validate(None).unwrap();
        assert_eq!(
            (name.as_str(), body.display_name.as_str(), body.app_type),
            ("ü x", "ü x", AppType::WebApp)
        );
    }
}
