//! One step of one session: the call, and the record of what came of it.

use std::sync::Arc;
use std::time::Duration;

use streamspace_proto::controller::v1 as proto;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Reconciler;
use super::outcome::{Answer, Circumstances, outcome};
use crate::domain::{OperationKind, Requirement, Step, Wish, WishedState};
use crate::fleet::{CallError, ControllerClient, Observation, Reply};
use crate::placement::Placement;
use crate::presence::{Moment, Term};
use crate::store::{Claimed, Placer, Recorded, StoreError};

/// Tries to record an outcome while the database refuses it. Then the lease runs out and the step is made again,
/// which the contract allows.
const RECORD_TRIES: u32 = 5;
/// Between two of those.
const RECORD_PAUSE: Duration = Duration::from_millis(500);

impl Reconciler {
    /// Makes one claimed step.
    pub(super) async fn step(&self, claimed: Claimed, term: &Term) {
        let span = tracing::info_span!(
            "step",
            session = %claimed.session.id,
            controller = claimed.session.controller_id().map(tracing::field::display),
            operation = claimed.operation.kind.as_str(),
            attempt = claimed.operation.attempt,
        );
        self.step_inner(claimed, term).instrument(span).await;
    }

    async fn step_inner(&self, claimed: Claimed, term: &Term) {
        if !term.is_sure() {
            // Others may have claimed it by now.
            tracing::warn!("the step is not begun: this server is not sure of its place");
            return;
        }
        instant(
            claimed.step,
            [
                "control.create.claimed",
                "control.delete.claimed",
                "control.hibernate.claimed",
                "control.wake.claimed",
            ],
        );
        let recorded = if claimed.step == Step::Place {
            self.place(&claimed).await
        } else {
            let begun = Moment::now();
            let answer = self.answer(&claimed).await;
            if let Answer::Error(error) = &answer {
                let spec = &claimed.session.spec;
                tracing::warn!(code = ?error.code, reason = spec.scrub(&error.reason),
                    message = spec.scrub(&error.message), "the step failed");
            } else {
                instant(
                    claimed.step,
                    [
                        "control.create.replied",
                        "control.delete.replied",
                        "control.hibernate.replied",
                        "control.wake.replied",
                    ],
                );
            }
            self.record(&claimed, answer, begun).await
        };
        if let Ok(Recorded::Stored | Recorded::Removed) = recorded {
            instant(
                claimed.step,
                [
                    "control.create.recorded",
                    "control.delete.recorded",
                    "control.hibernate.recorded",
                    "control.wake.recorded",
                ],
            );
        }
        match recorded {
            Ok(Recorded::Stored) => {}
            Ok(Recorded::Removed) => tracing::info!("the session is gone"),
            Ok(Recorded::Stale) => tracing::warn!("the claim ran out before the step ended"),
            Err(error) => tracing::error!(%error, "the outcome of a step was not stored"),
        }
        // The end of this step begins another round: what it made due is seen then.
        self.changes.changed(&claimed.session.id);
    }

    async fn place(&self, claimed: &Claimed) -> Result<Recorded, StoreError> {
        let mut placement = claimed.session.placement.clone();
        if claimed.session.state == WishedState::Hibernated {
            placement.require.push(Requirement::Hibernation);
        }
        let strategy = self.config.placement_strategy;
        let placer = Placement::new(&placement, &claimed.session.spec, strategy);
        let pause =
            super::backoff::after_failure(claimed.operation.failures + 3, None, rand::random::<f64>());
        let pause = pause.max(Duration::from_secs(1));
        let pause = chrono::Duration::from_std(pause).unwrap_or(chrono::Duration::seconds(30));
        let retry_at = claimed.operation.updated_at + pause;
        let placer: Arc<dyn Placer> = Arc::new(placer);
        let served = claimed.session.generation;
        let limit = self.config.placement_limit;
        self.until_stored(|| {
            self.store.place_session(&claimed.lease, served, Arc::clone(&placer), retry_at, limit)
        })
        .await
    }

    async fn record(&self, claimed: &Claimed, answer: Answer, begun: Moment) -> Result<Recorded, StoreError> {
        let controller = claimed.session.controller_id();
        // When it is due again is compared with the time of the database, and so is told by it: it was claimed a moment
        // ago. This process's own clock may be another, and may be set meanwhile.
        let claimed_at = claimed.operation.updated_at;
        let took = chrono::Duration::from_std(begun.elapsed()).unwrap_or_default();
        let around = Circumstances {
            begun: claimed_at,
            now: claimed_at + took,
            jitter: rand::random::<f64>(),
            longest_look_pause: self.config.longest_look_pause,
            keep_tombstone: self.config.keep_tombstones,
            repair_pause: self.config.repair_pause,
            longest_step: self.config.call_timeout + super::LEASE_MARGIN,
            controller_healthy: controller
                .and_then(|id| self.fleet.health(id))
                .is_some_and(|health| health.is_good()),
        };
        let record = outcome(claimed, answer, around);
        self.until_stored(|| self.store.record_step(&claimed.lease, record.clone())).await
    }

