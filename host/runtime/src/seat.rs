//! What a controller has, whichever plugin serves it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::backend::{Backend, BackendConfig};
use crate::call::Context;
use crate::capability::docker::DockerEndpoint;
use crate::capability::http::{HttpEndpoint, OpenInController};
use crate::capability::state::StateCache;
use crate::engine::Runtime;
use crate::error::BindError;
use crate::grants::{self, EndpointConfig};
use crate::instances::{Instances, Reservation};
use crate::limits::{Limits, MemoryBudget};
use crate::load::Plugin;
use crate::manifest::Manifest;
use crate::permits::Permits;
use crate::session_locks::SessionLocks;
use crate::turns::Turns;

/// Time for reading the files that an endpoint is configured with.
const FILES_TIME: Duration = Duration::from_secs(10);

/// A controller's place in the runtime: its grants and limits, and all that has to outlive the plugin which serves it.
///
/// One plugin after the other can be [bound](Self::bind) to it. A mutation that still runs in the one before holds its
/// session's lock for the next as well, both share the permits, and pulls under way and the cache are found again.
/// Cheap to clone.
#[derive(Clone)]
pub struct Seat {
    pub(crate) inner: Arc<SeatInner>,
}

pub(crate) struct SeatInner {
    config: BackendConfig,
    limits: Limits,
    docker: BTreeMap<String, Arc<DockerEndpoint>>,
    http_open: OpenInController,
    state: Arc<StateCache>,
    turns: Turns,
    memory: Arc<MemoryBudget>,
    pub(crate) permits: Permits,
    pub(crate) sessions: SessionLocks,
    pub(crate) instances: Reservation,
    /// Mutations under way, also those whose callers have gone.
    pub(crate) mutations: TaskTracker,
}

impl Seat {
    /// A seat for what the operator's configuration says of one controller.
    pub fn new(runtime: &Runtime, config: BackendConfig) -> Result<Self, BindError> {
        Self::among(&runtime.inner.instances, config)
    }

    pub(crate) fn among(instances: &Instances, mut config: BackendConfig) -> Result<Self, BindError> {
        if config.config.is_null() {
            config.config = Value::Object(Default::default());
        }
        let limits = Limits::granted(&config.limits);
        let mut docker = BTreeMap::new();
        for (name, target) in &config.endpoints {
            let EndpointConfig::Docker(target) = target else { continue };
            let endpoint = DockerEndpoint::new(target, &config.controller_id)
                .map_err(|reason| BindError::Endpoint { name: name.clone(), reason })?;
            docker.insert(name.clone(), Arc::new(endpoint));
        }
        let inner = SeatInner {
            limits,
            docker,
            http_open: OpenInController::default(),
            state: Arc::default(),
            turns: Turns::default(),
            memory: Arc::new(MemoryBudget::of_controller(limits)),
            permits: Permits::new(limits.calls),
            sessions: SessionLocks::default(),
            instances: instances.reserve(),
            mutations: TaskTracker::new(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Checks the grants against the manifest and the configuration against the plugin, and binds the plugin.
    pub async fn bind(&self, plugin: Plugin) -> Result<Backend, BindError> {
        let SeatInner { config, limits, .. } = self.inner.as_ref();
        let manifest = plugin.manifest();
        grants::match_endpoints(manifest, &config.endpoints)?;
        grants::match_secrets(manifest, &config.secrets)?;
        plugin.check_against_schema(&config.config).await?;
        if let Some((name, asked, granted)) = limits.exceeded_by(&manifest.limits) {
            return Err(BindError::Limit { name, asked, granted });
        }
        let http = self.http_endpoints(manifest).await?;
        let settings = config.config.to_string();
        plugin.validate_config(*limits, settings.clone()).await?;
        let context = Context {
            plugin: plugin.name().to_owned(),
            controller_id: config.controller_id.clone(),
            config: settings,
            limits: *limits,
            secrets: config.secrets.clone(),
            docker: self.inner.docker.clone(),
            http,
            state: Arc::clone(&self.inner.state),
            turns: self.inner.turns.clone(),
            memory: Arc::clone(&self.inner.memory),
            fence: config.fence.clone(),
        };
        Ok(Backend::on(self.clone(), plugin, context))
    }

    /// Waits until no mutation is under way, whichever plugin it began on. A mutation goes on when its caller has gone;
    /// whoever ends the process should wait for this, or it is given up half-way.
    pub async fn idle(&self) {
        // Closed is only what says that it may come to an end at all: tasks are still taken.
        self.inner.mutations.close();
        self.inner.mutations.wait().await;
    }

    /// What may be requested depends on what the plugin asks for: these are the plugin's own, and what it parked goes
    /// with it.
    async fn http_endpoints(
        &self,
        manifest: &Manifest,
    ) -> Result<BTreeMap<String, Arc<HttpEndpoint>>, BindError> {
        let mut endpoints = BTreeMap::new();
        for asked in &manifest.endpoints {
            if let Some(EndpointConfig::Http(target)) = self.inner.config.endpoints.get(&asked.name) {
                let endpoint = HttpEndpoint::new(asked, target, self.inner.http_open.clone());
                let endpoint = tokio::time::timeout(FILES_TIME, endpoint)
                    .await
                    .unwrap_or_else(|_| Err("its files cannot be read in time".to_owned()))
                    .map_err(|reason| BindError::Endpoint { name: asked.name.clone(), reason })?;
                endpoints.insert(asked.name.clone(), Arc::new(endpoint));
            }
        }
        Ok(endpoints)
    }
}
