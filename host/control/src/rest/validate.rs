//! The body of a creation, checked completely, so that the caller learns all faults at once.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;

use serde::Serialize;
use serde_json::{Map, Value};

use super::body::CreateRequest;
use super::problem::{FieldError, Problem};
use crate::domain::{
    ByteQuantity, ControllerId, CpuQuantity, EnvDraft, EnvVar, GoDuration, MAX_ID_BYTES, MountDraft,
    PlacementRequest, Port, PortDraft, PortProtocol, Requirement, Resources, SessionSpec, SpecDraft,
    Template, Vnc, VncDraft, VncProtocol, VolumeMount, WebApp, WebAppDraft,
};

/// Where a remote desktop listens, if the caller does not say.
const DEFAULT_VNC_PORT: i64 = 5900;
/// The longest name of an image, path or the like, in bytes.
pub(super) const LONGEST_TEXT: usize = 4096;
/// More of a kind (ports, variables, mounts, labels) than that is a mistake.
const MOST_ITEMS: usize = 1024;
/// A session with more than that would make lists too long, in bytes.
pub(super) const LARGEST_STORED: usize = 128 * 1024;

/// A creation that makes sense.
#[derive(Debug)]
pub(super) struct ValidCreate {
    pub(super) user_id: String,
    /// Empty without a template.
    pub(super) template_id: String,
    pub(super) spec: SessionSpec,
    pub(super) controller_config: Map<String, Value>,
    pub(super) placement: PlacementRequest,
}

/// How much of a spec is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All that a session needs.
    Whole,
    /// All but the image, which depends on where the session is placed.
    WholeButImage,
    /// Something is merged with it later.
    Part,
}

