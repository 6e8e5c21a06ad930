//! Volumes and networks.

use std::collections::HashMap;

use bollard::models::{NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{ListNetworksOptions, ListVolumesOptions, RemoveVolumeOptions};
use streamspace_bindings::imports::docker::{NetworkOptions, Volume};
use streamspace_bindings::types::{Error, ErrorKind};

use super::endpoint::DockerEndpoint;
use super::failure::translate;
use super::{Labels, error, policy};

impl DockerEndpoint {
    pub(super) async fn ensure_volume(&self, name: &str, labels: Labels) -> Result<(), Error> {
        policy::check_name(name)?;
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(policy::marked(labels, &self.controller)?),
            ..Default::default()
        };
        // Making an existing volume succeeds and changes nothing, so the answer's labels tell whose it is.
        let volume = self.client().await?.create_volume(request).await.map_err(translate)?;
        self.expect_own_volume(name, &volume.labels)
    }

    /// That a volume exists and is ours.
    pub(super) async fn check_volume(&self, name: &str) -> Result<(), Error> {
        policy::check_name(name)?;
        let volume = self.client().await?.inspect_volume(name).await.map_err(translate)?;
        self.expect_own_volume(name, &volume.labels)
    }

    fn expect_own_volume(&self, name: &str, labels: &HashMap<String, String>) -> Result<(), Error> {
        if policy::is_ours(Some(labels), &self.controller) {
            return Ok(());
        }
        Err(error(ErrorKind::Conflict, format!("the volume `{name}` does not belong to this controller")))
    }

    pub(super) async fn list_volumes(&self, labels: &Labels) -> Result<Vec<Volume>, Error> {
        let options = ListVolumesOptions { filters: Some(policy::filters(labels, &self.controller)) };
        let found = self.client().await?.list_volumes(Some(options)).await.map_err(translate)?;
        let volumes = found.volumes.unwrap_or_default();
        Ok(volumes
            .into_iter()
            .map(|volume| Volume { name: volume.name, labels: volume.labels.into_iter().collect() })
            .collect())
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        match self.check_volume(name).await {
            Err(failure) if failure.kind == ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        let removed = self.client().await?.remove_volume(name, None::<RemoveVolumeOptions>).await;
        match removed.map_err(translate) {
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
            // In use by a container.
            Err(failure) if failure.kind == ErrorKind::Conflict => {
                Err(Error { kind: ErrorKind::FailedPrecondition, ..failure })
            }
            other => other,
        }
    }

    pub(super) async fn ensure_network(&self, name: &str, options: NetworkOptions) -> Result<(), Error> {
        policy::check_name(name)?;
        let _one_at_a_time = self.network_lock.lock().await;
        match self.check_network(name).await {
            Err(failure) if failure.kind == ErrorKind::NotFound => {}
            other => return other,
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(policy::marked(Vec::new(), &self.controller)?),
            options: Some(HashMap::from([(
                "com.docker.network.bridge.enable_icc".to_owned(),
                options.inter_container.to_string(),
            )])),
            ..Default::default()
        };
        self.client().await?.create_network(request).await.map_err(translate)?;
        Ok(())
    }

    /// That a network exists and bears the mark of a controller, of whichever: controllers of one engine share it.
    pub(super) async fn check_network(&self, name: &str) -> Result<(), Error> {
        policy::check_name(name)?;
        let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
        let options = ListNetworksOptions { filters: Some(filters) };
        let found = self.client().await?.list_networks(Some(options)).await.map_err(translate)?;
        // The engine's filter matches parts of names, too.
        let Some(network) = found.into_iter().find(|network| network.name.as_deref() == Some(name)) else {
            return Err(error(ErrorKind::NotFound, format!("there is no network `{name}`")));
        };
        if network.labels.is_some_and(|labels| labels.contains_key(policy::CONTROLLER_LABEL)) {
            return Ok(());
        }
        Err(error(ErrorKind::Conflict, format!("the network `{name}` was not made by a controller")))
    }
}
