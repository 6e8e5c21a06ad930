//! The Docker Engine API for plugins: typed, marked and walled.

mod container;
mod convert;
mod endpoint;
mod events;
mod failure;
mod labels;
mod logs;
mod policy;
mod pull;
mod renamed;
mod storage;
mod usage;

use std::sync::Arc;

use streamspace_bindings::imports::docker::{
    Container, ContainerSpec, ContainerUsage, EngineInfo, EventPage, Host, Image, LogPage, LogQuery,
    NetworkOptions, Pull, Volume,
};
use streamspace_bindings::types::{Error, ErrorKind};

pub(crate) use self::endpoint::DockerEndpoint;
use super::audit::{Audit, Effect};
use super::deadline::{TimeIsOver, until};
use super::error;
use crate::call::CallState;

type Labels = Vec<(String, String)>;

/// What changes something in the engine. A pull is the host's own, and goes on by itself.
const CHANGES: &[&str] = &[
    "docker.volume-ensure",
    "docker.volume-remove",
    "docker.network-ensure",
    "docker.container-create",
    "docker.container-start",
    "docker.container-stop",
    "docker.container-remove",
    "docker.container-unpause",
];

impl CallState {
    /// The one way from a plugin to an engine: looks up the grant, runs the call, notes what became of it.
    async fn docker<T>(
        &mut self,
        operation: &'static str,
        endpoint: &str,
        object: &str,
        call: impl AsyncFnOnce(Arc<DockerEndpoint>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let effect = if CHANGES.contains(&operation) { Effect::Changes } else { Effect::Looks };
        let mut audit = Audit::begin((&self.context, &self.fence), operation, effect, endpoint, object);
        let result = match self.context.docker.get(endpoint) {
            Some(granted) => {
                async {
                    audit.sending()?;
                    // An engine that says nothing is not the plugin's fault, which has to be able to say so.
                    let result =
                        until(self.answer_by, call(Arc::clone(granted))).await.unwrap_or_else(|TimeIsOver| {
                            Err(error(ErrorKind::TimedOut, "the engine did not answer in time"))
                        });
                    if let Err(Error { kind: ErrorKind::Unavailable, .. }) = &result {
                        granted.forget();
                    }
                    result
                }
                .await
            }
            None => Err(error(
                ErrorKind::Denied,
                format!("no docker endpoint `{endpoint}` is granted to this plugin"),
            )),
        };
        audit.end(result.as_ref().map(|_| None));
        result
    }
}

impl Host for CallState {
    async fn engine_inspect(&mut self, endpoint: String) -> Result<EngineInfo, Error> {
        self.docker("docker.engine-inspect", &endpoint, "", async |engine| engine.inspect_engine().await)
            .await
    }

    async fn image_inspect(&mut self, endpoint: String, reference: String) -> Result<Image, Error> {
        self.docker("docker.image-inspect", &endpoint, &reference, async |engine| {
            engine.inspect_image(&reference).await
        })
        .await
    }

    async fn pull_start(
        &mut self,
        endpoint: String,
        reference: String,
        credential: Option<String>,
    ) -> Result<Pull, Error> {
        let login = match credential {
            Some(name) => self.registry_login(&name, &reference).await.map(Some),
            None => Ok(None),
        };
        self.docker("docker.pull-start", &endpoint, &reference, async |engine| {
            engine.start_pull(&reference, login?).await
        })
        .await
    }

    async fn pull_status(&mut self, endpoint: String, reference: String) -> Result<Pull, Error> {
        self.docker("docker.pull-status", &endpoint, &reference, async |engine| {
            engine.pull_status(&reference)
        })
        .await
    }

    async fn volume_ensure(
        &mut self,
        endpoint: String,
        name: String,
        labels: Labels,
    ) -> Result<Volume, Error> {
        self.docker("docker.volume-ensure", &endpoint, &name, async |engine| {
            engine.ensure_volume(&name, labels).await
        })
        .await
    }

    async fn volume_list(&mut self, endpoint: String, labels: Labels) -> Result<Vec<Volume>, Error> {
        self.docker("docker.volume-list", &endpoint, "", async |engine| engine.list_volumes(&labels).await)
            .await
    }

    async fn volume_remove(&mut self, endpoint: String, name: String) -> Result<(), Error> {
        self.docker("docker.volume-remove", &endpoint, &name, async |engine| {
            engine.remove_volume(&name).await
        })
        .await
    }

    async fn network_ensure(
        &mut self,
        endpoint: String,
        name: String,
        options: NetworkOptions,
    ) -> Result<(), Error> {
        self.docker("docker.network-ensure", &endpoint, &name, async |engine| {
            engine.ensure_network(&name, options).await
        })
        .await
    }

    async fn container_create(&mut self, endpoint: String, spec: ContainerSpec) -> Result<String, Error> {
        let name = spec.name.clone();
        self.docker("docker.container-create", &endpoint, &name, async |engine| {
            engine.create_container(spec).await
        })
        .await
    }

    async fn container_start(&mut self, endpoint: String, name: String) -> Result<(), Error> {
        self.docker("docker.container-start", &endpoint, &name, async |engine| {
            engine.start_container(&name).await
        })
        .await
    }

    async fn container_stop(&mut self, endpoint: String, name: String, timeout_s: u32) -> Result<(), Error> {
        self.docker("docker.container-stop", &endpoint, &name, async |engine| {
            engine.stop_container(&name, timeout_s).await
        })
        .await
    }

    async fn container_remove(&mut self, endpoint: String, name: String) -> Result<(), Error> {
        self.docker("docker.container-remove", &endpoint, &name, async |engine| {
            engine.remove_container(&name).await
        })
        .await
    }

    async fn container_unpause(&mut self, endpoint: String, name: String) -> Result<(), Error> {
        self.docker("docker.container-unpause", &endpoint, &name, async |engine| {
            engine.unpause_container(&name).await
        })
        .await
    }

    async fn container_stats(&mut self, endpoint: String, name: String) -> Result<ContainerUsage, Error> {
        self.docker("docker.container-stats", &endpoint, &name, async |engine| {
            engine.container_stats(&name).await
        })
        .await
    }

    async fn container_logs(
        &mut self,
        endpoint: String,
        name: String,
        query: LogQuery,
    ) -> Result<LogPage, Error> {
        self.docker("docker.container-logs", &endpoint, &name, async |engine| {
            engine.container_logs(&name, query).await
        })
        .await
    }

    async fn events(
        &mut self,
        endpoint: String,
        cursor: Option<String>,
        wait_ms: u32,
    ) -> Result<EventPage, Error> {
        self.docker("docker.events", &endpoint, "", async |engine| {
            engine.watch_events(cursor.as_deref(), wait_ms).await
        })
        .await
    }

    async fn container_inspect(&mut self, endpoint: String, name: String) -> Result<Container, Error> {
        self.docker("docker.container-inspect", &endpoint, &name, async |engine| {
            engine.inspect_container(&name).await
        })
        .await
    }

    async fn container_list(&mut self, endpoint: String, labels: Labels) -> Result<Vec<Container>, Error> {
        self.docker("docker.container-list", &endpoint, "", async |engine| {
            engine.list_containers(&labels).await
        })
        .await
    }
}
