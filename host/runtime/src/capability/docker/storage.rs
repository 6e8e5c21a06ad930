//! Volumes and networks.

use std::collections::HashMap;

use bollard::models::{Network, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{ListNetworksOptions, ListVolumesOptions, RemoveVolumeOptions};
use streamspace_bindings::imports::docker::{NetworkOptions, Volume};
use streamspace_bindings::types::{Error, ErrorKind};

use super::endpoint::DockerEndpoint;
use super::failure::translate;
use super::{Labels, error, labels, policy};

/// Option of a bridge that lets its containers talk to each other.
const INTER_CONTAINER: &str = "com.docker.network.bridge.enable_icc";

impl DockerEndpoint {
    pub(super) async fn ensure_volume(&self, name: &str, given: Labels) -> Result<Volume, Error> {
        policy::check_name(name)?;
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(policy::marked(given, &self.controller)?),
            ..Default::default()
        };
        // Making an existing volume succeeds and changes nothing, so the answer's labels tell whose it is.
        let volume = self.client().await?.create_volume(request).await.map_err(translate)?;
        self.expect_own_volume(name, &volume.labels)?;
        Ok(Volume { name: volume.name, labels: labels::told(volume.labels) })
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

    pub(super) async fn list_volumes(&self, wanted: &Labels) -> Result<Vec<Volume>, Error> {
        let options = ListVolumesOptions { filters: Some(policy::filters(wanted, &self.controller)) };
        let found = self.client().await?.list_volumes(Some(options)).await.map_err(translate)?;
        let volumes = found.volumes.unwrap_or_default();
        Ok(volumes
            .into_iter()
            .map(|volume| Volume { name: volume.name, labels: labels::told(volume.labels) })
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
        let wanted = options.inter_container.to_string();
        let is_windows = self.is_windows().await?;
        if self.our_networks(name).await?.is_empty() {
            let request = NetworkCreateRequest {
                name: name.to_owned(),
                driver: Some(if is_windows { "nat" } else { "bridge" }.to_owned()),
                labels: Some(policy::mark(&self.controller)),
                options: Some(HashMap::from([(INTER_CONTAINER.to_owned(), wanted.clone())])),
                ..Default::default()
            };
            self.client().await?.create_network(request).await.map_err(translate)?;
        }
        let mut found = self.our_networks(name).await?;
        // Names are not unique in the engine: another process may have made one in the same moment. All agree on the
        // smallest id; a network that somebody uses already cannot be removed, and is in nobody's way for long.
        found.sort_by(|a, b| a.id.cmp(&b.id));
        for extra in found.iter().skip(1) {
            let id = extra.id.as_deref().unwrap_or_default();
            if let Err(failure) = self.client().await?.remove_network(id).await.map_err(translate) {
                tracing::warn!(
                    network = name,
                    id,
                    error = failure.message,
                    "a second network of this name stays"
                );
            }
        }
        let options = found.into_iter().next().and_then(|network| network.options).unwrap_or_default();
        if options.get(INTER_CONTAINER).is_some_and(|value| *value == wanted) {
            return Ok(());
        }
        Err(error(
            ErrorKind::Conflict,
            format!("the network `{name}` exists with other options ({INTER_CONTAINER} is not {wanted})"),
        ))
    }

    /// That a network exists and was made by a controller, whichever: controllers of one engine share it.
    pub(super) async fn check_network(&self, name: &str) -> Result<(), Error> {
        if self.our_networks(name).await?.is_empty() {
            return Err(error(ErrorKind::NotFound, format!("there is no network `{name}`")));
        }
        Ok(())
    }

    /// All networks under this name. One that no controller made is a conflict.
    async fn our_networks(&self, name: &str) -> Result<Vec<Network>, Error> {
        policy::check_name(name)?;
        let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
        let options = ListNetworksOptions { filters: Some(filters) };
        let mut found = self.client().await?.list_networks(Some(options)).await.map_err(translate)?;
        // The engine's filter matches parts of names, too.
        found.retain(|network| network.name.as_deref() == Some(name));
        let ours = |network: &Network| {
            network.labels.as_ref().is_some_and(|labels| labels.contains_key(policy::CONTROLLER_LABEL))
        };
        if !found.iter().all(ours) {
            return Err(error(
                ErrorKind::Conflict,
                format!("the network `{name}` was not made by a controller"),
            ));
        }
        Ok(found)
    }
}