impl CreateRequest {
    /// Checks everything. The template is the one that the request names, if there is such a one.
    pub(super) fn validate(self, caller: &str, template: Option<&Template>) -> Result<ValidCreate, Problem> {
        let mut faults = Faults::default();
        let template_id = self.template().unwrap_or_default().to_owned();
        let user_id = self.user_id.unwrap_or_else(|| caller.to_owned());
        faults.id("user_id", &user_id);
        if !template_id.is_empty() && template.is_none() {
            faults.id("template_id", &template_id);
            faults.add("template_id", format!("no template named {:?}", cut(&template_id)));
        }
        let mut placement = PlacementRequest {
            controller_id: self.controller_id.filter(|id| !id.is_empty()).and_then(|id| {
                faults.id("controller_id", &id);
                ControllerId::parse(&id).ok()
            }),
            controller_type: self.controller_type.filter(|kind| !kind.is_empty()),
            labels: self.controller_labels.unwrap_or_default(),
            require: faults.requirements(self.require.unwrap_or_default()),
            template: None,
        };
        if let Some(kind) = &placement.controller_type {
            faults.id("controller_type", kind);
        }
        faults.labels("controller_labels", &placement.labels);
        let draft = self.spec.unwrap_or_default();
        let spec = match template {
            None if template_id.is_empty() => faults.spec(draft, Extent::Whole),
            // Without its template nobody can tell whether something is missing.
            None => faults.spec(draft, Extent::Part),
            Some(template) => {
                // By itself first: its faults are named by their places in the request.
                faults.spec(draft.clone(), Extent::Part);
                if faults.0.is_empty() {
                    let own_image = draft.base_image.as_ref().is_some_and(|image| !image.is_empty());
                    let mut offer = template.body.offer(template.generation, own_image);
                    let extent = if offer.images.is_empty() { Extent::Whole } else { Extent::WholeButImage };
                    let spec = faults.spec(draft.over(template.body.spec.clone()), extent);
                    offer.common_image = !spec.base_image.is_empty();
                    placement.template = Some(offer);
                    spec
                } else {
                    faults.spec(SpecDraft::default(), Extent::Part)
                }
            }
        };
        let controller_config = self.controller_config.unwrap_or_default();
        let size = stored_size(&spec)
            .saturating_add(stored_size(&controller_config))
            .saturating_add(placement.template.as_ref().map_or(0, stored_size));
        if size > LARGEST_STORED {
            let message = format!("with controller_config more than {LARGEST_STORED} bytes of JSON");
            faults.add("spec", message);
        }
        faults.finish()?;
        Ok(ValidCreate { user_id, template_id, spec, controller_config, placement })
    }
}

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<FieldError>);

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Display) {
        self.0.push(FieldError::new(field, message.to_string()));
    }

    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::invalid(self.0)) }
    }

    pub(super) fn id(&mut self, field: &str, text: &str) {
        if text.is_empty() {
            self.add(field, "must not be empty");
        } else if text.len() > MAX_ID_BYTES {
            self.add(field, format!("longer than {MAX_ID_BYTES} bytes"));
        } else if text.chars().any(char::is_control) {
            self.add(field, "must not have control characters");
        }
    }

    /// A text that ends up in a command line, a path or a C string somewhere.
    pub(super) fn text(&mut self, field: &str, text: &str) {
        if text.len() > LONGEST_TEXT {
            self.add(field, format!("longer than {LONGEST_TEXT} bytes"));
        } else if text.chars().any(char::is_control) {
            self.add(field, "must not have control characters");
        }
    }

    /// A text that is shown in one line.
    pub(super) fn line(&mut self, field: &str, text: &str, longest: usize) {
        if text.len() > longest {
            self.add(field, format!("longer than {longest} bytes"));
        } else if text.chars().any(char::is_control) {
            self.add(field, "must not have control characters");
        }
    }

    pub(super) fn parsed<T, E: Display>(
        &mut self,
        field: &str,
        text: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&text.filter(|text| !text.is_empty())?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, error);
                None
            }
        }
    }

    pub(super) fn unique<T: Eq + Hash>(&mut self, seen: &mut HashSet<T>, item: T, field: &str) {
        if !seen.insert(item) {
            self.add(field, "given more than once");
        }
    }

    pub(super) fn count(&mut self, field: &str, count: usize) {
        if count > MOST_ITEMS {
            self.add(field, format!("more than {MOST_ITEMS} items"));
        }
    }

    fn requirements(&mut self, names: Vec<String>) -> Vec<Requirement> {
        let mut all = Vec::new();
        for (index, name) in names.iter().enumerate() {
            match Requirement::parse(name) {
                Some(requirement) if all.contains(&requirement) => {
                    self.add(format!("require[{index}]"), "given more than once");
                }
                Some(requirement) => all.push(requirement),
                None => {
                    let known: Vec<_> = Requirement::ALL.iter().map(|one| one.as_str()).collect();
                    self.add(format!("require[{index}]"), format!("must be one of {}", known.join(", ")));
                }
            }
        }
        all
    }

    pub(super) fn labels(&mut self, field: &str, labels: &BTreeMap<String, String>) {
        self.count(field, labels.len());
        for (key, value) in labels {
            self.id(field, key);
            if value.len() > MAX_ID_BYTES || value.chars().any(char::is_control) {
                let key = cut(key);
                self.add(format!("{field}.{key}"), format!("must have at most {MAX_ID_BYTES} plain bytes"));
            }
        }
    }

    /// An image, where there is one.
    pub(super) fn image(&mut self, field: &str, image: &str) {
        if image.chars().any(char::is_whitespace) {
            self.add(field, "must not have spaces");
        }
        self.text(field, image);
    }

    pub(super) fn spec(&mut self, raw: SpecDraft, extent: Extent) -> SessionSpec {
        let base_image = raw.base_image.unwrap_or_default();
        if base_image.trim().is_empty() && extent == Extent::Whole {
            self.add("spec.base_image", "is required");
            self.text("spec.base_image", &base_image);
        } else {
            self.image("spec.base_image", &base_image);
        }
        let resources = raw.resources.unwrap_or_default();
        let labels = raw.labels.unwrap_or_default();
        self.labels("spec.labels", &labels);
        SessionSpec {
            base_image,
            resources: Resources {
                memory: self.parsed("spec.resources.memory", resources.memory, ByteQuantity::parse),
                cpu: self.parsed("spec.resources.cpu", resources.cpu, CpuQuantity::parse),
                storage: self.parsed("spec.resources.storage", resources.storage, ByteQuantity::parse),
            },
            ports: self.ports(raw.ports.unwrap_or_default()),
            env: self.env(raw.env.unwrap_or_default()),
            volume_mounts: self.mounts(raw.volume_mounts.unwrap_or_default()),
            vnc: raw.vnc.map(|vnc| self.vnc(vnc)),
            webapp: raw.webapp.map(|webapp| self.webapp(webapp, extent)),
            persistent_home: raw.persistent_home.unwrap_or(false),
            home_size: self.parsed("spec.home_size", raw.home_size, ByteQuantity::parse),
            idle_timeout: self.parsed("spec.idle_timeout", raw.idle_timeout, GoDuration::parse),
            max_session_duration: self.parsed(
                "spec.max_session_duration",
                raw.max_session_duration,
                GoDuration::parse,
            ),
            labels,
        }
    }

    fn port(&mut self, field: &str, number: i64) -> u16 {
        match u16::try_from(number) {
            Ok(port) if port > 0 => port,
            _ => {
                self.add(field, "must be from 1 to 65535");
                0
            }
        }
    }

    fn ports(&mut self, raw: Vec<PortDraft>) -> Vec<Port> {
        self.count("spec.ports", raw.len());
        let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
        let mut ports = Vec::new();
        for (index, port) in raw.into_iter().enumerate() {
            let field = format!("spec.ports[{index}]");
            let name = port.name.unwrap_or_default();
            if !name.is_empty() {
                self.id(&format!("{field}.name"), &name);
                self.unique(&mut names, name.clone(), &format!("{field}.name"));
            }
            let protocol = match port.protocol.as_deref().map(str::to_ascii_uppercase).as_deref() {
                None | Some("" | "TCP") => PortProtocol::Tcp,
                Some("UDP") => PortProtocol::Udp,
                Some(_) => {
                    self.add(format!("{field}.protocol"), "must be TCP or UDP");
                    PortProtocol::Tcp
                }
            };
            let container_port = self.port(&format!("{field}.container_port"), port.container_port);
            if container_port > 0 {
                self.unique(&mut numbers, (container_port, protocol), &format!("{field}.container_port"));
            }
            ports.push(Port { name, container_port, protocol });
        }
        ports
    }

    fn env(&mut self, raw: Vec<EnvDraft>) -> Vec<EnvVar> {
        self.count("spec.env", raw.len());
        let mut names = HashSet::new();
        let mut env = Vec::new();
        for (index, variable) in raw.into_iter().enumerate() {
            let field = format!("spec.env[{index}].name");
            self.id(&field, &variable.name);
            if variable.name.contains('=') {
                self.add(&field, "must not have \"=\"");
            }
            self.unique(&mut names, variable.name.clone(), &field);
            let value = variable.value.unwrap_or_default();
            if value.contains('\0') {
                self.add(format!("spec.env[{index}].value"), "must not have a zero byte");
            }
            env.push(EnvVar { name: variable.name, value, secret: variable.secret.unwrap_or(false) });
        }
        env
    }

    fn mounts(&mut self, raw: Vec<MountDraft>) -> Vec<VolumeMount> {
        self.count("spec.volume_mounts", raw.len());
        let (mut names, mut paths) = (HashSet::new(), HashSet::new());
        let mut mounts = Vec::new();
        for (index, mount) in raw.into_iter().enumerate() {
            let field = format!("spec.volume_mounts[{index}]");
            self.id(&format!("{field}.name"), &mount.name);
            self.unique(&mut names, mount.name.clone(), &format!("{field}.name"));
            let path_field = format!("{field}.mount_path");
            self.text(&path_field, &mount.mount_path);
            let absolute = mount.mount_path.starts_with('/') && mount.mount_path != "/";
            if !absolute || mount.mount_path.split('/').any(|part| part == "..") {
                self.add(&path_field, "must be an absolute path other than \"/\", without \"..\"");
            }
            let normal = mount.mount_path.trim_end_matches('/').to_owned();
            self.unique(&mut paths, normal, &path_field);
            mounts.push(VolumeMount {
                name: mount.name,
                mount_path: mount.mount_path,
                read_only: mount.read_only.unwrap_or(false),
                size: self.parsed(&format!("{field}.size"), mount.size, ByteQuantity::parse),
            });
        }
        mounts
    }

    fn vnc(&mut self, raw: VncDraft) -> Vnc {
        let protocol = match raw.protocol.as_deref() {
            None | Some("" | "rfb") => VncProtocol::Rfb,
            Some("websocket") => VncProtocol::Websocket,
            Some("kasmvnc") => VncProtocol::Kasmvnc,
            Some(_) => {
                self.add("spec.vnc.protocol", "must be rfb, websocket or kasmvnc");
                VncProtocol::Rfb
            }
        };
        let port = self.port("spec.vnc.port", raw.port.unwrap_or(DEFAULT_VNC_PORT));
        // Who describes a desktop wants one.
        Vnc { enabled: raw.enabled.unwrap_or(true), port, protocol }
    }

    fn webapp(&mut self, raw: WebAppDraft, extent: Extent) -> WebApp {
        let enabled = raw.enabled.unwrap_or(true);
        let port = match raw.port {
            Some(number) => self.port("spec.webapp.port", number),
            None => {
                if enabled && extent != Extent::Part {
                    self.add("spec.webapp.port", "is required");
                }
                0
            }
        };
        let (path, health_check) = (raw.path.unwrap_or_default(), raw.health_check.unwrap_or_default());
        for (field, text) in [("spec.webapp.path", &path), ("spec.webapp.health_check", &health_check)] {
            self.text(field, text);
            if !text.is_empty() && !text.starts_with('/') {
                self.add(field, "must begin with \"/\"");
            }
        }
        WebApp { enabled, port, path, health_check }
    }
}

