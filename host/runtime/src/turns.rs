//! Turns at the processor: one guest of a controller computes at a time, once it takes longer than a tick.
//!
//! Guests that compute without end would otherwise share the processors with everybody else evenly, so that a
//! controller with a hundred of them makes every other call a hundred times slower.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The queue of one controller's guests, first come, first served.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// One guest's place in the queue.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Turn {
    pub(crate) fn new(turns: &Turns) -> Self {
        Self { queue: Arc::clone(&turns.0), held: Mutex::new(None) }
    }

    /// Gives way to the other tasks of the process, and then waits for its turn. To be awaited at every tick.
    pub(crate) async fn next(&self) {
        self.end();
        tokio::task::yield_now().await;
        // The queue is never closed.
        let turn = Arc::clone(&self.queue).acquire_owned().await.ok();
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }

    /// Runs a guest. Whenever it waits, somebody else may have its turn.
    pub(crate) async fn keep<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let polled = work.as_mut().poll(context);
            self.end();
            polled
        })
        .await
    }

    fn end(&self) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn one_computes_at_a_time_and_waiting_takes_no_turn() {
        let turns = Turns::default();
        let computing = AtomicU32::new(0);
        let guest = async || {
            let turn = Turn::new(&turns);
            turn.keep(async {
                for _ in 0..10 {
                    turn.next().await;
                    assert_eq!(computing.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                    computing.fetch_sub(1, Ordering::SeqCst);
                }
                // With everybody's turn kept until here, nobody would get on.
                tokio::task::yield_now().await;
            })
            .await;
        };
        join_all((0..20).map(|_| guest())).await;
        let (sleeper, other) = (Turn::new(&turns), Turn::new(&turns));
        let sleeping = sleeper.keep(async {
            sleeper.next().await;
            std::future::pending::<()>().await;
        });
        tokio::select! {
            () = sleeping => unreachable!(),
            () = async { for _ in 0..10 { other.next().await; } } => {}
        }
    }
}
