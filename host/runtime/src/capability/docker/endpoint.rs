//! One engine that the operator granted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use streamspace_bindings::imports::docker::{EngineInfo, ExposedPort, Image};
use streamspace_bindings::types::{Error, ErrorKind};
use tokio::sync::OnceCell;

use super::convert;
use super::error;
use super::events::Events;
use super::failure::translate;
use super::pull::Pulls;
use super::{labels, policy};
use crate::capability::deadline::{TimeIsOver, until};

/// Longest wait for an answer's head. Stopping a container answers after its grace period; the call's own time limit
/// is the shorter one in all other cases.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Unix(String),
    /// `host:port`, on the loopback interface.
    Tcp(String),
}

/// A named engine: how to reach it, whose marks to use, and what outlives a call.
pub(crate) struct DockerEndpoint {
    target: Target,
    known: Mutex<Arc<Known>>,
    pub(super) controller: String,
    pub(super) pulls: Pulls,
    pub(super) events: Events,
    /// Network names are not unique in the engine: one look-then-make at a time.
    pub(super) network_lock: tokio::sync::Mutex<()>,
}

/// What was found out about the engine, as long as it is the same one.
#[derive(Default)]
struct Known {
    /// With the version of the API that both sides know.
    client: OnceCell<Docker>,
    is_windows: OnceCell<bool>,
}

impl DockerEndpoint {
    /// Takes a target from the configuration; does not connect.
    pub(crate) fn new(target: &str, controller: &str) -> Result<Self, String> {
        Ok(Self {
            target: parse_target(target)?,
            known: Mutex::default(),
            controller: controller.to_owned(),
            pulls: Pulls::default(),
            events: Events::default(),
            network_lock: tokio::sync::Mutex::default(),
        })
    }

    /// The client, which connects anew for every request.
    pub(super) async fn client(&self) -> Result<Docker, Error> {
        let known = self.known();
        known.client.get_or_try_init(|| self.connect()).await.cloned().map_err(translate)
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what was found out. An engine that was away may have come back as another version, which does not have
    /// to take the requests of before.
    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    async fn connect(&self) -> Result<Docker, bollard::errors::Error> {
        let timeout = ANSWER_TIMEOUT.as_secs();
        let client = match &self.target {
            Target::Unix(path) => Docker::connect_with_unix(path, timeout, API_DEFAULT_VERSION)?,
            Target::Tcp(address) => Docker::connect_with_http(address, timeout, API_DEFAULT_VERSION)?,
        };
        client.negotiate_version().await
    }

    /// Whether it runs Windows containers, which lack much of what others have.
    pub(super) async fn is_windows(&self) -> Result<bool, Error> {
        let ask = async || {
            let version = self.client().await?.version().await.map_err(translate)?;
            Ok(version.os.as_deref() == Some("windows"))
        };
        self.known().is_windows.get_or_try_init(ask).await.copied()
    }

    pub(super) async fn inspect_engine(&self) -> Result<EngineInfo, Error> {
        let client = self.client().await?;
        let info = client.info().await.map_err(translate)?;
        Ok(convert::engine_info(info, client.client_version().to_string()))
    }

    /// That a container can be made from an image.
    pub(super) async fn check_image(&self, reference: &str) -> Result<(), Error> {
        let reference = policy::normal_reference(reference)?;
        let image = self.client().await?.inspect_image(&reference).await.map_err(translate)?;
        let given = image.config.and_then(|config| config.labels).unwrap_or_default();
        labels::check_image(&reference, &given)
    }

    pub(super) async fn inspect_image(&self, reference: &str) -> Result<Image, Error> {
        let reference = policy::normal_reference(reference)?;
        let image = self.client().await?.inspect_image(&reference).await.map_err(translate)?;
        let exposed = image.config.and_then(|config| config.exposed_ports).unwrap_or_default();
        Ok(Image {
            id: image.id.unwrap_or_default(),
            size_bytes: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            exposed_ports: exposed
                .iter()
                .filter_map(|port| convert::exposed_port(port))
                .collect::<Vec<ExposedPort>>(),
            ext: Vec::new(),
        })
    }
}

fn parse_target(target: &str) -> Result<Target, String> {
    if let Some(path) = target.strip_prefix("unix://") {
        return match path.starts_with('/') {
            true => Ok(Target::Unix(path.to_owned())),
            false => {
                Err(format!("docker: `{target}` needs an absolute path, like unix:///var/run/docker.sock"))
            }
        };
    }
    let Some(address) = target.strip_prefix("tcp://") else {
        return Err(format!("docker: `{target}` is neither unix:///path nor tcp://host:port"));
    };
    let loopback = match address.rsplit_once(':') {
        Some(("localhost", port)) => port.parse::<u16>().is_ok(),
        _ => address.parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().is_loopback()),
    };
    if !loopback {
        return Err(format!(
            "docker: `{target}` is not on the loopback interface: whoever can read that connection owns the machine"
        ));
    }
    Ok(Target::Tcp(address.to_owned()))
}

impl crate::call::CallState {
    /// Reads the login for an image's registry. A plugin that names an image elsewhere does not get it sent there.
    pub(super) async fn registry_login(
        &mut self,
        name: &str,
        reference: &str,
    ) -> Result<bollard::auth::DockerCredentials, Error> {
        #[derive(serde::Deserialize)]
        struct Login {
            registry: String,
            username: String,
            password: String,
        }
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Logins {
            One(Login),
            Many(Vec<Login>),
        }
        let Some(source) = self.context.secrets.get(name) else {
            return Err(error(ErrorKind::Denied, format!("no secret `{name}` is granted")));
        };
        let broken = |reason: String| {
            error(ErrorKind::FailedPrecondition, format!("the secret `{name}` cannot be used: {reason}"))
        };
        let read = until(self.answer_by, source.read()).await;
        let read = read.unwrap_or_else(|TimeIsOver| Err("reading it takes too long".to_owned()));
        let text = read.map_err(broken)?;
        let logins = match serde_json::from_str(&text) {
            Ok(Logins::One(login)) => vec![login],
            Ok(Logins::Many(logins)) => logins,
            // The parser's own message could quote the value.
            Err(_) => return Err(broken("it is not JSON with registry, username and password".to_owned())),
        };
        let registry = policy::registry(reference);
        let Some(login) = logins.into_iter().find(|login| login.registry == registry) else {
            let message = format!("the secret `{name}` is not for the registry {registry}");
            return Err(error(ErrorKind::Denied, message));
        };
        Ok(bollard::auth::DockerCredentials {
            username: Some(login.username),
            password: Some(login.password),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_a_socket_or_the_loopback() {
        assert_eq!(parse_target("unix:///run/docker.sock").unwrap(), Target::Unix("/run/docker.sock".into()));
        assert_eq!(parse_target("tcp://127.0.0.1:2375").unwrap(), Target::Tcp("127.0.0.1:2375".into()));
        assert_eq!(parse_target("tcp://[::1]:2375").unwrap(), Target::Tcp("[::1]:2375".into()));
        for target in ["unix://docker.sock", "tcp://10.0.0.1:2375", "tcp://localhost", "/run/docker.sock", ""]
        {
            assert!(parse_target(target).is_err(), "{target}");
        }
    }
}
