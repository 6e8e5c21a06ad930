//! How many exchanges and connections may be open at once.

use std::sync::Arc;

use streamspace_bindings::types::{Error, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error;

/// Exchanges and connections that one call may hold.
const IN_CALL: usize = 16;

/// Those of all calls of one controller, with the connections that are parked.
const IN_CONTROLLER: usize = 64;

/// What one call may still open.
pub(crate) struct OpenInCall(Arc<Semaphore>);

impl Default for OpenInCall {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(IN_CALL)))
    }
}

/// What all calls of a controller may still open.
#[derive(Clone)]
pub(crate) struct OpenInController(Arc<Semaphore>);

impl Default for OpenInController {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(IN_CONTROLLER)))
    }
}

/// The right to hold something open in a call.
#[derive(Debug)]
pub(super) struct InCall {
    _permit: OwnedSemaphorePermit,
}

/// The right to hold something open in a controller, also between calls.
#[derive(Debug)]
pub(super) struct InController {
    _permit: OwnedSemaphorePermit,
}

impl OpenInCall {
    pub(super) fn take(&self) -> Result<InCall, Error> {
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => Ok(InCall { _permit: permit }),
            Err(_) => {
                Err(error(ErrorKind::Exhausted, format!("this call holds {IN_CALL} exchanges and connections already")))
            }
        }
    }
}

impl OpenInController {
    pub(super) fn take(&self) -> Result<InController, Error> {
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => Ok(InController { _permit: permit }),
            Err(_) => Err(error(
                ErrorKind::Exhausted,
                format!("this controller holds {IN_CONTROLLER} exchanges and connections already"),
            )),
        }
    }
}
