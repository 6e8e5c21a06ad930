//! What became of a request that got no answer.

use streamspace_bindings::types::{Error, ErrorKind};

use super::connector::ConnectError;
use super::error;
use crate::capability::text::chain;

/// Key of the fact whether a byte of the request may have left.
const SENT: &str = "http.sent";

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: ErrorKind,
    message: String,
    /// Whether a byte of the request may have left: then its effect is unknown.
    sent: bool,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, sent: bool, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), sent }
    }

    pub(super) fn connect(failure: &ConnectError) -> Self {
        Self::new(ErrorKind::Unavailable, false, chain(failure))
    }

    /// The time was over while waiting for something.
    pub(super) fn timed_out(sent: bool, waiting_for: &str) -> Self {
        Self::new(ErrorKind::TimedOut, sent, format!("{waiting_for} did not come in time"))
    }

    /// The answer's body is larger than may be taken.
    pub(super) fn too_long(most: u64) -> Self {
        Self::new(ErrorKind::Exhausted, true, format!("the answer has more than {most} bytes"))
    }

    pub(super) fn client(failure: &hyper_util::client::legacy::Error) -> Self {
        use std::error::Error as _;
        let mut cause = failure.source();
        while let Some(error) = cause {
            if let Some(connect) = error.downcast_ref::<ConnectError>() {
                return Self::connect(connect);
            }
            if let Some(http) = error.downcast_ref::<hyper::Error>() {
                let sent = !failure.is_connect() && !http.is_canceled();
                if sent && http.is_closed() {
                    let message = "the connection was closed while the request was being sent";
                    return Self::new(ErrorKind::Unavailable, true, message);
                }
                return Self { sent, ..Self::http(http) };
            }
            cause = error.source();
        }
        Self::new(ErrorKind::Unavailable, !failure.is_connect(), chain(failure))
    }

    pub(super) fn http(failure: &hyper::Error) -> Self {
        if failure.is_canceled() || failure.is_closed() {
            let message = "the connection was closed before the request was sent";
            return Self::new(ErrorKind::Unavailable, false, message);
        }
        if failure.is_incomplete_message() {
            let message = "the server closed the connection before its answer was complete";
            return Self::new(ErrorKind::Unavailable, true, message);
        }
        let kind = if failure.is_parse_too_large() {
            ErrorKind::Exhausted
        } else if failure.is_parse() {
            ErrorKind::Internal
        } else {
            ErrorKind::Unavailable
        };
        Self::new(kind, true, chain(failure))
    }

    /// For the plugin.
    pub(super) fn into_error(self, endpoint: &str) -> Error {
        Error {
            ext: vec![(SENT.to_owned(), self.sent.to_string())],
            ..error(self.kind, format!("endpoint `{endpoint}`: {}", self.message))
        }
    }
}
