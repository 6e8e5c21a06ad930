//! The Docker Engine, asked directly: what is really there.

use std::collections::HashMap;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::{
    DownloadFromContainerOptions, ListContainersOptions, ListVolumesOptions, RemoveContainerOptions,
    RemoveVolumeOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::TryStreamExt as _;

use crate::{provided, until};

/// The label that marks whose an object is.
pub const CONTROLLER: &str = "streamspace.controller";
/// The label that marks the session of a container.
pub const SESSION: &str = "streamspace.session_id";

/// The engine of the tests.
#[derive(Clone)]
pub struct Engine(pub Docker);

impl Engine {
    /// Connects to it.
    pub async fn connect() -> Option<Self> {
        Some(Self::at(&provided("STREAMSPACE_TEST_DOCKER")?).await.unwrap())
    }

    /// Connects to the engine behind a socket.
    pub async fn at(socket: &str) -> Result<Self, Error> {
        let client = Docker::connect_with_unix(socket, 60, API_DEFAULT_VERSION)?;
        Ok(Self(client.negotiate_version().await?))
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

    /// How often the program of a container's image has been started with the home that it has now: the image keeps
    /// count there. Works on stopped containers, too.
    pub async fn starts(&self, container: &str) -> Result<usize, Error> {
        /// What stands before the content of a file in a tar archive.
        const HEADER: usize = 512;
        const LINE: &[u8] = b"start\n";
        let options = DownloadFromContainerOptions { path: "/config/starts".to_owned() };
        let parts: Vec<_> = self.0.download_from_container(container, Some(options)).try_collect().await?;
        let archive = parts.concat();
        Ok(archive[HEADER..].windows(LINE.len()).filter(|line| *line == LINE).count())
    }

    /// Removes what a test may have left. The controller may be about to remove it, too.
    pub async fn clean(&self, controller: &str) {
        until("nothing is left", async || {
            for container in self.containers(controller).await {
                let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
                self.0
                    .remove_container(&container.id.unwrap(), Some(options))
                    .await
                    .or_else(by_another)
                    .unwrap();
            }
            for volume in self.volumes(controller).await {
                self.0.remove_volume(&volume, None::<RemoveVolumeOptions>).await.or_else(by_another).unwrap();
            }
            let left = self.containers(controller).await.len() + self.volumes(controller).await.len();
            (left == 0).then_some(())
        })
        .await;
    }
}

/// It is gone already, or is just being removed.
fn by_another(error: Error) -> Result<(), Error> {
    match error {
        Error::DockerResponseServerError { status_code: 404 | 409, .. } => Ok(()),
        error => Err(error),
    }
}

/// What a controller has made in an engine: removed with this value, also after a panic.
pub struct Leftovers {
    socket: String,
    controller: String,
}

impl Leftovers {
    /// Everything that this controller makes in the engine behind the socket.
    pub fn of(socket: &str, controller: &str) -> Self {
        Self { socket: socket.to_owned(), controller: controller.to_owned() }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let Self { socket, controller } = self;
        std::thread::scope(|scope| {
            // The test's own runtime cannot be waited for from within.
            let cleaning = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { Engine::at(socket).await.unwrap().clean(controller).await });
            });
            if cleaning.join().is_err() {
                eprintln!("warning: objects of the controller {controller} may be left in {socket}");
            }
        });
    }
}

fn of(controller: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{CONTROLLER}={controller}")])])
}

/// The text that a web server of a session answers.
pub async fn fetch(address: &str) -> reqwest::Result<String> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    client.get(format!("http://{address}/")).send().await?.error_for_status()?.text().await
}
