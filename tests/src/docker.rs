//! The Docker Engine, asked directly: what is really there.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{
    ListContainersOptions, ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};

use crate::provided;

/// The label that marks whose an object is.
pub const CONTROLLER: &str = "streamspace.controller";

/// The engine of the tests.
#[derive(Clone)]
pub struct Engine(pub Docker);

impl Engine {
    /// Connects to it.
    pub async fn connect() -> Option<Self> {
        let socket = provided("STREAMSPACE_TEST_DOCKER")?;
        let client = Docker::connect_with_unix(&socket, 60, API_DEFAULT_VERSION).unwrap();
        Some(Self(client.negotiate_version().await.unwrap()))
    }

    /// All containers of a controller, running or not.
    pub async fn containers(&self, controller: &str) -> Vec<ContainerSummary> {
        let options =
            ListContainersOptions { all: true, filters: Some(of(controller)), ..Default::default() };
        self.0.list_containers(Some(options)).await.unwrap()
    }

    /// Names of all volumes of a controller.
    pub async fn volumes(&self, controller: &str) -> Vec<String> {
        let options = ListVolumesOptions { filters: Some(of(controller)) };
        let found = self.0.list_volumes(Some(options)).await.unwrap();
        found.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect()
    }

    /// One container.
    pub async fn inspect(&self, name: &str) -> ContainerInspectResponse {
        self.0.inspect_container(name, None).await.unwrap()
    }

    /// Whether there is a container under this name.
    pub async fn exists(&self, name: &str) -> bool {
        self.0.inspect_container(name, None).await.is_ok()
    }

    /// Removes what a test may have left.
    pub async fn clean(&self, controller: &str) {
        for container in self.containers(controller).await {
            let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
            self.0.remove_container(&container.id.unwrap(), Some(options)).await.unwrap();
        }
        for volume in self.volumes(controller).await {
            self.0.remove_volume(&volume, None::<RemoveVolumeOptions>).await.unwrap();
        }
    }
}

fn of(controller: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{CONTROLLER}={controller}")])])
}

/// The text that a web server of a session answers.
pub async fn fetch(address: &str) -> String {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(format!("http://{address}/"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}
