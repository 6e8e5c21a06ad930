//! What the operator's configuration gives to a controller's plugin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::BindError;
use crate::files;
use crate::http_config::{CredentialConfig, HttpConfig, TlsConfig};
use crate::manifest::{EndpointKind, Manifest};

/// The target of one named endpoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "EndpointKeys")]
pub enum EndpointConfig {
    /// A Docker Engine: `unix:///path/to/docker.sock`, or `tcp://host:port` on the loopback interface.
    Docker(String),
    /// A server that is reached by HTTP.
    Http(Box<HttpConfig>),
}

impl EndpointConfig {
    /// The target for an endpoint of this kind, as a manifest's `default` gives it. None where this version of the
    /// host cannot serve the kind.
    pub fn of_kind(kind: EndpointKind, target: &str) -> Option<Self> {
        match kind {
            EndpointKind::Docker => Some(Self::Docker(target.to_owned())),
            EndpointKind::Http => Some(Self::Http(Box::new(HttpConfig::new(target)))),
            EndpointKind::Socket => None,
        }
    }

    fn kind(&self) -> EndpointKind {
        match self {
            Self::Docker(_) => EndpointKind::Docker,
            Self::Http(_) => EndpointKind::Http,
        }
    }
}

/// The keys of an endpoint as they stand in the configuration. Which of them belong together depends on the kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointKeys {
    docker: Option<String>,
    http: Option<String>,
    tls: Option<TlsConfig>,
    credential: Option<CredentialConfig>,
    cookies: Option<bool>,
    proxy: Option<String>,
    allow: Option<Vec<String>>,
    insecure: Option<bool>,
    http2: Option<bool>,
}

impl TryFrom<EndpointKeys> for EndpointConfig {
    type Error = String;

    fn try_from(keys: EndpointKeys) -> Result<Self, Self::Error> {
        let of_http = [
            ("tls", keys.tls.is_some()),
            ("credential", keys.credential.is_some()),
            ("cookies", keys.cookies.is_some()),
            ("proxy", keys.proxy.is_some()),
            ("allow", keys.allow.is_some()),
            ("insecure", keys.insecure.is_some()),
            ("http2", keys.http2.is_some()),
        ];
        match (keys.docker, keys.http) {
            (Some(_), Some(_)) => Err("an endpoint has either `docker` or `http`, not both".to_owned()),
            (None, None) => Err("an endpoint needs its target: `docker` or `http`".to_owned()),
            (Some(target), None) => match of_http.iter().find(|(_, given)| *given) {
                Some((key, _)) => Err(format!("`{key}` belongs to endpoints of kind `http`")),
                None => Ok(Self::Docker(target)),
            },
            (None, Some(url)) => Ok(Self::Http(Box::new(HttpConfig {
                url,
                tls: keys.tls,
                credential: keys.credential,
                cookies: keys.cookies.unwrap_or_default(),
                proxy: keys.proxy,
                allow: keys.allow,
                insecure: keys.insecure.unwrap_or_default(),
                http2: keys.http2.unwrap_or_default(),
            }))),
        }
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
    pub(crate) async fn read(&self) -> Result<String, String> {
        match self {
            Self::File(path) => {
                let failed = |reason: String| format!("the file {} cannot be read: {reason}", path.display());
                let bytes = files::read(path).await.map_err(|error| failed(error.to_string()))?;
                // The decoder's own message would have the value with it.
                let mut text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
                if text.ends_with('\n') {
                    text.pop();
                }
                Ok(text)
            }
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
            }
        }
    }
}

impl fmt::Display for EndpointConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker(target) => target,
            Self::Http(http) => &http.url,
        })
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
                allow: vec![],
            }],
            secrets: vec![],
            limits: Default::default(),
        }
    }

    fn granted(name: &str) -> BTreeMap<String, EndpointConfig> {
        BTreeMap::from([(name.to_owned(), EndpointConfig::Docker("unix:///x".into()))])
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

    fn read(toml: &str) -> Result<EndpointConfig, String> {
        toml::from_str(toml).map_err(|error| error.to_string())
    }

    #[test]
    fn an_endpoint_is_of_one_kind() {
        assert_eq!(read("docker = \"unix:///x\""), Ok(EndpointConfig::Docker("unix:///x".into())));
        for (toml, word) in [
            ("", "needs its target"),
            ("docker = \"unix:///x\"\nhttp = \"https://x\"", "not both"),
            ("docker = \"unix:///x\"\ncookies = true", "`cookies` belongs"),
            ("https = \"https://x\"", "unknown field `https`"),
            ("http = \"https://x\"\ntls = { sha1 = \"AB\" }", "unknown field `sha1`"),
            ("http = \"https://x\"\ncredential = { token = \"AB\" }", "unknown field `token`"),
        ] {
            let message = read(toml).unwrap_err();
            assert!(message.contains(word), "{toml}: {message}");
        }
    }

    #[test]
    fn an_http_endpoint_is_read_whole() {
        let read = read(
            r#"
            http = "https://pve:8006"
            tls = { sha256 = "AB:CD" }
            credential = { header = "Authorization", format = "PVEAPIToken={secret}", secret = { file = "/t" } }
            cookies = true
            allow = ["GET /api2/json/*"]
            "#,
        );
        let Ok(EndpointConfig::Http(http)) = read else { panic!("{read:?}") };
        assert_eq!(http.tls.unwrap().sha256.as_deref(), Some("AB:CD"));
        assert_eq!(http.credential.unwrap().secret, Some(SecretSource::File("/t".into())));
        assert!(http.cookies && !http.insecure && http.proxy.is_none());
    }
}
