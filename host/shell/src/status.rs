//! Errors of the plugin contract as gRPC statuses.

use std::collections::HashMap;
use std::time::Duration;

use streamspace_runtime::CallError;
use streamspace_runtime::contract::types::{Error, ErrorKind};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "streamspace.controller";

/// Bytes of a message in a status: all of it travels in HTTP headers, of which a client takes 16 KiB. The message is
/// in them three times, once with every byte written as three.
const MAX_MESSAGE: usize = 1280;

/// Bytes of the field at fault, and of the key and the value of a further fact.
const MAX_NOTE: usize = 128;

/// Further facts of an error that are passed on.
const MAX_FACTS: usize = 8;

/// The beginning of a text.
fn cut(text: &str, longest: usize) -> String {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A failed call as a status: the code for what to do about it, the details for the rest.
pub(crate) fn of_call_error(error: &CallError) -> Status {
    let mut details = ErrorDetails::new();
    let mut metadata = HashMap::new();
    if let CallError::Backend(error) = error {
        let facts = error.ext.iter().take(MAX_FACTS);
        metadata.extend(facts.map(|(key, value)| (cut(key, MAX_NOTE), cut(value, MAX_NOTE))));
        if let Some(field) = &error.field {
            details.add_bad_request_violation(cut(field, MAX_NOTE), cut(&error.message, MAX_MESSAGE));
        }
        if let Some(ms) = error.retry_after_ms {
            details.set_retry_info(Some(Duration::from_millis(ms.into())));
        }
    }
    metadata.insert("kind".to_owned(), kind_name(error.kind()).to_owned());
    details.set_error_info(error.reason(), DOMAIN, metadata);
    Status::with_error_details(code(error.kind()), cut(&error.to_string(), MAX_MESSAGE), details)
}

/// Input that the shell itself cannot pass on.
pub(crate) fn invalid(field: &str, message: &str) -> Status {
    of_call_error(&CallError::Backend(Error {
        kind: ErrorKind::Invalid,
        message: message.to_owned(),
        field: Some(field.to_owned()),
        retry_after_ms: None,
        ext: Vec::new(),
    }))
}

/// An answer of the plugin that makes no sense.
pub(crate) fn internal(message: &str) -> Status {
    of_call_error(&CallError::Backend(Error {
        kind: ErrorKind::Internal,
        message: message.to_owned(),
        field: None,
        retry_after_ms: None,
        ext: Vec::new(),
    }))
}

/// A call by somebody who has been replaced.
pub(crate) fn stale_epoch(given: u64, seen: u64) -> Status {
    of_call_error(&CallError::Backend(Error {
        kind: ErrorKind::StaleEpoch,
        message: format!("the call carries epoch {given}, but {seen} was seen already"),
        field: None,
        retry_after_ms: None,
        ext: Vec::new(),
    }))
}

/// There is no plugin to call now; later there may be.
pub(crate) fn unavailable(reason: &str, message: &str, retry_after: Option<Duration>) -> Status {
    let kind = kind_name(ErrorKind::Unavailable).to_owned();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, [("kind".to_owned(), kind)]);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code(ErrorKind::Unavailable), cut(message, MAX_MESSAGE), details)
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::TimedOut => Code::DeadlineExceeded,
        ErrorKind::StaleEpoch => Code::Aborted,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The kind's name in the contract's text.
fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not-found",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::FailedPrecondition => "failed-precondition",
        ErrorKind::Unauthenticated => "unauthenticated",
        ErrorKind::Denied => "denied",
        ErrorKind::Exhausted => "exhausted",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::TimedOut => "timed-out",
        ErrorKind::StaleEpoch => "stale-epoch",
        ErrorKind::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_say_kind_field_and_when_to_come_again() {
        let status = of_call_error(&CallError::Backend(Error {
            kind: ErrorKind::Exhausted,
            message: "no room".into(),
            field: Some("spec.resources.memory".into()),
            retry_after_ms: Some(1500),
            ext: vec![("docker.status".into(), "500".into())],
        }));
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "no room"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("EXHAUSTED", DOMAIN));
        assert_eq!(info.metadata["kind"], "exhausted");
        assert_eq!(info.metadata["docker.status"], "500");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
        let field = &status.get_details_bad_request().unwrap().field_violations[0].field;
        assert_eq!(field, "spec.resources.memory");
    }

    #[test]
    fn what_the_host_ended_has_a_reason_of_its_own() {
        let status = of_call_error(&CallError::Trapped("unreachable".into()));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.get_details_error_info().unwrap().reason, "PLUGIN_TRAPPED");
    }
}
