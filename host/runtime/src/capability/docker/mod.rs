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
mod storage;
mod usage;

use std::sync::Arc;
use std::time::Instant;

use streamspace_bindings::imports::docker::{
    Container, ContainerSpec, ContainerUsage, EngineInfo, EventPage, Host, Image, LogPage, LogQuery,
    NetworkOptions, Pull, Volume,
};
use streamspace_bindings::types::{Error, ErrorKind};

pub(crate) use self::endpoint::DockerEndpoint;
use super::deadline::{TimeIsOver, until};
use super::error;
use crate::call::CallState;

type Labels = Vec<(String, String)>;

/// Notes a call that was given up half-way: the one case in which nobody knows what it did.
struct Unfinished<'a> {
    operation: &'static str,
    object: &'a str,
    armed: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.armed {
            let (operation, object) = (self.operation, self.object);
            // Whoever waits for lines or events may leave at any time.
            if matches!(operation, "docker.container-logs" | "docker.events") {
                tracing::debug!(operation, object, "host call given up");
            } else {
                tracing::warn!(operation, object, "host call given up; its effect is unknown");
            }
        }
    }
}

/// Enough of a name to know it again; a plugin may call an object anything, at any length.
fn beginning(name: &str) -> &str {
    const ENOUGH: usize = 256;
    let mut end = name.len().min(ENOUGH);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

impl CallState {
    /// The one way from a plugin to an engine: looks up the grant, runs the call, notes what became of it.
    async fn docker<T>(
        &mut self,
        operation: &'static str,
        endpoint: &str,
        object: &str,
        call: impl AsyncFnOnce(Arc<DockerEndpoint>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let object = beginning(object);
        let granted = self.context.docker.get(endpoint);
        let mut unfinished = Unfinished { operation, object, armed: granted.is_some() };
        let result = match granted {
            // An engine that says nothing is not the plugin's fault, which has to be able to say so.
            Some(granted) => match until(self.answer_by, call(Arc::clone(granted))).await {
                Ok(result) => {
                    unfinished.armed = false;
                    result
                }
                Err(TimeIsOver) => Err(error(ErrorKind::TimedOut, "the engine did not answer in time")),
            },
            None => Err(error(
                ErrorKind::Denied,
                format!("no docker endpoint `{endpoint}` is granted to this plugin"),
            )),
        };
        if let (Some(engine), Err(Error { kind: ErrorKind::Unavailable, .. })) = (granted, &result) {
            engine.forget();
        }
        streamspace_failpoint::hit(operation);
        let (plugin, controller) = (self.context.plugin.as_str(), self.context.controller_id.as_str());
        let elapsed_us = started.elapsed().as_micros() as u64;
        match &result {
            Ok(_) => {
                tracing::debug!(plugin, controller, endpoint, operation, object, elapsed_us, "host call")
            }
            Err(failure) => tracing::debug!(
                plugin, controller, endpoint, operation, object, elapsed_us,
                error.kind = ?failure.kind, error.message = failure.message, "host call failed"
            ),
        }
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
        let login = credential.map(|name| self.registry_login(&name, &reference)).transpose();
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
