//! The engine's failures in the contract's words.

use bollard::errors::Error as DockerError;
use streamspace_bindings::types::{Error, ErrorKind};

use crate::capability::text::chain;

/// What the engine says of a container that it is removing.
const REMOVAL: &[&str] = &["already in progress", "marked for removal"];

/// What the engine says of a version of its API that it does not serve: `client version 1.53 is too new. …`.
const VERSION: &str = "client version";

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
        // The engine is another version than the one that was asked first: it has to be asked anew.
        400 if message.contains(VERSION) => ErrorKind::Unavailable,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_decide_where_its_status_does_not() {
        for (status_code, message, kind) in [
            (400, "invalid reference format", ErrorKind::Invalid),
            (
                400,
                "client version 1.53 is too new. Maximum supported API version is 1.41",
                ErrorKind::Unavailable,
            ),
            (
                400,
                "client version 1.41 is too old. Minimum supported API version is 1.44",
                ErrorKind::Unavailable,
            ),
            (404, "No such image: a:1", ErrorKind::NotFound),
            (409, "Conflict. The container name \"/ss-a\" is already in use", ErrorKind::Conflict),
            (409, "removal of container ss-a is already in progress", ErrorKind::Unavailable),
            (500, "could not select device driver \"nvidia\"", ErrorKind::FailedPrecondition),
            (500, "something else", ErrorKind::Internal),
            (503, "not now", ErrorKind::Unavailable),
        ] {
            let failure = DockerError::DockerResponseServerError { status_code, message: message.to_owned() };
            let error = translate(failure);
            assert_eq!((error.kind, error.message.as_str()), (kind, message));
            assert_eq!(error.ext, [("docker.status".to_owned(), status_code.to_string())]);
        }
    }
}
