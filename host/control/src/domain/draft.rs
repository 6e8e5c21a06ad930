//! A session's spec as people write it: everything may be absent, nothing is checked yet. Templates keep their
//! defaults in this form, so that what is absent there can be told from what is set.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::REDACTED;

/// What a session is made of, as far as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpecDraft {
    /// Container image, disk image or machine template.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub base_image: Option<String>,
    /// What the session may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesDraft>,
    /// Ports that the session listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1024)]
    pub ports: Option<Vec<PortDraft>>,
    /// Environment of the session's processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1024)]
    pub env: Option<Vec<EnvDraft>>,
    /// Storage besides the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 1024)]
    pub volume_mounts: Option<Vec<MountDraft>>,
    /// The remote desktop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vnc: Option<VncDraft>,
    /// The web application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webapp: Option<WebAppDraft>,
    /// Whether the user's home outlives the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_home: Option<bool>,
    /// Size of the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^([+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)?$")]
    pub home_size: Option<String>,
    /// Hibernate after so long without a user; absent = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^(\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)?$")]
    pub idle_timeout: Option<String>,
    /// End after so long; absent = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^(\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)?$")]
    pub max_session_duration: Option<String>,
    /// The caller's own labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// What a session may use. Absent: no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcesDraft {
    /// Like `512Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^([+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)?$")]
    pub memory: Option<String>,
    /// Like `500m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^([+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)?$")]
    pub cpu: Option<String>,
    /// Like `10Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^([+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)?$")]
    pub storage: Option<String>,
}

/// A port that the session listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortDraft {
    /// Unique within the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub name: Option<String>,
    /// Its number.
    #[schema(minimum = 1, maximum = 65535)]
    pub container_port: i64,
    /// `TCP` (default) or `UDP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^([Tt][Cc][Pp]|[Uu][Dd][Pp])?$")]
    pub protocol: Option<String>,
}

/// A variable of the environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvDraft {
    /// Unique within the session.
    #[schema(min_length = 1, max_length = 512, pattern = r"^[^=\x00-\x1f\x7f-\x9f]*$")]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^[^\x00]*$")]
    pub value: Option<String>,
    /// Whether nobody but the backend may see the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
}

impl fmt::Debug for EnvDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of the environment never belong into a log, marked or not.
        f.debug_struct("EnvDraft")
            .field("name", &self.name)
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

/// Storage that goes with the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MountDraft {
    /// Unique within the session.
    #[schema(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub name: String,
    /// Absolute path within the session.
    #[schema(max_length = 4096, pattern = r"^/[^\x00-\x1f\x7f-\x9f]+$")]
    pub mount_path: String,
    /// Whether the session may only read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Its size; absent = the backend's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = r"^([+]?([0-9]+\.?[0-9]*|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?)?$")]
    pub size: Option<String>,
}

/// The remote desktop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VncDraft {
    /// Whether there is one; there is if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where it listens; 5900 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<i64>,
    /// `rfb` (default), `websocket` or `kasmvnc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(rfb|websocket|kasmvnc)?$")]
    pub protocol: Option<String>,
}

/// The web application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebAppDraft {
    /// Whether there is one; there is if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: Option<i64>,
    /// Where its first page is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, pattern = r"^(/[^\x00-\x1f\x7f-\x9f]*)?$")]
    pub path: Option<String>,
    /// What to ask to learn whether it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, pattern = r"^(/[^\x00-\x1f\x7f-\x9f]*)?$")]
    pub health_check: Option<String>,
}

impl SpecDraft {
    /// This draft with defaults under it. What is set here wins: objects field by field, variables and labels name
    /// by name; ports and mounts are lists of one piece. An empty text is set, and so takes a default away.
    pub fn over(self, defaults: Self) -> Self {
        Self {
            base_image: self.base_image.or(defaults.base_image),
            resources: both(self.resources, defaults.resources, ResourcesDraft::over),
            ports: self.ports.or(defaults.ports),
            env: both(self.env, defaults.env, env_over),
            volume_mounts: self.volume_mounts.or(defaults.volume_mounts),
            vnc: both(self.vnc, defaults.vnc, VncDraft::over),
            webapp: both(self.webapp, defaults.webapp, WebAppDraft::over),
            persistent_home: self.persistent_home.or(defaults.persistent_home),
            home_size: self.home_size.or(defaults.home_size),
            idle_timeout: self.idle_timeout.or(defaults.idle_timeout),
            max_session_duration: self.max_session_duration.or(defaults.max_session_duration),
            labels: both(self.labels, defaults.labels, |mine, mut all| {
                all.extend(mine);
                all
            }),
        }
    }
}

