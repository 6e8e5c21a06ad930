//! Drives every session to its wish: claim, call, record.

mod backoff;
#[cfg(test)]
mod model;
mod outcome;
mod step;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::ControlConfig;
use crate::changes::Changes;
use crate::domain::{Controller, ControllerId, SessionId, now};
use crate::fleet::Fleet;
use crate::presence::{Presence, Term};
use crate::store::{ClaimRequest, Claimed, Claims, Store, StoreError};

/// Even if nothing wakes it the reconciler looks so often: a lease may have run out.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// After a failure of the database.
const DATABASE_RETRY: Duration = Duration::from_secs(1);
/// A claim holds so much longer than the call may take: the outcome has to be stored as well.
const LEASE_MARGIN: Duration = Duration::from_secs(20);
/// Sessions without a controller that are placed at once.
pub(crate) const PLACEMENTS: u32 = 32;

/// The loop's view of the rest of the server.
pub(crate) struct Reconciler {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) config: Arc<ControlConfig>,
    pub(crate) presence: Arc<Presence>,
}

/// Calls under way, by controller.
#[derive(Default)]
struct InFlight {
    tasks: JoinSet<()>,
    work_of: HashMap<Id, (SessionId, Option<ControllerId>)>,
    counts: HashMap<Option<ControllerId>, u32>,
}

impl InFlight {
    fn start(&mut self, reconciler: &Arc<Reconciler>, claimed: Claimed, term: Arc<Term>) {
        let queue = claimed.session.controller_id().cloned();
        let session = claimed.session.id.clone();
        let reconciler = Arc::clone(reconciler);
        let handle = self.tasks.spawn(async move { reconciler.step(claimed, &term).await });
        *self.counts.entry(queue.clone()).or_default() += 1;
        self.work_of.insert(handle.id(), (session, queue));
    }

    /// Returns when a call has ended; never, if there is none.
    async fn ended(&mut self) {
        let ended = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                // Its lease runs out, and the step is made again.
                tracing::error!(%error, "a step ended without recording anything");
                error.id()
            }
            None => return std::future::pending().await,
        };
        if let Some((_, queue)) = self.work_of.remove(&ended)
            && let Some(count) = self.counts.get_mut(&queue)
        {
            *count = count.saturating_sub(1);
        }
    }

    fn sessions(&self) -> HashSet<SessionId> {
        self.work_of.values().map(|(session, _)| session.clone()).collect()
    }

    fn room(&self, queue: &Option<ControllerId>, limit: u32) -> u32 {
        limit.saturating_sub(self.counts.get(queue).copied().unwrap_or(0))
    }
}

impl Reconciler {
    /// Works until it is stopped, then lets the calls under way end and be recorded.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut in_flight = InFlight::default();
        loop {
            let sleep = if stop.is_cancelled() {
                break;
            } else {
                match self.round(&mut in_flight).await {
                    Ok(sleep) => sleep,
                    Err(error) => {
                        tracing::error!(%error, "the reconciler cannot use the database");
                        DATABASE_RETRY
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = in_flight.ended() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
        let drained = async {
            while !in_flight.tasks.is_empty() {
                in_flight.ended().await;
            }
        };
        if tokio::time::timeout(self.config.drain_limit, drained).await.is_err() {
            tracing::warn!("calls are still under way; what became of them is found out at the next start");
        }
    }

    /// Whether what is due at a controller is for this server to do: if it drives it, or if nobody does and nobody here
    /// could. Then somebody has to say so at the sessions.
    fn serves(&self, controller: &Controller) -> bool {
        match self.fleet.client(&controller.id) {
            Some(_) => self.fleet.driven(&controller.id).is_some(),
            None => controller.active_server.is_none(),
        }
    }

    /// Claims what is due and starts it; how long nothing else will be.
    async fn round(self: &Arc<Self>, in_flight: &mut InFlight) -> Result<Duration, StoreError> {
        // Woken when there is another one.
        let Some(term) = self.presence.term() else { return Ok(LONGEST_SLEEP) };
        let mut queues: Vec<(Option<ControllerId>, u32)> = vec![(None, PLACEMENTS)];
        for controller in self.store.controllers().await? {
            if self.serves(&controller) {
                queues.push((Some(controller.id), self.config.calls_per_controller));
            }
        }
        for (queue, room) in &mut queues {
            *room = in_flight.room(queue, *room);
        }
        queues.retain(|(_, room)| *room > 0);
        let due: Vec<_> = queues.iter().map(|(queue, _)| queue.clone()).collect();
        let Some(next) = self.store.next_due(&due).await? else { return Ok(LONGEST_SLEEP) };
        if next > now() {
            return Ok(until(next));
        }

        let request = ClaimRequest {
            owner: term.owner().to_owned(),
            // A claim that ran out under a call would let a second call begin beside it.
            lease: self.config.lease.max(self.config.call_timeout + LEASE_MARGIN),
            in_flight: in_flight.sessions(),
            queues,
            operation_limit: self.config.operation_limit,
        };
        let Claims { work, rested } = self.store.claim_due(request).await?;
        rested.iter().for_each(|id| self.changes.changed(id));
        if !work.is_empty() {
            streamspace_failpoint::hit("control.operation.claimed");
        }
        for claimed in work {
            in_flight.start(self, claimed, Arc::clone(&term));
        }
        // Another round follows at once: there may be more, and if not, it tells how long to sleep.
        Ok(Duration::ZERO)
    }
}

fn until(at: DateTime<Utc>) -> Duration {
    (at - now()).to_std().unwrap_or_default().min(LONGEST_SLEEP)
}
