//! Templates: what to run, for whom it is shown, and what it is made of on which type of controller.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Generation, SpecDraft};

/// What kind of thing a template starts; for display.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppType {
    /// A whole desktop.
    #[default]
    Desktop,
    /// One application, in the browser.
    WebApp,
}

impl AppType {
    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "desktop" => Some(Self::Desktop),
            "webapp" => Some(Self::WebApp),
            _ => None,
        }
    }
}

/// Everything about a template that people decide. Checked when it was stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TemplateBody {
    /// For people; empty = the name.
    #[schema(required)]
    pub display_name: String,
    /// For people.
    #[schema(required)]
    pub description: String,
    /// Where it is found.
    #[schema(required)]
    pub category: String,
    /// URL of a picture.
    #[schema(required)]
    pub icon: String,
    /// Words to find it by.
    #[schema(required)]
    pub tags: Vec<String>,
    /// What kind of thing it starts.
    #[schema(required)]
    pub app_type: AppType,
    /// What it offers (`Network`, `Audio`, …); for display.
    #[schema(required)]
    pub capabilities: Vec<String>,
    /// What its sessions are made of, if a request does not say otherwise. Its image serves every type of
    /// controller that has none in `images`.
    #[serde(deserialize_with = "stored_spec")]
    #[schema(required)]
    pub spec: SpecDraft,
    /// The image for each type of controller.
    #[schema(required)]
    pub images: BTreeMap<String, String>,
    /// The types of controller that it may run on; empty = all it has an image for.
    #[schema(required)]
    pub compatible_controllers: Vec<String>,
    /// The type that is taken if a request names none.
    #[schema(required)]
    pub preferred_controller: Option<String>,
    /// Settings for each type of controller.
    #[schema(required)]
    pub controller_config: BTreeMap<String, Map<String, Value>>,
}

/// Templates say of their desktop and web application whether there is one. Those that were stored when they did not have
/// to meant that there is none.
fn stored_spec<'de, D: Deserializer<'de>>(input: D) -> Result<SpecDraft, D::Error> {
    let mut spec = SpecDraft::deserialize(input)?;
    spec.say_enabled(false);
    Ok(spec)
}

/// A template as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its key.
    pub name: String,
    /// What people decided.
    pub body: TemplateBody,
    /// Counts the changes.
    pub generation: Generation,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl TemplateBody {
    /// What it contributes to a session. An image that the session names is its image on every type.
    pub fn offer(&self, generation: Generation, own_image: bool) -> TemplateOffer {
        TemplateOffer {
            generation: generation.get(),
            images: if own_image { BTreeMap::new() } else { self.images.clone() },
            common_image: self.has_common_image(),
            compatible: self.compatible_controllers.clone(),
            preferred: self.preferred_controller.clone(),
            controller_config: self.controller_config.clone(),
        }
    }

    /// Whether sessions made from it alone run on a type of controller.
    pub fn runs_on(&self, controller_type: &str) -> bool {
        self.offer(Generation::FIRST, false).obstacle(controller_type).is_none()
    }

    fn has_common_image(&self) -> bool {
        self.spec.base_image.as_ref().is_some_and(|image| !image.is_empty())
    }
}

/// What a version of a template contributes to a session whose controller is not chosen yet. Kept with the session:
/// later changes of the template do not matter to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TemplateOffer {
    /// Which version it was.
    pub generation: u64,
    /// The image for each type of controller; empty if the request names an image.
    pub images: BTreeMap<String, String>,
    /// The session had an image for the types without one of their own. Once it is placed, its spec tells no more.
    pub common_image: bool,
    /// The types of controller that it may run on; empty = all it has an image for.
    pub compatible: Vec<String>,
    /// The type that is taken if a request names none.
    pub preferred: Option<String>,
    /// Settings for each type of controller.
    pub controller_config: BTreeMap<String, Map<String, Value>>,
}

impl TemplateOffer {
    /// Why a template does not run on a type of controller, if it does not.
    pub fn obstacle(&self, controller_type: &str) -> Option<String> {
        if !self.compatible.is_empty() && !self.compatible.iter().any(|known| known == controller_type) {
            return Some(format!("the template is not for type {controller_type}"));
        }
        (!self.common_image && !self.images.contains_key(controller_type))
            .then(|| format!("the template has no image for type {controller_type}"))
    }
}

/// An object with another under it: what is set above wins, objects inside are merged likewise.
pub fn merge_objects(above: Map<String, Value>, below: Map<String, Value>) -> Map<String, Value> {
    let mut all = below;
    for (key, value) in above {
        let merged = match (value, all.remove(&key)) {
            (Value::Object(value), Some(Value::Object(below))) => Value::Object(merge_objects(value, below)),
            (value, _) => value,
        };
        all.insert(key, merged);
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn why_not() {
        let mut offer =
            TemplateOffer { images: [("docker".into(), "i".into())].into(), ..Default::default() };
        assert_eq!(offer.obstacle("docker"), None);
        assert_eq!(offer.obstacle("kvm").unwrap(), "the template has no image for type kvm");
        offer.common_image = true;
        assert_eq!(offer.obstacle("kvm"), None);
        offer.compatible = vec!["docker".into()];
        assert_eq!(offer.obstacle("kvm").unwrap(), "the template is not for type kvm");
    }

    #[test]
    fn templates_of_old_keep_their_meaning() {
        let stored = json!({"spec": {"webapp": {"port": 80}, "vnc": {"enabled": true}}});
        let body: TemplateBody = serde_json::from_value(stored).unwrap();
        assert_eq!(body.spec.webapp.unwrap().enabled, Some(false));
        assert_eq!(body.spec.vnc.unwrap().enabled, Some(true));
    }

    #[test]
    fn settings_are_merged_at_every_depth() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let above = object(json!({"a": {"x": 1}, "l": [1], "n": null}));
        let below = object(json!({"a": {"x": 0, "y": 2}, "l": [1, 2], "n": 1, "k": "v"}));
        let merged = json!({"a": {"x": 1, "y": 2}, "l": [1], "n": null, "k": "v"});
        assert_eq!(Value::Object(merge_objects(above, below)), merged);
    }
}