/// How much of the store, and of every list, something takes.
pub(super) fn stored_size<T: Serialize>(value: &T) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |text| text.len())
}

/// As much of a text as belongs into an error.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(body: &Value) -> Vec<String> {
        match CreateRequest::read(body.to_string().as_bytes()).and_then(|read| read.validate("me", None)) {
            Ok(_) => vec![],
            Err(problem) => {
                let problem = serde_json::to_value(problem).unwrap();
                let mut fields: Vec<_> = problem["errors"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|error| format!("{} {}", problem["status"], error["field"].as_str().unwrap()))
                    .collect();
                fields.sort();
                fields
            }
        }
    }

    #[test]
    fn the_least_that_works() {
        let read = CreateRequest::read(br#"{"spec":{"base_image":"alpine:3"}}"#).unwrap();
        let valid = read.validate("me", None).unwrap();
        assert_eq!((valid.user_id.as_str(), valid.spec.base_image.as_str()), ("me", "alpine:3"));
    }

    #[test]
    fn everything_there_is() {
        let body = json!({
            "user": "alice", "template": "", "controller_type": "docker",
            "controller_labels": {"region": "lab"}, "require": ["gpu", "hibernation"],
            "controller_config": {"profile": "x", "deep": {"n": 1}},
            "spec": {
                "base_image": "reg.example:5000/a/b@sha256:00", "persistent_home": true, "home_size": "10Gi",
                "resources": {"memory": "2Gi", "cpu": "1000m", "storage": "50Gi"},
                "ports": [{"name": "web", "container_port": 80}, {"container_port": 80, "protocol": "udp"}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "x", "secret": true}],
                "volume_mounts": [{"name": "d", "mount_path": "/data", "read_only": true, "size": "1Gi"}],
                "vnc": {"enabled": true, "protocol": "kasmvnc", "port": 3000},
                "webapp": {"enabled": true, "port": 8080, "path": "/", "health_check": "/health"},
                "idle_timeout": "30m", "max_session_duration": "8h", "labels": {"team": "x"},
            },
        });
        assert_eq!(faults(&body), Vec::<String>::new());
    }

    #[test]
    fn all_faults_at_once() {
        let long = "x".repeat(513);
        let body = json!({
            "user_id": long, "template_id": "firefox", "controller_type": "a\u{0}b", "require": ["gpu", "fun"],
            "spec": {
                "resources": {"memory": "lots", "cpu": "0", "storage": "-1Gi"},
                "ports": [{"container_port": 0}, {"container_port": 70000}, {"container_port": 80},
                          {"container_port": 80, "protocol": "SCTP"}],
                "env": [{"name": "A"}, {"name": "A"}, {"name": "B=C"}],
                "volume_mounts": [{"name": "d", "mount_path": "data/../.."}],
                "vnc": {"protocol": "telepathy"}, "webapp": {"enabled": true, "path": "x"},
                "home_size": "10GB", "idle_timeout": "soon", "max_session_duration": "0s",
            },
        });
        let expected: Vec<String> = [
            "controller_type",
            "require[1]",
            "spec.env[1].name",
            "spec.env[2].name",
            "spec.home_size",
            "spec.idle_timeout",
            "spec.max_session_duration",
            "spec.ports[0].container_port",
            "spec.ports[1].container_port",
            "spec.ports[3].container_port",
            "spec.ports[3].protocol",
            "spec.resources.cpu",
            "spec.resources.memory",
            "spec.resources.storage",
            "spec.vnc.protocol",
            "spec.volume_mounts[0].mount_path",
            "spec.webapp.path",
            "template_id",
            "user_id",
        ]
        .iter()
        .map(|field| format!("422 {field}"))
        .collect();
        assert_eq!(faults(&body), expected);
    }
}
