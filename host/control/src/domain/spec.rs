//! What a session is made of. Field names are those of the REST API.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use streamspace_proto::controller::v1 as proto;
use utoipa::ToSchema;

use super::{ByteQuantity, Condition, CpuQuantity, GoDuration, canonical_json, sha256_hex, shortened};

/// Shown in place of a secret value.
pub(super) const REDACTED: &str = "[redacted]";
/// Shorter secrets are not looked for in messages: they would match everywhere.
const SHORTEST_SCRUBBED: usize = 4;

/// What a session is made of: complete, checked, the same for every type of controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionSpec {
    /// Container image, disk image or machine template.
    pub base_image: String,
    /// What the session may use.
    pub resources: Resources,
    /// Ports that the session listens on.
    pub ports: Vec<Port>,
    /// Environment of the session's processes.
    pub env: Vec<EnvVar>,
    /// Storage besides the home.
    pub volume_mounts: Vec<VolumeMount>,
    /// The remote desktop, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnc: Option<Vnc>,
    /// The web application, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webapp: Option<WebApp>,
    /// Whether the user's home outlives the session.
    pub persistent_home: bool,
    /// Size of the home; absent = the backend's default.
    #[serde(with = "optional_text")]
    #[schema(value_type = String)]
    pub home_size: Option<ByteQuantity>,
    /// Hibernate after so long without a user; absent = never.
    #[serde(with = "optional_text")]
    #[schema(value_type = String)]
    pub idle_timeout: Option<GoDuration>,
    /// End after so long; absent = never.
    #[serde(with = "optional_text")]
    #[schema(value_type = String)]
    pub max_session_duration: Option<GoDuration>,
    /// The caller's own labels.
    pub labels: BTreeMap<String, String>,
}

/// What a session may use; absent = the backend's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// Memory.
    #[serde(with = "optional_text")]
    #[schema(value_type = String)]
    pub memory: Option<ByteQuantity>,
    /// Processor time.
    #[serde(with = "optional_text")]
    #[schema(value_type = String)]
    pub cpu: Option<CpuQuantity>,
    /// Disk.
    #[serde(with = "optional_text")]
    #[schema(value_type = String)]
    pub storage: Option<ByteQuantity>,
}

/// A port that the session listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    /// Unique within the session; may be empty.
    pub name: String,
    /// 1 to 65535.
    pub container_port: u16,
    /// The transport.
    pub protocol: PortProtocol,
}

/// The transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PortProtocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl PortProtocol {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// A variable of the environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvVar {
    /// The name.
    pub name: String,
    /// The value. Serialized as it is only into the store; see [`SessionSpec::redacted`].
    pub value: String,
    /// Whether the value may be shown to nobody but the backend.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of the environment never belong into a log, marked or not.
        f.debug_struct("EnvVar")
            .field("name", &self.name)
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

/// Storage besides the home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeMount {
    /// Unique within the session.
    pub name: String,
    /// Absolute path within the session.
    pub mount_path: String,
    /// Whether the session may only read.
    pub read_only: bool,
    /// Size; absent = the backend's default.
    #[serde(with = "optional_text")]
    #[schema(value_type = String)]
    pub size: Option<ByteQuantity>,
}

/// The remote desktop of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vnc {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens.
    pub port: u16,
    /// How it speaks.
    pub protocol: VncProtocol,
}

/// How a remote desktop speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VncProtocol {
    /// Plain RFB over TCP.
    Rfb,
    /// RFB inside a WebSocket.
    Websocket,
    /// KasmVNC's own page and protocol.
    Kasmvnc,
}

impl VncProtocol {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rfb => "rfb",
            Self::Websocket => "websocket",
            Self::Kasmvnc => "kasmvnc",
        }
    }
}

/// The web application of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebApp {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens.
    pub port: u16,
    /// Where its first page is; may be empty.
    pub path: String,
    /// What to ask to learn whether it is ready; may be empty.
    pub health_check: String,
}

impl SessionSpec {
    /// SHA-256 over the canonical JSON of the spec and the settings for the controller type: two sessions with
    /// one hash are made of the same.
    pub fn hash(&self, controller_config: &Map<String, Value>) -> Result<String, serde_json::Error> {
        let whole = json!({ "spec": serde_json::to_value(self)?, "controller_config": controller_config });
        Ok(sha256_hex(canonical_json(&whole)))
    }

    /// What may be shown: the values of secret variables are gone.
    pub fn redacted(&self) -> Self {
        let mut spec = self.clone();
        for variable in spec.env.iter_mut().filter(|variable| variable.secret) {
            variable.value = REDACTED.to_owned();
        }
        spec
    }

    /// What may be stored of a text that came from elsewhere: the values of secret variables are taken out, and
    /// then it is cut.
    pub fn scrub(&self, text: &str) -> String {
        shortened(&self.without_secrets(text))
    }

    /// A text that came from elsewhere, without the values of secret variables.
    pub fn without_secrets(&self, text: &str) -> String {
        let secret = |variable: &&EnvVar| variable.secret && variable.value.len() >= SHORTEST_SCRUBBED;
        let mut secrets: Vec<_> = self.env.iter().filter(secret).map(|v| v.value.as_str()).collect();
        // The longest first: what is left of one that contains another would not be found any more.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut clean = text.to_owned();
        for secret in secrets {
            clean = clean.replace(secret, REDACTED);
        }
        clean
    }

