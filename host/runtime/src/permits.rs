//! How many calls may be under way at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CallError;

/// What a call does to the backend. Each kind has its permits, so that followers of logs cannot starve
/// creates or probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Changes something.
    Mutation,
    /// Only looks.
    Read,
    /// Looks, and waits for something to see.
    LongPoll,
}

/// The permits of one controller.
#[derive(Debug)]
pub(crate) struct Permits {
    mutations: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    long_polls: Arc<Semaphore>,
}

/// Reads at once. They are short, and placement and observation need few.
const READS: usize = 32;

/// Long polls at once: followers of logs and of events.
const LONG_POLLS: usize = 64;

impl Permits {
    pub(crate) fn new(mutations: u32) -> Self {
        Self {
            mutations: Arc::new(Semaphore::new(mutations as usize)),
            reads: Arc::new(Semaphore::new(READS)),
            long_polls: Arc::new(Semaphore::new(LONG_POLLS)),
        }
    }

    /// Waits for a permit, no longer than the call may take.
    pub(crate) async fn acquire(
        &self,
        kind: CallKind,
        timeout: Duration,
    ) -> Result<OwnedSemaphorePermit, CallError> {
        let (semaphore, name) = match kind {
            CallKind::Mutation => (&self.mutations, "mutations"),
            CallKind::Read => (&self.reads, "reads"),
            CallKind::LongPoll => (&self.long_polls, "long polls"),
        };
        match tokio::time::timeout(timeout, Arc::clone(semaphore).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphores are never closed; a wait that is over means that there was no room.
            Ok(Err(_)) | Err(_) => Err(CallError::Busy(name)),
        }
    }
}
