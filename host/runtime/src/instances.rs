//! Who gets an instance when there are more calls than instances.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Instances that every controller has to itself. Enough to be probed and to go on making sessions while another
/// controller holds all that are shared.
const RESERVED: usize = 4;

/// Controllers with instances of their own. The next ones have only the shared ones, and the log says so.
const CONTROLLERS: usize = 64;

/// New plugins and configurations that are tried at once.
const TRIALS: usize = 2;

/// The instances of a runtime.
#[derive(Debug)]
pub(crate) struct Instances {
    shared: Arc<Semaphore>,
    controllers: Arc<Semaphore>,
    trials: Arc<Semaphore>,
}

impl Instances {
    /// So many shared ones, beside those that are reserved.
    pub(crate) fn new(shared: u32) -> Self {
        Self {
            shared: Arc::new(Semaphore::new(shared as usize)),
            controllers: Arc::new(Semaphore::new(CONTROLLERS)),
            trials: Arc::new(Semaphore::new(TRIALS)),
        }
    }

    /// How many the engine has to provide for so many shared ones.
    pub(crate) fn in_all(shared: u32) -> u32 {
        shared + (RESERVED * CONTROLLERS + TRIALS) as u32
    }

    /// One for a plugin that serves no controller yet. Waits for it; a trial is short.
    pub(crate) async fn for_trial(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.trials).acquire_owned().await.ok()
    }

    /// What one more controller gets.
    pub(crate) fn reserve(&self) -> Reservation {
        let own = Arc::clone(&self.controllers)
            .try_acquire_owned()
            .inspect_err(|_| {
                tracing::warn!(
                    "there are more than {CONTROLLERS} controllers: this one has no instances of its own"
                )
            })
            .ok()
            .map(|share| Own { instances: Arc::new(Semaphore::new(RESERVED)), _share: share });
        Reservation { own, shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Own {
    instances: Arc<Semaphore>,
    /// Returns with the reservation.
    _share: OwnedSemaphorePermit,
}

/// The instances that one controller can have.
#[derive(Debug)]
pub(crate) struct Reservation {
    own: Option<Own>,
    shared: Arc<Semaphore>,
}

impl Reservation {
    /// Waits for an instance: one of its own if there is one, or else whichever comes first.
    pub(crate) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        let shared = Arc::clone(&self.shared).acquire_owned();
        let Some(own) = &self.own else { return shared.await.ok() };
        tokio::select! {
            biased;
            permit = Arc::clone(&own.instances).acquire_owned() => permit.ok(),
            permit = shared => permit.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn take(reservation: &Reservation, most: usize) -> Vec<OwnedSemaphorePermit> {
        (0..most).map_while(|_| reservation.acquire().now_or_never().flatten()).collect()
    }

    #[test]
    fn whoever_takes_everything_leaves_the_others_their_own() {
        let instances = Instances::new(10);
        let (greedy, modest) = (instances.reserve(), instances.reserve());
        let taken = take(&greedy, 100);
        assert_eq!(taken.len(), 10 + RESERVED);
        let own = take(&modest, 100);
        assert_eq!(own.len(), RESERVED);
        drop(own);
        assert_eq!(take(&modest, 1).len(), 1, "and they come back");
        drop(taken);
        assert_eq!(take(&modest, 100).len(), 10 + RESERVED);
    }

    #[test]
    fn there_is_an_instance_for_every_promise() {
        let instances = Instances::new(1);
        let reservations: Vec<_> = (0..CONTROLLERS + 1).map(|_| instances.reserve()).collect();
        let promised: usize = reservations.iter().filter(|one| one.own.is_some()).count() * RESERVED;
        assert_eq!(Instances::in_all(1) as usize, promised + TRIALS + 1);
        assert!(reservations[CONTROLLERS].own.is_none(), "one too many");
        drop(reservations);
        assert!(instances.reserve().own.is_some(), "a controller that went away makes room");
    }
}
