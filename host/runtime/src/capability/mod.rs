//! What plugins can do outside of their sandbox. Everything is addressed by the name that the manifest asks for and
//! the operator grants; a name that is not granted gives an error value, never a trap.

mod audit;
mod config;
mod deadline;
pub(crate) mod docker;
pub(crate) mod http;
mod log;
mod secret;
pub(crate) mod state;
mod text;

use streamspace_bindings::imports::types;
use streamspace_bindings::types::{Error, ErrorKind};

use crate::call::CallState;

/// The interface has no functions, only types.
impl types::Host for CallState {}

/// An error with nothing but its kind and message.
fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error { kind, message: message.into(), field: None, retry_after_ms: None, ext: Vec::new() }
}