impl SpecDraft {
    /// Says of a desktop and of a web application that are described whether there is one, where nothing is said.
    pub fn say_enabled(&mut self, enabled: bool) {
        let vnc = self.vnc.as_mut().map(|vnc| &mut vnc.enabled);
        let webapp = self.webapp.as_mut().map(|webapp| &mut webapp.enabled);
        for said in [vnc, webapp].into_iter().flatten() {
            said.get_or_insert(enabled);
        }
    }

    /// What may be shown; see [`super::SessionSpec::redacted`].
    pub fn redacted(&self) -> Self {
        let mut draft = self.clone();
        for variable in draft.env.iter_mut().flatten() {
            if variable.secret == Some(true) && variable.value.is_some() {
                variable.value = Some(REDACTED.to_owned());
            }
        }
        draft
    }

    /// Puts back the values that [`SpecDraft::redacted`] took out of an earlier version, for those who write what
    /// they have read. Returns the places of variables for which there is nothing to put back.
    pub fn restore(&mut self, earlier: Option<&Self>) -> Vec<usize> {
        let mut unknown = Vec::new();
        let earlier: &[EnvDraft] = earlier.and_then(|earlier| earlier.env.as_deref()).unwrap_or_default();
        for (index, variable) in self.env.iter_mut().flatten().enumerate() {
            if variable.value.as_deref() != Some(REDACTED) {
                continue;
            }
            match earlier.iter().find(|known| known.name == variable.name && known.secret == Some(true)) {
                Some(known) => variable.value.clone_from(&known.value),
                None => unknown.push(index),
            }
        }
        unknown
    }
}

impl ResourcesDraft {
    fn over(self, defaults: Self) -> Self {
        Self {
            memory: self.memory.or(defaults.memory),
            cpu: self.cpu.or(defaults.cpu),
            storage: self.storage.or(defaults.storage),
        }
    }
}

impl VncDraft {
    fn over(self, defaults: Self) -> Self {
        Self {
            enabled: self.enabled.or(defaults.enabled),
            port: self.port.or(defaults.port),
            protocol: self.protocol.or(defaults.protocol),
        }
    }
}

impl WebAppDraft {
    fn over(self, defaults: Self) -> Self {
        Self {
            enabled: self.enabled.or(defaults.enabled),
            port: self.port.or(defaults.port),
            path: self.path.or(defaults.path),
            health_check: self.health_check.or(defaults.health_check),
        }
    }
}

fn both<T>(mine: Option<T>, default: Option<T>, merge: impl FnOnce(T, T) -> T) -> Option<T> {
    match (mine, default) {
        (Some(mine), Some(default)) => Some(merge(mine, default)),
        (mine, default) => mine.or(default),
    }
}

