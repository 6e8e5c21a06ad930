//! Probes a controller for as long as it is attached.

use std::sync::Arc;
use std::time::Duration;

use streamspace_call_auth::Refusal;
use streamspace_proto::controller::v1 as proto;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::{CallError, ControllerClient, Standing};
use crate::domain::{Capabilities, Capacity, ControllerId, ControllerStatus, now, shortened};
use crate::store::{ProbeRecord, Store};

/// A controller that is not well is looked at again sooner than the interval says.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How long the answer to a registration may be on its way.
const TO_BE_REGISTERED: Duration = Duration::from_secs(3);

/// How often, how long, how many.
#[derive(Debug, Clone)]
pub(crate) struct ProbeLimits {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) offline_after: u32,
}

/// What the last probe of a controller found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) status: ControllerStatus,
    /// Why it is not healthy.
    pub(crate) message: String,
}

impl Health {
    pub(crate) fn is_good(&self) -> bool {
        self.status == ControllerStatus::Healthy
    }
}

pub(super) struct Prober {
    pub(super) id: ControllerId,
    pub(super) controller_type: String,
    pub(super) client: ControllerClient,
    pub(super) standing: Arc<Standing>,
    pub(super) store: Arc<dyn Store>,
    pub(super) limits: ProbeLimits,
    /// Hears of every change of status, and of the first one.
    pub(super) events: mpsc::UnboundedSender<ControllerId>,
    /// Absent until the first probe has ended.
    pub(super) health: watch::Sender<Option<Health>>,
    /// The pause between two probes ends when this is notified.
    pub(super) now: Arc<Notify>,
    /// Wakes whoever places sessions.
    pub(super) wake: Arc<Notify>,
}

impl Prober {
    #[tracing::instrument(name = "probe", skip_all, fields(controller = %self.id))]
    pub(super) async fn run(self) {
        // Before the first success a controller was never there, so the first failure already says offline.
        let mut failures = self.limits.offline_after.saturating_sub(1);
        let mut retry = FIRST_RETRY;
        loop {
            let found = self.probe(&mut failures).await;
            let status = found.status;
            // A healthy controller may say something else every time; that is no news.
            let message =
                if status == ControllerStatus::Healthy { String::new() } else { found.message.clone() };
            // What another server finds that drives it is what counts.
            if self.standing.epoch().is_some() {
                match self.store.record_probe(&self.id, found).await {
                    Ok(true) => self.wake.notify_one(),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%error, "the result of a probe was not stored"),
                }
            }
            let known = self.health.send_replace(Some(Health { status, message: message.clone() }));
            if known.as_ref().map(|known| known.status) != Some(status) {
                tracing::info!(status = status.as_str(), message, "controller");
                let _ = self.events.send(self.id.clone());
            } else if known.is_some_and(|known| known.message != message) {
                tracing::info!(message, "controller");
            }
            let pause = if status == ControllerStatus::Healthy {
                retry = FIRST_RETRY;
                self.limits.interval
            } else {
                let pause = retry.min(self.limits.interval);
                retry = retry.saturating_mul(2);
                pause
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.now.notified() => retry = FIRST_RETRY,
            }
        }
    }

    async fn probe(&self, failures: &mut u32) -> ProbeRecord {
        let at = now();
        let health = match self.health_check().await {
            Ok(health) => health,
            Err(error) => {
                *failures = failures.saturating_add(1);
                if *failures < self.limits.offline_after {
                    return self.found(ControllerStatus::Unhealthy, said(&error), None, false, at);
                }
                if self.is_heard_of().await {
                    let message = format!("it gives signs of life, but cannot be called: {}", said(&error));
                    return self.found(ControllerStatus::Unhealthy, message, None, false, at);
                }
                return self.found(ControllerStatus::Offline, said(&error), None, false, at);
            }
        };
        *failures = 0;
        let capabilities = match self.client.capabilities(self.limits.timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                let message = format!("capabilities: {}", said(&error));
                return self.found(ControllerStatus::Unhealthy, message, None, true, at);
            }
        };
        if !capabilities.controller_type.is_empty() && capabilities.controller_type != self.controller_type {
            let message = format!(
                "registered as type {:?}, but says that it is {:?}",
                self.controller_type, capabilities.controller_type
            );
            return self.found(ControllerStatus::Unhealthy, message, None, true, at);
        }
        let capabilities = Some(read_capabilities(capabilities));
        if health.status == "healthy" {
            return self.found(ControllerStatus::Healthy, health.message, capabilities, true, at);
        }
        let message =
            if health.message.is_empty() { "says that it is unhealthy".into() } else { health.message };
        self.found(ControllerStatus::Unhealthy, message, capabilities, true, at)
    }

    /// Asks how it does. A remote controller is asked at once when it registers, maybe before it has the answer to that, and
    /// so before it knows whom to answer.
    async fn health_check(&self) -> Result<proto::HealthCheckResponse, CallError> {
        let begun = Instant::now();
        loop {
            let answer = self.client.health_check(self.limits.timeout).await;
            let too_early =
                answer.as_ref().is_err_and(|error| error.reason == Refusal::NotRegistered.reason());
            if !too_early || begun.elapsed() > TO_BE_REGISTERED {
                return answer;
            }
            tokio::time::sleep(TO_BE_REGISTERED / 30).await;
        }
    }

    /// Whether the controller says by itself that it lives. One within a server never does.
    async fn is_heard_of(&self) -> bool {
        let heard = self.store.is_heard_of(&self.id).await;
        heard.inspect_err(|error| tracing::debug!(%error, "whether it lives is not known")).unwrap_or(false)
    }

    fn found(
        &self,
        status: ControllerStatus,
        message: String,
        capabilities: Option<Capabilities>,
        answered: bool,
        at: chrono::DateTime<chrono::Utc>,
    ) -> ProbeRecord {
        let message = shortened(&message);
        ProbeRecord { status, message, capabilities, answered, at }
    }
}

fn said(error: &CallError) -> String {
    format!("{}: {}", error.reason, error.message)
}

fn read_capabilities(answer: proto::CapabilitiesResponse) -> Capabilities {
    let capacity = answer.capacity.unwrap_or_default();
    Capabilities {
        version: answer.version,
        supports_hibernation: answer.supports_hibernation,
        supports_gpu: answer.supports_gpu,
        supports_persistent_storage: answer.supports_persistent_storage,
        supports_networking: answer.supports_networking,
        supports_watch: answer.supports_watch,
        capacity: Capacity {
            max_sessions: u32::try_from(capacity.max_sessions).unwrap_or(0),
            total_memory: capacity.total_memory,
            total_cpu: capacity.total_cpu,
            total_storage: capacity.total_storage,
            available_memory: capacity.available_memory,
            available_cpu: capacity.available_cpu,
            available_storage: capacity.available_storage,
        },
        labels: answer.labels.into_iter().collect(),
    }
}
