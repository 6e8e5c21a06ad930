//! Drives every session to its wish: claim, call, record.

mod backoff;
mod in_flight;
#[cfg(test)]
mod model;
mod outcome;
mod step;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ControlConfig;
use crate::changes::Changes;
use crate::domain::{ControllerId, Lane, now};
use crate::fleet::Fleet;
use crate::presence::Presence;
use crate::store::{ClaimRequest, Claims, Due, DueLane, Queue, Store, StoreError};
use in_flight::InFlight;

/// Even if nothing wakes it the reconciler looks so often: a lease may have run out.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// After a failure of the database.
const DATABASE_RETRY: Duration = Duration::from_secs(1);
/// A claim holds so much longer than the call may take: the outcome has to be stored as well.
const LEASE_MARGIN: Duration = Duration::from_secs(20);
/// So often it is looked whether something is claimed that nobody works on.
const RELEASE_INTERVAL: Duration = Duration::from_secs(5);
/// Sessions without a controller that are placed at once.
pub(crate) const PLACEMENTS: u32 = 32;
/// Steps that are claimed in one transaction.
const CLAIMED_AT_ONCE: usize = 128;

/// The loop's view of the rest of the server.
pub(crate) struct Reconciler {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) config: Arc<ControlConfig>,
    pub(crate) presence: Arc<Presence>,
}

impl Reconciler {
    /// Works until it is stopped, then lets the calls under way end and be recorded.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut in_flight = InFlight::default();
        let mut released = None;
        for turn in 0.. {
            let sleep = if stop.is_cancelled() {
                break;
            } else {
                match self.round(&mut in_flight, turn, &mut released).await {
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
            while !in_flight.is_idle() {
                in_flight.ended().await;
            }
        };
        if tokio::time::timeout(self.config.drain_limit, drained).await.is_err() {
            tracing::warn!("calls are still under way; what became of them is found out at the next start");
        }
    }

    /// Claims what is due and starts it; how long nothing else will be. Who comes first changes with every `turn`.
    async fn round(
        self: &Arc<Self>,
        in_flight: &mut InFlight,
        turn: usize,
        released: &mut Option<Instant>,
    ) -> Result<Duration, StoreError> {
        // Woken when there is another one.
        let Some(term) = self.presence.term() else { return Ok(LONGEST_SLEEP) };
        if released.is_none_or(|at| at.elapsed() >= RELEASE_INTERVAL) {
            // The database may have kept a claim though its answer was lost, and a step may have ended without a record.
            self.store.release_claims(term.owner(), in_flight.sessions()).await?;
            *released = Some(Instant::now());
        }
        let Due { mut lanes, claim_ends } = self.store.due().await?;
        let present = now();
        let is_due = |at: DateTime<Utc>| at <= present;
        self.leave_to_others(&mut lanes).await?;
        let times = lanes.iter().map(|lane| lane.at).chain(claim_ends);
        let sleep = times.filter(|at| !is_due(*at)).min().map_or(LONGEST_SLEEP, until);

        let mut due: BTreeMap<Option<ControllerId>, Vec<Lane>> = BTreeMap::new();
        for one in lanes.into_iter().filter(|one| is_due(one.at)) {
            due.entry(one.controller).or_default().push(one.lane);
        }
        let mut queues: Vec<Queue> = due
            .into_iter()
            .filter_map(|(controller, lanes)| {
                let room = in_flight.room(&controller, self.steps_at_once(controller.as_ref()));
                // What is due and has no room waits for the end of a step, which begins another round.
                let lanes = Lane::ALL.into_iter().filter(|lane| lanes.contains(lane) && room.free(*lane) > 0);
                let lanes: Vec<Lane> = lanes.collect();
                (!lanes.is_empty()).then_some(Queue { controller, lanes, room })
            })
            .collect();
        if queues.is_empty() && !claim_ends.is_some_and(is_due) {
            return Ok(sleep);
        }
        let first = turn.checked_rem(queues.len()).unwrap_or_default();
        queues.rotate_left(first);

        let request = ClaimRequest {
            owner: term.owner().to_owned(),
            // A claim that ran out under a call would let a second call begin beside it.
            lease: self.config.lease.max(self.config.call_timeout + LEASE_MARGIN),
            in_flight: in_flight.sessions(),
            queues,
            most: CLAIMED_AT_ONCE,
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

    /// Leaves what is not for this server to do: what is due at a controller that another one drives. Nobody drives a
    /// controller that no server has; then somebody has to say so at the sessions.
    async fn leave_to_others(&self, lanes: &mut Vec<DueLane>) -> Result<(), StoreError> {
        let is_strange = |id: &ControllerId| self.fleet.client(id).is_none();
        let mut nobodys = HashSet::new();
        if self.store.is_shared() && lanes.iter().filter_map(|lane| lane.controller.as_ref()).any(is_strange)
        {
            let all = self.store.controllers().await?;
            nobodys.extend(all.into_iter().filter(|one| one.active_server.is_none()).map(|one| one.id));
        }
        lanes.retain(|lane| match &lane.controller {
            None => true,
            Some(id) if is_strange(id) => !self.store.is_shared() || nobodys.contains(id),
            Some(id) => self.fleet.driven(id).is_some(),
        });
        Ok(())
    }

    /// How many steps of a controller, or of those that have none, may be under way at once.
    fn steps_at_once(&self, controller: Option<&ControllerId>) -> u32 {
        match controller {
            Some(id) => self.fleet.calls_at_once(id).unwrap_or(self.config.calls_per_controller).max(1),
            None => PLACEMENTS,
        }
    }
}

fn until(at: DateTime<Utc>) -> Duration {
    (at - now()).to_std().unwrap_or_default().min(LONGEST_SLEEP)
}
