//! The manifest that a plugin carries in its own file: who it is and what it asks for.

use serde::Deserialize;
use wasmparser::{Parser, Payload};

use crate::error::LoadError;

/// Custom section of the core module in which the SDK puts the manifest (TOML text).
const SECTION: &str = "streamspace:manifest";

/// The contract versions that this host serves.
const SERVED_API: &str = "streamspace:backend@1.0";

/// What a plugin says of itself and asks for. What it gets is the operator's decision.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest's own format.
    pub schema: u32,
    /// Who it is.
    pub plugin: Identity,
    /// Named targets that it wants to talk to.
    #[serde(default, rename = "endpoint")]
    pub endpoints: Vec<EndpointRequest>,
    /// Names of secrets that its protocol forces into the sandbox.
    #[serde(default, rename = "secret")]
    pub secrets: Vec<SecretRequest>,
    /// What it needs at least, where that is more than usual. Only the operator can grant it.
    #[serde(default)]
    pub limits: crate::limits::LimitOverrides,
}

/// Who a plugin is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its name; the same that `describe` gives.
    pub name: String,
    /// The contract it is written for.
    pub api: String,
}

/// A named target that a plugin wants to talk to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EndpointRequest {
    /// The name it uses for it.
    pub name: String,
    /// The capability it goes through.
    pub kind: EndpointKind,
    /// For the operator: what it is.
    #[serde(default)]
    pub description: String,
    /// Where it usually is. Used without asking only for plugins that this release knows.
    #[serde(default)]
    pub default: Option<String>,
}

/// The capability through which an endpoint is reached.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// The typed Docker Engine API.
    Docker,
    /// HTTP requests.
    Http,
    /// A byte stream.
    Socket,
}

/// A secret that a plugin wants to see.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct SecretRequest {
    /// The name it uses for it.
    pub name: String,
    /// For the operator: what it is and why the plugin has to see it.
    #[serde(default)]
    pub description: String,
    /// Whether the plugin works without it.
    #[serde(default)]
    pub optional: bool,
}

impl Manifest {
    /// Finds and parses the manifest of a component.
    pub(crate) fn of_component(wasm: &[u8]) -> Result<Self, LoadError> {
        let mut found = None;
        // Walks into the nested core modules: the linker leaves a guest's custom sections there.
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(|error| LoadError::NotAComponent(error.to_string()))?;
            if let Payload::CustomSection(section) = payload
                && section.name() == SECTION
                && found.replace(section.data()).is_some()
            {
                return Err(LoadError::Manifest("there is more than one".to_owned()));
            }
        }
        let text = found.ok_or(LoadError::NoManifest)?;
        let text = std::str::from_utf8(text).map_err(|error| LoadError::Manifest(error.to_string()))?;
        Self::parse(text)
    }

    fn parse(text: &str) -> Result<Self, LoadError> {
        let manifest: Self = toml::from_str(text).map_err(|error| LoadError::Manifest(error.to_string()))?;
        if manifest.schema != 1 {
            return Err(LoadError::Manifest(format!("schema {} is not known, only 1 is", manifest.schema)));
        }
        if manifest.plugin.api != SERVED_API {
            return Err(LoadError::Api { asked: manifest.plugin.api, served: SERVED_API });
        }
        let names = manifest.endpoints.iter().map(|endpoint| &endpoint.name);
        let names = names.chain(manifest.secrets.iter().map(|secret| &secret.name));
        if let Some(bad) = names.chain([&manifest.plugin.name]).find(|name| !is_name(name)) {
            return Err(LoadError::Manifest(format!("{bad:?} is no name (a-z, 0-9 and -, at most 40)")));
        }
        if let Some(twice) = first_duplicate(manifest.endpoints.iter().map(|endpoint| &endpoint.name)) {
            return Err(LoadError::Manifest(format!("endpoint `{twice}` is asked for twice")));
        }
        Ok(manifest)
    }

    /// Whether the plugin asks for an endpoint of this kind.
    pub(crate) fn asks_for(&self, kind: EndpointKind) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.kind == kind)
    }
}

impl EndpointKind {
    /// The key under which the operator's configuration gives the target, and the name of the WIT interface.
    pub fn key(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Http => "http",
            Self::Socket => "socket",
        }
    }
}

/// Names stand in configurations, logs and labels.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&name.len()) && name.chars().all(allowed)
}

fn first_duplicate<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = std::collections::BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema = 1\n[plugin]\nname = \"x\"\napi = \"streamspace:backend@1.0\"\n";

    #[test]
    fn reads_identity_endpoints_and_limits() {
        let manifest = Manifest::parse(&format!(
            "{HEAD}[[endpoint]]\nname = \"engine\"\nkind = \"docker\"\n[limits]\nmemory = \"32MiB\"\n"
        ))
        .unwrap();
        assert!(manifest.asks_for(EndpointKind::Docker));
        assert!(!manifest.asks_for(EndpointKind::Http));
        assert_eq!(manifest.limits.memory.unwrap().bytes(), 32 << 20);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (text, why) in [
            (HEAD.replace("schema = 1", "schema = 2"), "schema 2 is not known"),
            (HEAD.replace("@1.0", "@2.0"), "streamspace:backend@2.0"),
            (format!("{HEAD}[extra]\n"), "unknown field `extra`"),
            (HEAD.replace("\"x\"", "\"x\\ny\""), "is no name"),
            (
                format!("{HEAD}{}", "[[endpoint]]\nname = \"a\"\nkind = \"docker\"\n".repeat(2)),
                "endpoint `a` is asked for twice",
            ),
        ] {
            let message = Manifest::parse(&text).unwrap_err().to_string();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn a_file_without_a_manifest_is_told_so() {
        let empty_component = b"\0asm\x0d\0\x01\0";
        assert!(matches!(Manifest::of_component(empty_component), Err(LoadError::NoManifest)));
        assert!(matches!(Manifest::of_component(b"MZ"), Err(LoadError::NotAComponent(_))));
    }
}