    /// What may be stored of conditions that came from elsewhere; see [`SessionSpec::scrub`].
    pub fn scrub_conditions(&self, conditions: Vec<Condition>) -> Vec<Condition> {
        let clean = |condition: Condition| Condition {
            kind: self.scrub(&condition.kind),
            reason: self.scrub(&condition.reason),
            message: self.scrub(&condition.message),
            ..condition
        };
        conditions.into_iter().map(clean).collect()
    }

    /// The spec as controllers understand it.
    pub fn to_proto(&self) -> proto::SessionSpec {
        fn text<T: ToString>(value: &Option<T>) -> String {
            value.as_ref().map(ToString::to_string).unwrap_or_default()
        }
        proto::SessionSpec {
            base_image: self.base_image.clone(),
            resources: Some(proto::ResourceRequirements {
                memory: text(&self.resources.memory),
                cpu: text(&self.resources.cpu),
                storage: text(&self.resources.storage),
            }),
            ports: self
                .ports
                .iter()
                .map(|port| proto::Port {
                    name: port.name.clone(),
                    container_port: i32::from(port.container_port),
                    protocol: port.protocol.as_str().to_owned(),
                })
                .collect(),
            env: self
                .env
                .iter()
                .map(|variable| proto::EnvVar {
                    name: variable.name.clone(),
                    value: variable.value.clone(),
                    secret: variable.secret,
                })
                .collect(),
            volume_mounts: self
                .volume_mounts
                .iter()
                .map(|mount| proto::VolumeMount {
                    name: mount.name.clone(),
                    mount_path: mount.mount_path.clone(),
                    read_only: mount.read_only,
                    size: text(&mount.size),
                })
                .collect(),
            vnc: self.vnc.as_ref().map(|vnc| proto::VncConfig {
                enabled: vnc.enabled,
                port: i32::from(vnc.port),
                protocol: vnc.protocol.as_str().to_owned(),
            }),
            webapp: self.webapp.as_ref().map(|webapp| proto::WebAppConfig {
                enabled: webapp.enabled,
                port: i32::from(webapp.port),
                path: webapp.path.clone(),
                health_check: webapp.health_check.clone(),
            }),
            persistent_home: self.persistent_home,
            home_size: text(&self.home_size),
            idle_timeout: text(&self.idle_timeout),
            max_session_duration: text(&self.max_session_duration),
            labels: self.labels.clone().into_iter().collect(),
        }
    }
}

/// The original's model has plain strings: what is absent is the empty text.
mod optional_text {
    use std::fmt::Display;

    use serde::de::value::StrDeserializer;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, out: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => out.collect_str(value),
            None => out.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, T, D>(input: D) -> Result<Option<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(input)?;
        if text.is_empty() {
            return Ok(None);
        }
        T::deserialize(StrDeserializer::<D::Error>::new(&text)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SessionSpec {
        SessionSpec {
            base_image: "alpine:3".into(),
            resources: Resources { memory: ByteQuantity::parse("512Mi").ok(), cpu: None, storage: None },
            ports: vec![Port { name: "web".into(), container_port: 80, protocol: PortProtocol::Tcp }],
            env: vec![
                EnvVar { name: "PASSWORD".into(), value: "hunter22".into(), secret: true },
                EnvVar { name: "LANG".into(), value: "C".into(), secret: false },
            ],
            volume_mounts: vec![],
            vnc: None,
            webapp: None,
            persistent_home: false,
            home_size: None,
            idle_timeout: GoDuration::parse("30m").ok(),
            max_session_duration: None,
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn the_store_gives_back_what_it_was_given() {
        let text = serde_json::to_string(&spec()).unwrap();
        assert_eq!(serde_json::from_str::<SessionSpec>(&text).unwrap(), spec());
        assert!(text.contains(r#""home_size":"""#));
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?} {}", spec(), serde_json::to_string(&spec().redacted()).unwrap());
        assert!(!shown.contains("hunter22"), "{shown}");
        assert_eq!(spec().scrub("login hunter22 failed"), "login [redacted] failed");
    }

    #[test]
    fn nothing_of_a_secret_is_left() {
        let mut spec = spec();
        // One that contains another, and one at the place where long texts are cut.
        spec.env.push(EnvVar { name: "LONG".into(), value: "hunter22-and-more".into(), secret: true });
        assert_eq!(spec.scrub("a hunter22-and-more b hunter22"), "a [redacted] b [redacted]");
        let long = format!("{}hunter22", "x".repeat(4092));
        assert!(!spec.scrub(&long).contains("hunt"));
        let condition = Condition {
            kind: "hunter22".into(),
            status: crate::domain::ConditionStatus::True,
            reason: "hunter22".into(),
            message: "hunter22".into(),
            since: crate::domain::now(),
        };
        assert!(!format!("{:?}", spec.scrub_conditions(vec![condition])).contains("hunter22"));
    }

    #[test]
    fn the_hash_sees_everything() {
        let none = Map::new();
        let hash = spec().hash(&none).unwrap();
        assert_eq!(hash, spec().hash(&none).unwrap());
        let mut other = spec();
        other.env[0].value = "hunter23".into();
        assert_ne!(hash, other.hash(&none).unwrap());
        let config = json!({"profile": "x"}).as_object().cloned().unwrap();
        assert_ne!(hash, spec().hash(&config).unwrap());
    }
}
