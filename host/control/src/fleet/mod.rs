//! The controllers that this process can call.

mod call;
mod metrics;
mod probe;
mod reply;
mod standing;
mod ways;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::BoxCloneSyncService;

use crate::domain::{ControllerId, Epoch};
use crate::presence::Term;
use crate::store::Store;

pub(crate) use call::{CallError, ControllerClient};
pub(crate) use metrics::CallMetrics;
pub(crate) use probe::{Health, ProbeLimits};
pub(crate) use reply::{Observation, Progress, Readiness, Reply};
pub(crate) use standing::Standing;

/// How control calls a controller: any HTTP service that speaks gRPC. The generated server itself is one (in
/// memory, no socket), a channel to another machine is another, and control cannot tell them apart.
pub type ControllerTransport =
    BoxCloneSyncService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, tower::BoxError>;

struct Attached {
    client: ControllerClient,
    standing: Arc<Standing>,
    /// What the last probe found; absent until the first one has ended.
    health: watch::Receiver<Option<Health>>,
    /// Asks for the next probe before its time.
    probe_now: Arc<Notify>,
    stop: CancellationToken,
}

/// All attached controllers.
pub(crate) struct Fleet {
    attached: RwLock<HashMap<ControllerId, Attached>>,
    /// Also of controllers that are about to be attached.
    standings: Mutex<HashMap<ControllerId, Arc<Standing>>>,
    /// Calls at once that somebody granted, whether the controller is attached or not.
    calls_at_once: RwLock<HashMap<ControllerId, u32>>,
    limits: ProbeLimits,
    tasks: TaskTracker,
    stop: CancellationToken,
    events: tokio::sync::mpsc::UnboundedSender<ControllerId>,
    /// Wakes whoever places sessions.
    wake: Arc<Notify>,
    metrics: CallMetrics,
}

impl Fleet {
    pub(crate) fn new(
        limits: ProbeLimits,
        stop: CancellationToken,
        events: tokio::sync::mpsc::UnboundedSender<ControllerId>,
        wake: Arc<Notify>,
        metrics: CallMetrics,
    ) -> Self {
        Self {
            attached: RwLock::default(),
            standings: Mutex::default(),
            calls_at_once: RwLock::default(),
            limits,
            tasks: TaskTracker::new(),
            stop,
            events,
            wake,
            metrics,
        }
    }

    /// Makes a controller callable and starts to probe it. One that is attached already is replaced.
    pub(crate) fn attach(
        &self,
        id: ControllerId,
        controller_type: String,
        transport: ControllerTransport,
        store: Arc<dyn Store>,
    ) {
        let standing = self.standing(&id);
        let client = ControllerClient::new(transport, self.metrics.of(&id));
        let (sender, health) = watch::channel(None);
        let stop = self.stop.child_token();
        let probe_now = Arc::new(Notify::new());
        let prober = probe::Prober {
            id: id.clone(),
            controller_type,
            client: client.clone(),
            standing: Arc::clone(&standing),
            store,
            limits: self.limits.clone(),
            events: self.events.clone(),
            health: sender,
            now: Arc::clone(&probe_now),
            wake: Arc::clone(&self.wake),
        };
        let stopped = stop.clone();
        self.tasks.spawn(async move {
            stopped.run_until_cancelled(prober.run()).await;
        });
        let earlier = self.write().insert(id, Attached { client, standing, health, probe_now, stop });
        if let Some(earlier) = earlier {
            earlier.stop.cancel();
        }
    }

    /// Forgets a controller and stops probing it.
    pub(crate) fn detach(&self, id: &ControllerId) {
        self.calls_at_once.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(gone) = self.write().remove(id) {
            gone.stop.cancel();
        }
    }

    /// Grants a controller so many calls at once.
    pub(crate) fn limit_calls(&self, id: ControllerId, calls: u32) {
        self.calls_at_once.write().unwrap_or_else(PoisonError::into_inner).insert(id, calls);
    }

    /// How many calls at once a controller was granted, if anybody said.
    pub(crate) fn calls_at_once(&self, id: &ControllerId) -> Option<u32> {
        self.calls_at_once.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    /// The client of an attached controller, for calls that only look.
    pub(crate) fn client(&self, id: &ControllerId) -> Option<ControllerClient> {
        self.read().get(id).map(|attached| attached.client.clone())
    }

    /// The client of a controller that this server drives: what it changes is changed under the present epoch.
    pub(crate) fn driven(&self, id: &ControllerId) -> Option<ControllerClient> {
        let attached = self.read();
        let attached = attached.get(id)?;
        Some(attached.client.under(attached.standing.epoch()?))
    }

    /// The client of an attached controller for what was claimed under an epoch; none, if that is over.
    pub(crate) fn driven_under(&self, id: &ControllerId, epoch: Epoch) -> Option<ControllerClient> {
        self.driven(id).filter(|client| client.epoch() == epoch)
    }

    /// Whether this server drives a controller, also one that is not attached yet.
    pub(crate) fn standing(&self, id: &ControllerId) -> Arc<Standing> {
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(standings.entry(id.clone()).or_default())
    }

    /// The controllers that this server could drive.
    pub(crate) fn attached(&self) -> Vec<ControllerId> {
        self.read().keys().cloned().collect()
    }

    /// This server drives a controller from now on. Whoever watches over it begins anew.
    pub(crate) fn take_charge(&self, id: &ControllerId, epoch: Epoch, term: Arc<Term>) {
        self.standing(id).take_charge(epoch, term);
        self.probe_now(id);
        // Nobody is told any more when the server ends.
        let _ = self.events.send(id.clone());
    }

    /// This server does not drive a controller any more.
    pub(crate) fn stand_down_from(&self, id: &ControllerId) {
        self.standing(id).stand_down();
    }

    /// This server drives nothing any more.
    pub(crate) fn stand_down(&self) {
        let standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        standings.values().for_each(|standing| standing.stand_down());
    }

    /// What the last probe of an attached controller found.
    pub(crate) fn health(&self, id: &ControllerId) -> Option<Health> {
        self.read().get(id)?.health.borrow().clone()
    }

    /// Probes an attached controller at once: somebody knows that it has changed.
    pub(crate) fn probe_now(&self, id: &ControllerId) {
        if let Some(attached) = self.read().get(id) {
            attached.probe_now.notify_one();
        }
    }

    /// Returns when every attached controller has been probed once, or when the time is up.
    pub(crate) async fn first_probes(&self, limit: Duration) {
        let waiting: Vec<_> = self.read().values().map(|attached| attached.health.clone()).collect();
        let all = async {
            for mut health in waiting {
                // An error means that the prober is gone: nothing to wait for.
                let _ = health.wait_for(Option::is_some).await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }

    /// Stops all probes.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<ControllerId, Attached>> {
        self.attached.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<ControllerId, Attached>> {
        self.attached.write().unwrap_or_else(PoisonError::into_inner)
    }
}
