//! What the operator's configuration gives to a controller's plugin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::BindError;
use crate::manifest::{EndpointKind, Manifest};

/// The target of one named endpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// A Docker Engine: `unix:///path/to/docker.sock`, or `tcp://host:port` on the loopback interface.
    pub docker: String,
}

impl EndpointConfig {
    /// The target for an endpoint of this kind, as a manifest's `default` gives it. None where this version of the
    /// host cannot serve the kind.
    pub fn of_kind(kind: EndpointKind, target: &str) -> Option<Self> {
        match kind {
            EndpointKind::Docker => Some(Self { docker: target.to_owned() }),
            EndpointKind::Http | EndpointKind::Socket => None,
        }
    }

    fn kind(&self) -> EndpointKind {
        EndpointKind::Docker
    }
}

/// Where a secret's value comes from. It is read anew for every call, so that it can be replaced at any time.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretSource {
    /// A file; one newline at its end does not belong to the value.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl SecretSource {
    /// Reads the value. The error says where, never what.
    pub(crate) fn read(&self) -> Result<String, String> {
        match self {
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display())),
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
            }
        }
    }
}

impl fmt::Display for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.docker)
    }
}

/// Checks that what is granted is what the plugin asks for: nothing missing, nothing to spare.
pub(crate) fn match_endpoints(
    manifest: &Manifest,
    granted: &BTreeMap<String, EndpointConfig>,
) -> Result<(), BindError> {
    for asked in &manifest.endpoints {
        match granted.get(&asked.name) {
            Some(target) if target.kind() == asked.kind => {}
            Some(target) => {
                let reason =
                    format!("is {}, but the plugin asks for {}", target.kind().key(), asked.kind.key());
                return Err(BindError::Endpoint { name: asked.name.clone(), reason });
            }
            None => {
                return Err(BindError::EndpointNotGranted {
                    name: asked.name.clone(),
                    kind: asked.kind.key(),
                });
            }
        }
    }
    for name in granted.keys() {
        if !manifest.endpoints.iter().any(|asked| asked.name == *name) {
            let asked: Vec<_> = manifest.endpoints.iter().map(|asked| asked.name.as_str()).collect();
            return Err(BindError::UnknownEndpoint { name: name.clone(), asked: asked.join(", ") });
        }
    }
    Ok(())
}

/// The same for secrets.
pub(crate) fn match_secrets(
    manifest: &Manifest,
    granted: &BTreeMap<String, SecretSource>,
) -> Result<(), BindError> {
    for asked in &manifest.secrets {
        if !asked.optional && !granted.contains_key(&asked.name) {
            let reason = "the plugin needs it, and it is not granted".to_owned();
            return Err(BindError::Secret { name: asked.name.clone(), reason });
        }
    }
    for name in granted.keys() {
        if !manifest.secrets.iter().any(|asked| asked.name == *name) {
            let reason = "the plugin asks for no secret of this name".to_owned();
            return Err(BindError::Secret { name: name.clone(), reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{EndpointRequest, Identity, SecretRequest};

    fn manifest() -> Manifest {
        Manifest {
            schema: 1,
            plugin: Identity { name: "x".into(), api: "streamspace:backend@1.0".into() },
            endpoints: vec![EndpointRequest {
                name: "engine".into(),
                kind: EndpointKind::Docker,
                description: String::new(),
                default: None,
            }],
            secrets: vec![],
            limits: Default::default(),
        }
    }

    fn granted(name: &str) -> BTreeMap<String, EndpointConfig> {
        BTreeMap::from([(name.to_owned(), EndpointConfig { docker: "unix:///x".into() })])
    }

    #[test]
    fn exactly_what_is_asked_for_must_be_granted() {
        assert!(match_endpoints(&manifest(), &granted("engine")).is_ok());
        assert!(matches!(
            match_endpoints(&manifest(), &BTreeMap::new()),
            Err(BindError::EndpointNotGranted { name, kind: "docker" }) if name == "engine"
        ));
        let mut more = granted("engine");
        more.append(&mut granted("motor"));
        assert!(
            matches!(match_endpoints(&manifest(), &more), Err(BindError::UnknownEndpoint { name, .. }) if name == "motor")
        );
        let secrets = BTreeMap::from([("token".to_owned(), SecretSource::Env("TOKEN".into()))]);
        assert!(matches!(match_secrets(&manifest(), &secrets), Err(BindError::Secret { .. })));
        let asks = |optional| Manifest {
            secrets: vec![SecretRequest { name: "token".into(), description: String::new(), optional }],
            ..manifest()
        };
        assert!(match_secrets(&asks(false), &secrets).is_ok());
        assert!(match_secrets(&asks(true), &secrets).is_ok());
        assert!(matches!(match_secrets(&asks(false), &BTreeMap::new()), Err(BindError::Secret { .. })));
        assert!(match_secrets(&asks(true), &BTreeMap::new()).is_ok());
    }
}