    /// Tries again what could not be stored. While the database is away that is worth as long as the claim holds: the
    /// step need not be made again then.
    async fn until_stored<W>(&self, store: impl Fn() -> W) -> Result<Recorded, StoreError>
    where
        W: Future<Output = Result<Recorded, StoreError>>,
    {
        let end = Instant::now() + self.config.lease;
        let mut tries = 1;
        loop {
            let error = match store().await {
                Err(error) => error,
                recorded => return recorded,
            };
            let away = matches!(error, StoreError::Unavailable { .. }) && Instant::now() < end;
            if !away && tries >= RECORD_TRIES {
                return Err(error);
            }
            tracing::error!(%error, tries, "the outcome of a step was not stored; trying again");
            tries += 1;
            tokio::time::sleep(RECORD_PAUSE).await;
        }
    }

    async fn answer(&self, claimed: &Claimed) -> Answer {
        let kind = match claimed.step {
            Step::Forget => return Answer::NeverPlaced,
            Step::Call(kind) => Some(kind),
            // Rest and Place are never called; to look is the harmless reading.
            Step::Look | Step::GiveUp | Step::Rest | Step::Place => None,
        };
        let client = match (claimed.session.controller_id(), claimed.controller_epoch) {
            (Some(id), Some(epoch)) => self.fleet.driven_under(id, epoch),
            _ => None,
        };
        let Some(client) = client else { return Answer::Error(CallError::unattached()) };
        let call = Call { claimed, client, timeout: self.config.call_timeout };
        let reply = match kind {
            Some(OperationKind::Create) => call.create().await,
            Some(OperationKind::Delete | OperationKind::CleanUp) => call.delete().await,
            Some(OperationKind::Hibernate) => call.hibernate().await,
            Some(OperationKind::Wake) => call.wake().await,
            None => call.look().await,
        };
        reply.map_or_else(Answer::Error, Answer::Reply)
    }
}

/// An instant at which a crash test may kill the process: the names are for creation, deletion, hibernation and
/// waking.
fn instant(step: Step, names: [&'static str; 4]) {
    let [create, delete, hibernate, wake] = names;
    let Step::Call(kind) = step else { return };
    streamspace_failpoint::hit(match kind {
        OperationKind::Create => create,
        OperationKind::Delete => delete,
        OperationKind::Hibernate => hibernate,
        OperationKind::Wake => wake,
        OperationKind::CleanUp => return,
    });
}

/// Everything a call needs.
struct Call<'a> {
    claimed: &'a Claimed,
    client: ControllerClient,
    timeout: Duration,
}

impl Call<'_> {
    async fn create(&self) -> Result<Reply, CallError> {
        let Claimed { session, operation, .. } = self.claimed;
        let controller_config = if session.controller_config.is_empty() {
            String::new()
        } else {
            serde_json::to_string(&session.controller_config)
                .map_err(|error| CallError::unusable_reply(error.to_string()))?
        };
        let request = proto::CreateSessionRequest {
            session_id: session.id.to_string(),
            user_id: session.user_id.clone(),
            template_id: session.template_id.clone(),
            spec: Some(session.spec.to_proto()),
            controller_config,
            generation: session.generation.get(),
            epoch: self.client.epoch().get(),
            operation_id: operation.id.as_str().to_owned(),
            spec_hash: session.spec_hash.clone(),
            handle: operation.handle.clone(),
        };
        Reply::created(self.client.create(request, self.timeout).await?)
    }

    async fn delete(&self) -> Result<Reply, CallError> {
        let Claimed { session, operation, .. } = self.claimed;
        let request = proto::DeleteSessionRequest {
            session_id: session.id.to_string(),
            node_id: session.node_id.clone(),
            generation: session.generation.get(),
            epoch: self.client.epoch().get(),
            operation_id: operation.id.as_str().to_owned(),
            handle: operation.handle.clone(),
            purge_home: session.wish == Wish::Gone { purge_home: true },
            user_id: session.user_id.clone(),
        };
        Reply::deleted(self.client.delete(request, self.timeout).await?)
    }

    async fn hibernate(&self) -> Result<Reply, CallError> {
        let Claimed { session, operation, .. } = self.claimed;
        let request = proto::HibernateSessionRequest {
            session_id: session.id.to_string(),
            node_id: session.node_id.clone(),
            generation: session.generation.get(),
            epoch: self.client.epoch().get(),
            operation_id: operation.id.as_str().to_owned(),
            handle: operation.handle.clone(),
        };
        Reply::hibernated(self.client.hibernate(request, self.timeout).await?)
    }

    async fn wake(&self) -> Result<Reply, CallError> {
        let Claimed { session, operation, .. } = self.claimed;
        let request = proto::WakeSessionRequest {
            session_id: session.id.to_string(),
            node_id: session.node_id.clone(),
            generation: session.generation.get(),
            epoch: self.client.epoch().get(),
            operation_id: operation.id.as_str().to_owned(),
            handle: operation.handle.clone(),
        };
        Reply::woken(self.client.wake(request, self.timeout).await?)
    }

    async fn look(&self) -> Result<Reply, CallError> {
        let Claimed { session, operation, .. } = self.claimed;
        let request = proto::GetSessionStatusRequest {
            session_id: session.id.to_string(),
            node_id: session.node_id.clone(),
            handle: operation.handle.clone(),
        };
        Observation::read(self.client.status(request, self.timeout).await?).map(Reply::Stands)
    }
}
