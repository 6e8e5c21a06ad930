//! A Template object of the earlier implementation (its shapes differ: two API groups, one legacy kind, `vnc` or
//! `kasmvnc`, resources flat or as requests and limits) as the body of a template.

use serde_json::{Map, Value, json};

use crate::rest::problem::FieldError;

/// What its images, being container images, run on.
const CONTAINER_TYPES: [&str; 2] = ["docker", "kubernetes"];
/// How a Template may present itself.
const KINDS: [(&str, &str); 3] = [
    ("stream.space/v1alpha1", "Template"),
    ("stream.streamspace.io/v1alpha1", "Template"),
    ("workspaces.aiinfra.io/v1alpha1", "WorkspaceTemplate"),
];
/// The mount that was the user's home, and where homes are mounted.
const HOME: (&str, &str) = ("user-home", "/config");
/// Where KasmVNC listened if nothing else was said.
const KASM_PORT: i64 = 3000;

/// Makes the body, and notes what could not be taken over.
pub(super) fn read(object: &Value, notes: &mut Vec<String>) -> Result<Value, Vec<FieldError>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    if !KINDS.contains(&(version.as_str(), kind.as_str())) {
        let known: Vec<_> = KINDS.iter().map(|(version, kind)| format!("{kind} of {version}")).collect();
        let message = format!("{kind:?} of {version:?} is not one of: {}", known.join(", "));
        return Err(vec![FieldError::new("kind", message)]);
    }
    let Some(spec) = object["spec"].as_object() else {
        return Err(vec![FieldError::new("spec", "is required, and must be an object")]);
    };
    let mut reader = Reader { spec: spec.clone(), errors: Vec::new(), notes };
    let body = reader.template(&object["metadata"]["name"]);
    let Reader { spec: rest, errors, notes } = reader;
    for field in rest.keys() {
        notes.push(format!("spec.{field} is not known here and was left out"));
    }
    if errors.is_empty() { Ok(body) } else { Err(errors) }
}

