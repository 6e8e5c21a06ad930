//! What a process of a controller serves with, once it knows which controller it is.

use std::sync::Arc;
use std::time::Duration;

use streamspace_call_auth::{Jwks, Trust};
use streamspace_runtime::{Backend, BackendConfig, BindError, CallError, Fence, Plugin};
use tokio::sync::Notify;

use super::messages::Role;
use crate::high_water::HighWater;
use crate::slot::Slot;
use crate::tenure::{Moment, Tenure};

/// After a plugin that could not say in time whether it takes its configuration.
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// A slot, and what is put into it.
pub struct Place {
    plugin: Plugin,
    config: BackendConfig,
    slot: Arc<Slot>,
    high_water: HighWater,
    tenure: Tenure,
    trust: Arc<Trust>,
    taken: Arc<Notify>,
    /// The controller that is served.
    controller_id: Option<String>,
}

impl Place {
    /// For a plugin with a configuration, whose controller is not known yet. The slot is filled, calls are fenced, trusted
    /// and held back as the API server says; whoever wants to know when is notified.
    pub fn new(
        plugin: Plugin,
        config: BackendConfig,
        slot: Arc<Slot>,
        (high_water, tenure): (HighWater, Tenure),
        trust: Arc<Trust>,
        taken: Arc<Notify>,
    ) -> Self {
        Self { plugin, config, slot, high_water, tenure, trust, taken, controller_id: None }
    }

    pub(super) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Which process of the controller this is.
    pub(super) fn serves_as(&self, instance: &str) {
        self.trust.serves_as(instance);
    }

    /// What this process is to the controller, by the answer to what was sent then.
    pub(super) fn assume(&self, role: Role, sent: Moment, lease: Duration) {
        match role {
            Role::Active => self.tenure.prolong(sent, lease),
            Role::Standby => self.tenure.yield_to_another(),
        }
    }

    /// Begins nothing new, and returns when nothing is under way any more that changes anything.
    pub(super) fn wind_up(&self) -> impl Future<Output = ()> + use<> {
        self.tenure.begin_to_end();
        let slot = Arc::clone(&self.slot);
        async move { slot.idle().await }
    }

    /// What is still under way changes nothing any more.
    pub(super) fn abandon(&self) {
        self.tenure.yield_to_another();
    }

    /// Serves a controller from now on. Nothing changes if it is the one that is served already, but for what holds of
    /// its callers.
    pub(super) async fn serve(
        &mut self,
        controller_id: &str,
        epoch: u64,
        keys: &Jwks,
    ) -> Result<(), BindError> {
        if self.controller_id.as_deref() != Some(controller_id) {
            if let Some(before) = self.controller_id.take() {
                tracing::warn!(
                    before,
                    controller = controller_id,
                    "the API server knows this controller under another id: what was made under the old one stays where it is"
                );
                self.slot.vacate("the controller is bound to another id");
            }
            // Before it is bound: its fence asks this.
            self.high_water.begin_at(epoch);
            let backend = self.bind(controller_id).await?;
            self.slot.replace(backend);
            self.controller_id = Some(controller_id.to_owned());
            self.taken.notify_one();
        }
        self.trust(epoch, keys);
        // Last: with it calls are let in.
        self.trust.registered_as(controller_id);
        Ok(())
    }

    /// Which epoch has come, and whose calls to take.
    pub(super) fn trust(&self, epoch: u64, keys: &Jwks) {
        self.high_water.raise(epoch);
        self.trust.replace_keys(keys);
    }

    async fn bind(&self, controller_id: &str) -> Result<Backend, BindError> {
        let (high_water, tenure) = (self.high_water.clone(), self.tenure.clone());
        let config = BackendConfig {
            controller_id: controller_id.to_owned(),
            fence: Fence::new(move |epoch| tenure.holds() && high_water.admits(epoch)),
            ..self.config.clone()
        };
        loop {
            match Backend::bind(self.plugin.clone(), config.clone()).await {
                Err(BindError::Call(error @ (CallError::TimedOut(_) | CallError::Busy(_)))) => {
                    tracing::warn!(%error, "the plugin is not bound yet");
                    tokio::time::sleep(BIND_AGAIN).await;
                }
                bound => return bound,
            }
        }
    }
}