/// The defaults keep their places, what is new comes behind them. A variable that is secret by default stays so
/// unless it is said otherwise.
fn env_over(mine: Vec<EnvDraft>, defaults: Vec<EnvDraft>) -> Vec<EnvDraft> {
    let mut all = defaults;
    for variable in mine {
        match all.iter_mut().find(|known| known.name == variable.name) {
            Some(known) => {
                known.value = variable.value.or(known.value.take());
                known.secret = variable.secret.or(known.secret);
            }
            None => all.push(variable),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option::of;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn draft(value: Value) -> SpecDraft {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_wins() {
        let defaults = || {
            json!({
                "base_image": "d", "resources": {"memory": "1Gi", "cpu": "1"}, "ports": [{"container_port": 80}],
                "env": [{"name": "A", "value": "1", "secret": true}, {"name": "B", "value": "2"}],
                "vnc": {"enabled": true, "port": 5901}, "webapp": {"enabled": true, "port": 80, "path": "/x"},
                "persistent_home": true, "idle_timeout": "30m", "labels": {"a": "1", "b": "2"},
            })
        };
        for (mine, field, expected) in [
            (json!({}), "base_image", json!("d")),
            (json!({"base_image": "m"}), "base_image", json!("m")),
            (json!({"resources": {"cpu": "2"}}), "resources", json!({"memory": "1Gi", "cpu": "2"})),
            (json!({"ports": []}), "ports", json!([])),
            (json!({"idle_timeout": ""}), "idle_timeout", json!("")),
            (json!({"idle_timeout": null}), "idle_timeout", json!("30m")),
            (json!({"persistent_home": false}), "persistent_home", json!(false)),
            (json!({"vnc": {"enabled": false}}), "vnc", json!({"enabled": false, "port": 5901})),
            (json!({"webapp": {"path": "/y"}}), "webapp", json!({"enabled": true, "port": 80, "path": "/y"})),
            (json!({"labels": {"b": "3", "c": "4"}}), "labels", json!({"a": "1", "b": "3", "c": "4"})),
            (
                json!({"env": [{"name": "C", "value": "3"}, {"name": "A", "value": "9"}]}),
                "env",
                json!([{"name": "A", "value": "9", "secret": true}, {"name": "B", "value": "2"},
                       {"name": "C", "value": "3"}]),
            ),
            (
                json!({"env": [{"name": "A", "secret": false}]}),
                "env",
                json!([{"name": "A", "value": "1", "secret": false}, {"name": "B", "value": "2"}]),
            ),
        ] {
            let merged = serde_json::to_value(draft(mine.clone()).over(draft(defaults()))).unwrap();
            assert_eq!(merged[field], expected, "{mine}");
        }
    }

    #[test]
    fn only_what_is_described_is_enabled() {
        let mut spec = draft(json!({"webapp": {"port": 80}}));
        spec.say_enabled(true);
        assert_eq!(spec, draft(json!({"webapp": {"port": 80, "enabled": true}})));
        spec.say_enabled(false);
        assert_eq!(spec.webapp.unwrap().enabled, Some(true), "it was said before");
    }

    #[test]
    fn secrets_survive_reading_and_writing() {
        let stored =
            draft(json!({"env": [{"name": "A", "value": "hunter2", "secret": true}, {"name": "B"}]}));
        let mut read = stored.redacted();
        assert!(!serde_json::to_string(&read).unwrap().contains("hunter2"));
        assert_eq!(read.restore(Some(&stored)), Vec::<usize>::new());
        assert_eq!(read, stored);
        let mut other = draft(json!({"env": [{"name": "B", "value": "[redacted]"}]}));
        assert_eq!((other.restore(Some(&stored)), stored.redacted().restore(None)), (vec![0], vec![0]));
    }

    fn text() -> impl Strategy<Value = Option<String>> {
        of("[a-c]{0,2}")
    }

    fn env() -> impl Strategy<Value = Option<Vec<EnvDraft>>> {
        // Names are unique, as validation makes sure.
        let one = (text(), of(any::<bool>()));
        of(btree_map("[A-D]", one, 0..4)).prop_map(|all| {
            all.map(|all| {
                let draft = |(name, (value, secret))| EnvDraft { name, value, secret };
                all.into_iter().map(draft).collect()
            })
        })
    }

    prop_compose! {
        fn drafts()(
            base_image in text(), memory in text(), cpu in text(), env in env(),
            ports in of(vec(1..4i64, 0..3)), vnc in of((of(any::<bool>()), of(1..9i64))),
            home in of(any::<bool>()), idle in text(), labels in of(btree_map("[x-z]", "[0-2]", 0..3)),
        ) -> SpecDraft {
            SpecDraft {
                base_image,
                resources: Some(ResourcesDraft { memory, cpu, storage: None }),
                ports: ports.map(|ports| {
                    let port = |container_port| PortDraft { name: None, container_port, protocol: None };
                    ports.into_iter().map(port).collect()
                }),
                env,
                vnc: vnc.map(|(enabled, port)| VncDraft { enabled, port, protocol: None }),
                persistent_home: home,
                idle_timeout: idle,
                labels,
                ..SpecDraft::default()
            }
        }
    }

    proptest! {
        #[test]
        fn merging_is_layering(a in drafts(), b in drafts(), c in drafts()) {
            prop_assert_eq!(a.clone().over(SpecDraft::default()), a.clone());
            prop_assert_eq!(SpecDraft::default().over(a.clone()), a.clone());
            prop_assert_eq!(a.clone().over(a.clone()), a.clone());
            // Three layers give the same, whichever two are merged first.
            prop_assert_eq!(a.clone().over(b.clone()).over(c.clone()), a.over(b.over(c)));
        }

        #[test]
        fn drafts_come_back_from_the_store(a in drafts()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<SpecDraft>(&text).unwrap(), a);
        }
    }
}
