//! Containers that somebody renamed: they stay what they are.
//!
//! A container is known by the name that it was made under, which it bears as a label. A container that somebody made
//! from a snapshot of ours (`docker commit`) bears that label as well, inherited from its image: it is nobody's session.

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::ListContainersOptions;
use streamspace_bindings::imports::docker::Container;
use streamspace_bindings::types::{Error, ErrorKind};

use super::endpoint::DockerEndpoint;
use super::failure::translate;
use super::{convert, policy};

impl DockerEndpoint {
    /// The container that was made under this name and has another one now.
    pub(super) async fn renamed(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        let named = vec![(policy::NAME_LABEL.to_owned(), name.to_owned())];
        let options = ListContainersOptions {
            all: true,
            filters: Some(policy::filters(&named, &self.controller)),
            ..Default::default()
        };
        for found in self.client().await?.list_containers(Some(options)).await.map_err(translate)? {
            if self.is_copy(found.image_id.as_deref(), name).await? {
                continue;
            }
            let id = found.id.unwrap_or_default();
            match self.client().await?.inspect_container(&id, None).await.map_err(translate) {
                Ok(found) => return Ok(Some(found)),
                // It went in between.
                Err(failure) if failure.kind == ErrorKind::NotFound => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    /// A listing in which every container has the name that it was made under, and no name stands twice.
    pub(super) async fn under_their_names(
        &self,
        found: Vec<ContainerSummary>,
    ) -> Result<Vec<Container>, Error> {
        let mut listed = Vec::new();
        let mut renamed = Vec::new();
        for summary in found {
            let given = policy::given_name(summary.labels.as_ref()).map(str::to_owned);
            let image = summary.image_id.clone();
            let container = convert::listed(summary);
            match given {
                Some(given) if given != container.name => {
                    renamed.push((image, Container { name: given, ..container }));
                }
                _ if policy::check_name(&container.name).is_ok() => listed.push(container),
                _ => {}
            }
        }
        for (image, container) in renamed {
            let taken = listed.iter().any(|other| other.name == container.name);
            if !taken && !self.is_copy(image.as_deref(), &container.name).await? {
                listed.push(container);
            }
        }
        Ok(listed)
    }

    /// Whether a container has this name from its image. One whose image is gone cannot be told: it is left alone.
    async fn is_copy(&self, image: Option<&str>, name: &str) -> Result<bool, Error> {
        let Some(image) = image else { return Ok(true) };
        match self.client().await?.inspect_image(image).await.map_err(translate) {
            Ok(found) => {
                let labels = found.config.and_then(|config| config.labels);
                Ok(policy::given_name(labels.as_ref()) == Some(name))
            }
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(true),
            Err(failure) => Err(failure),
        }
    }
}
