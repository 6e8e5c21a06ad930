//! The engine's failures in the contract's words.

use bollard::errors::Error as DockerError;
use streamspace_bindings::types::{Error, ErrorKind};

/// What the engine says of a container that it is removing.
const REMOVAL: &[&str] = &["already in progress", "marked for removal"];

/// Turns a failure into an error value, keeping the engine's own words.
pub(super) fn translate(failure: DockerError) -> Error {
    let (kind, message, status) = match failure {
        DockerError::DockerResponseServerError { status_code, message } => {
            (kind_of_status(status_code, &message), message, Some(status_code))
        }
        DockerError::RequestTimeoutError => {
            (ErrorKind::TimedOut, "the engine did not answer in time".to_owned(), None)
        }
        DockerError::DockerStreamError { error } => (ErrorKind::Internal, error, None),
        DockerError::JsonDataError { message, .. } => {
            (ErrorKind::Internal, format!("the engine's answer is not understood: {message}"), None)
        }
        // Everything else is the way to the engine: socket, connection, protocol.
        other => (ErrorKind::Unavailable, format!("the engine cannot be reached: {}", chain(&other)), None),
    };
    let ext = status.map(|status| ("docker.status".to_owned(), status.to_string())).into_iter().collect();
    Error { kind, message, field: None, retry_after_ms: None, ext }
}

fn kind_of_status(status: u16, message: &str) -> ErrorKind {
    match status {
        400 => ErrorKind::Invalid,
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        // A removal that another request began: waiting helps, and it is no conflict with somebody else's object.
        409 if REMOVAL.iter().any(|words| message.contains(words)) => ErrorKind::Unavailable,
        409 => ErrorKind::Conflict,
        503 => ErrorKind::Unavailable,
        // What the engine says, at start, of a machine without the graphics runtime.
        _ if message.contains("could not select device driver") => ErrorKind::FailedPrecondition,
        _ => ErrorKind::Internal,
    }
}

/// An error with its causes: the outermost alone says only "error in the hyper legacy client".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
