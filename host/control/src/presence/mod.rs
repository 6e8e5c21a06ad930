//! This server among those that share a database.
//!
//! Every server holds a place by a lease on the database's time, and renews it by a statement of its own that waits for
//! nobody. It acts only as long as it is sure of its place by its own clock: one that was stopped, or cut off from the
//! database, finds when it goes on that its time is over, before anybody else can know that it goes on. Whoever sees that
//! the lease of another is over ends that place, and drives the controllers that it drove.

mod term;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::domain::ServerKey;
use crate::fleet::Fleet;
use crate::store::{Store, StoreError, Succession, lease_owner};

pub(crate) use term::{Moment, Term};

/// After a place was lost, before there is another: what was about to be sent finds that it may not be.
const SILENCE: Duration = Duration::from_millis(250);
/// Between two attempts to do something about places.
const RETRY: Duration = Duration::from_millis(200);
/// No look at the others follows sooner on the one before.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);
/// A lease that ends then is looked at a moment later: it ends at the database's time.
const AFTER_END: Duration = Duration::from_millis(5);

/// This server's place.
pub(crate) struct Presence {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    /// Wakes the reconciler.
    wake: Arc<Notify>,
    instance: String,
    /// What this server's calls are verified with.
    key: ServerKey,
    lease: Duration,
    renewal: Duration,
    term: watch::Sender<Option<Arc<Term>>>,
}

impl Presence {
    /// Takes a place.
    pub(crate) async fn enter(
        store: Arc<dyn Store>,
        fleet: Arc<Fleet>,
        wake: Arc<Notify>,
        instance: &str,
        key: ServerKey,
        (lease, renewal): (Duration, Duration),
    ) -> Result<Self, StoreError> {
        let instance = instance.to_owned();
        let term = watch::Sender::new(None);
        let presence = Self { store, fleet, wake, instance, key, lease, renewal, term };
        presence.begin().await?;
        Ok(presence)
    }

    /// The present stay, if this server is sure of it.
    pub(crate) fn term(&self) -> Option<Arc<Term>> {
        self.term.borrow().clone().filter(|term| term.is_sure())
    }

    async fn begin(&self) -> Result<(), StoreError> {
        let owner = lease_owner(&self.instance);
        let asked = Moment::now();
        self.store.enter(&owner, self.lease).await?;
        self.store.publish_key(&owner, self.key.clone()).await?;
        tracing::info!(place = owner, "this server has its place");
        let term = match self.store.is_shared() {
            true => Term::new(owner, self.lease, asked),
            false => Term::without_end(owner),
        };
        self.term.send_replace(Some(Arc::new(term)));
        self.wake.notify_one();
        Ok(())
    }

    /// Holds on to the place, gets another one if it is lost, and takes over what others leave. Never ends.
    pub(crate) async fn keep(&self) {
        if !self.store.is_shared() {
            return std::future::pending().await;
        }
        tokio::join!(self.hold(), self.succeed());
    }

    async fn hold(&self) {
        let mut failing = false;
        loop {
            let Some(term) = self.term.borrow().clone() else {
                if let Err(error) = self.begin().await {
                    tracing::error!(%error, "this server has no place among those that use the database");
                    sleep(RETRY).await;
                }
                continue;
            };
            let asked = Moment::now();
            let begun = Instant::now();
            let pause = match timeout(self.lease / 2, self.store.renew_place(term.owner(), self.lease)).await
            {
                Ok(Ok(true)) => {
                    term.prolong(asked);
                    if std::mem::take(&mut failing) {
                        tracing::info!("the place among the servers is held again");
                        self.wake.notify_one();
                    }
                    self.renewal.saturating_sub(begun.elapsed())
                }
                Ok(Ok(false)) => {
                    self.lose(&term).await;
                    failing = false;
                    continue;
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the place among the servers was not renewed");
                    }
                    RETRY
                }
                Err(_) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("the place among the servers was not renewed in time");
                    }
                    Duration::ZERO
                }
            };
            sleep(pause).await;
        }
    }

    /// Nothing that was begun may go on.
    async fn lose(&self, term: &Term) {
        tracing::warn!("this server was not heard of for too long; others have taken over its work");
        term.end();
        self.fleet.stand_down();
        self.term.send_replace(None);
        sleep(SILENCE).await;
    }

    async fn succeed(&self) {
        loop {
            let pause = match self.look().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::debug!(%error, "how the other servers do is not known");
                    RETRY
                }
            };
            sleep(pause.clamp(SHORTEST_LOOK, self.renewal.max(SHORTEST_LOOK))).await;
        }
    }

    /// Takes over what there is to take over; in what time there may be more.
    async fn look(&self) -> Result<Duration, StoreError> {
        let Some(term) = self.term() else { return Ok(RETRY) };
        let mine = self.fleet.attached();
        let outlook = self.store.outlook(term.owner(), &mine).await?;
        let ends_in = outlook.next_end.unwrap_or(self.renewal);
        if !outlook.vacant && !ends_in.is_zero() {
            return Ok(ends_in + AFTER_END);
        }
        let Succession { ended, taken } = self.store.take_over(term.owner(), mine).await?;
        for server in &ended {
            tracing::warn!(server, "a server is not heard of any more; its work is taken over");
        }
        for (id, epoch) in &taken {
            tracing::info!(controller = %id, epoch = epoch.get(), "this server drives the controller now");
            self.fleet.take_charge(id, *epoch, Arc::clone(&term));
        }
        if !ended.is_empty() || !taken.is_empty() {
            self.wake.notify_one();
        }
        Ok(SHORTEST_LOOK)
    }

    /// Gives the place up: others go on at once with what it had.
    pub(crate) async fn leave(&self) {
        let Some(term) = self.term.send_replace(None) else { return };
        term.end();
        self.fleet.stand_down();
        if let Err(error) = self.store.leave(term.owner()).await {
            tracing::warn!(%error, "the place among the servers was not given up; its lease ends by itself");
        }
    }
}