/// Takes the fields out one by one; what remains is unknown.
struct Reader<'a> {
    spec: Map<String, Value>,
    errors: Vec<FieldError>,
    notes: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn template(&mut self, name: &Value) -> Value {
        let mut body = Map::new();
        body.insert("name".into(), name.clone());
        for (from, to) in [
            ("displayName", "display_name"),
            ("description", "description"),
            ("category", "category"),
            ("icon", "icon"),
            ("appType", "app_type"),
            ("capabilities", "capabilities"),
            ("tags", "tags"),
            ("preferredController", "preferred_controller"),
        ] {
            if let Some(value) = self.take(&[from]) {
                body.insert(to.into(), value);
            }
        }
        // The description is one paragraph in the catalogue; display data must not fail for its last line end.
        for field in ["display_name", "category"] {
            if let Some(Value::String(text)) = body.get_mut(field) {
                *text = text.trim().to_owned();
            }
        }
        if let Some(Value::Array(tags)) = body.get_mut("tags") {
            tags.dedup();
        }
        let base_image = self.take(&["baseImage", "base_image"]);
        let images = self.take(&["images"]);
        let compatible = self.take(&["compatibleControllers", "compatible_controllers"]);
        match (base_image, images) {
            (None, None) => self.error("spec.baseImage", "is required"),
            // A container image says nothing to a machine; who names the types knows better.
            (Some(image), None) if compatible.is_none() => {
                let images: Map<_, _> =
                    CONTAINER_TYPES.iter().map(|kind| ((*kind).to_owned(), image.clone())).collect();
                body.insert("images".into(), Value::Object(images));
                body.insert("compatible_controllers".into(), json!(CONTAINER_TYPES));
            }
            (base_image, images) => {
                body.extend(images.map(|images| ("images".to_owned(), images)));
                body.extend(base_image.map(|image| ("spec".to_owned(), json!({ "base_image": image }))));
            }
        }
        body.extend(compatible.map(|kinds| ("compatible_controllers".to_owned(), kinds)));
        let mut spec = match body.remove("spec") {
            Some(Value::Object(spec)) => spec,
            _ => Map::new(),
        };
        self.session(&mut spec);
        body.insert("spec".into(), Value::Object(spec));
        Value::Object(body)
    }

    /// What a session is made of.
    fn session(&mut self, spec: &mut Map<String, Value>) {
        if let Some(resources) = self.take(&["defaultResources", "resources"]) {
            spec.insert("resources".into(), self.resources(&resources));
        }
        let ports = self.list("ports", |_, _, port| {
            let port = renamed(port, &[("containerPort", "container_port")]);
            Some(Value::Object(port))
        });
        let env = self.list("env", Self::variable);
        let mut home = false;
        let mounts = self.list("volumeMounts", |reader, _, mount| {
            let is = |field: &str, text: &str| mount.get(field).and_then(Value::as_str) == Some(text);
            if is("name", HOME.0) && is("mountPath", HOME.1) {
                home = true;
                return None;
            }
            if is("name", HOME.0) {
                let path = mount.get("mountPath").cloned().unwrap_or_default();
                reader.notes.push(format!("homes are mounted at {}; {path} became an own volume", HOME.1));
            }
            Some(Value::Object(renamed(mount, &[("mountPath", "mount_path"), ("readOnly", "read_only")])))
        });
        if home {
            spec.insert("persistent_home".into(), json!(true));
        }
        let http_port = ports.iter().flatten().find_map(|port| {
            let name = port["name"].as_str()?;
            ["http", "https", "web"].contains(&name).then(|| port["container_port"].clone())
        });
        for (field, value) in [("ports", ports), ("env", env), ("volume_mounts", mounts)] {
            spec.extend(value.filter(|all| !all.is_empty()).map(|all| (field.to_owned(), Value::Array(all))));
        }
        self.displays(spec, http_port);
        for (from, to) in [
            ("persistentHome", "persistent_home"),
            ("homeSize", "home_size"),
            ("idleTimeout", "idle_timeout"),
            ("maxSessionDuration", "max_session_duration"),
        ] {
            spec.extend(self.take(&[from]).map(|value| (to.to_owned(), value)));
        }
    }

    /// Flat, or as limits and requests; then what a session may use at most is what counts.
    fn resources(&mut self, resources: &Value) -> Value {
        let mut all = Map::new();
        for field in ["memory", "cpu", "storage"] {
            let places = [&resources["limits"][field], &resources["requests"][field], &resources[field]];
            if let Some(value) = places.into_iter().find(|value| !value.is_null()) {
                all.insert(field.into(), as_text(value));
            }
        }
        if resources.get("limits").is_some() && resources.get("requests").is_some() {
            self.notes
                .push("of resources the limits were taken, and the requests where there is none".into());
        }
        Value::Object(all)
    }

    fn variable(&mut self, index: usize, variable: &Map<String, Value>) -> Option<Value> {
        if variable.contains_key("valueFrom") {
            self.error(format!("spec.env[{index}].valueFrom"), "is not supported; only plain values are");
        }
        let mut variable = variable.clone();
        if let Some(value) = variable.get_mut("value") {
            *value = as_text(value);
        }
        Some(Value::Object(variable))
    }

    /// The remote desktop and the web application.
    fn displays(&mut self, spec: &mut Map<String, Value>, http_port: Option<Value>) {
        let enabled = |block: &Value| block["enabled"].as_bool().unwrap_or(true);
        let (vnc, kasm) = (self.take(&["vnc"]), self.take(&["kasmvnc"]));
        let (vnc, kasm) = (vnc.filter(enabled), kasm.filter(enabled));
        let webapp = self.take(&["webapp"]);
        if let (Some(_), Some(_)) = (&vnc, &kasm) {
            self.error("spec.kasmvnc", "and spec.vnc are both enabled; only one desktop can be shown");
        }
        if webapp.is_none() && vnc.is_none() && kasm.is_none() && http_port.is_some() {
            self.notes
                .push("no display is enabled; the port named for HTTP became the web application".into());
            spec.insert("webapp".into(), json!({ "enabled": true, "port": http_port, "path": "/" }));
        }
        if let Some(kasm) = kasm {
            let port = if kasm["port"].is_null() { json!(KASM_PORT) } else { kasm["port"].clone() };
            spec.insert("vnc".into(), json!({ "enabled": true, "port": port, "protocol": "kasmvnc" }));
        }
        if let Some(Value::Object(mut vnc)) = vnc {
            if vnc.remove("encryption").is_some() {
                self.notes.push("spec.vnc.encryption is not known here and was left out".into());
            }
            vnc.insert("enabled".into(), json!(true));
            spec.insert("vnc".into(), Value::Object(vnc));
        }
        if let Some(Value::Object(webapp)) = webapp {
            let mut webapp = renamed(&webapp, &[("healthCheck", "health_check")]);
            webapp.entry("enabled").or_insert(json!(true));
            spec.insert("webapp".into(), Value::Object(webapp));
        }
    }

    fn take(&mut self, names: &[&str]) -> Option<Value> {
        let found: Vec<_> = names.iter().filter_map(|name| self.spec.remove(*name)).collect();
        found.into_iter().find(|value| !value.is_null())
    }

    /// A list of objects, each made into something else or left out.
    fn list(
        &mut self,
        field: &str,
        mut make: impl FnMut(&mut Self, usize, &Map<String, Value>) -> Option<Value>,
    ) -> Option<Vec<Value>> {
        let Value::Array(items) = self.take(&[field])? else {
            self.error(format!("spec.{field}"), "must be a list");
            return None;
        };
        let mut all = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::Object(item) => all.extend(make(self, index, item)),
                _ => self.error(format!("spec.{field}[{index}]"), "must be an object"),
            }
        }
        Some(all)
    }

    fn error(&mut self, field: impl Into<String>, message: &str) {
        self.errors.push(FieldError::new(field, message));
    }
}

fn renamed(object: &Map<String, Value>, names: &[(&str, &str)]) -> Map<String, Value> {
    let rename = |key: &String| match names.iter().find(|(from, _)| from == key) {
        Some((_, to)) => (*to).to_owned(),
        None => key.clone(),
    };
    object.iter().map(|(key, value)| (rename(key), value.clone())).collect()
}

/// YAML reads an unquoted 1000 as a number where a text was meant.
fn as_text(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(flag) => Value::String(flag.to_string()),
        other => other.clone(),
    }
}
