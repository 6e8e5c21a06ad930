//! Problems as gRPC statuses.

use std::collections::HashMap;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::domain::QuotaExcess;
use crate::rest::problem::Problem;

/// Domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "streamspace.api";

/// Bytes of a message in a status: all of it travels in HTTP headers, of which clients take 8 KiB and more. The message is
/// in them twice, once with every byte written as three.
const LONGEST_MESSAGE: usize = 1024;

/// Bytes of all fields and quotas with what is said of them.
const LARGEST_DETAILS: usize = 1536;

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let kind = problem.kind();
        let reason = kind.replace('-', "_").to_ascii_uppercase();
        let facts = HashMap::from([("type".to_owned(), format!("urn:streamspace:problem:{kind}"))]);
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts);
        let mut room = LARGEST_DETAILS;
        for error in problem.errors() {
            let Some(left) = room.checked_sub(error.field.len() + error.message.len()) else { break };
            room = left;
            details.add_bad_request_violation(&error.field, &error.message);
        }
        for QuotaExcess { quota, limit, used, requested } in problem.exceeded() {
            let requested = requested.as_deref().unwrap_or("not said");
            let told = format!("limit {limit}, used {used}, asked for {requested}");
            details.add_quota_failure_violation(quota.as_str(), told);
        }
        if let Some(pause) = problem.retry_after() {
            details.set_retry_info(Some(pause));
        }
        let (title, detail) = problem.text();
        let message = cut(if detail.is_empty() { title } else { detail });
        Self::with_error_details(code(&problem), message, details)
    }
}

/// What a program does about it decides: over HTTP one status stands for several of these.
fn code(problem: &Problem) -> Code {
    match (problem.kind(), problem.status().as_u16()) {
        ("exists" | "idempotency-key", _) => Code::AlreadyExists,
        ("busy" | "precondition-failed", _) => Code::Aborted,
        ("quota-exceeded" | "too-many" | "too-large", _) => Code::ResourceExhausted,
        (_, 400 | 415 | 422) => Code::InvalidArgument,
        (_, 401) => Code::Unauthenticated,
        (_, 403) => Code::PermissionDenied,
        (_, 404) => Code::NotFound,
        (_, 405 | 426) => Code::Unimplemented,
        (_, 409) => Code::FailedPrecondition,
        (_, 502 | 503) => Code::Unavailable,
        _ => Code::Internal,
    }
}

/// The status that a code is counted under, beside those of REST.
pub(super) fn over_http(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The beginning of a text.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rest::problem::FieldError;

    #[test]
    fn details_say_what_the_problem_says() {
        let fields = vec![FieldError::new("spec.base_image", "is required")];
        let status = Status::from(Problem::invalid(fields));
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "spec.base_image: is required")
        );
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID", DOMAIN));
        assert_eq!(info.metadata["type"], "urn:streamspace:problem:invalid");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((violations.len(), violations[0].field.as_str()), (1, "spec.base_image"));

        let status = Status::from(Problem::unavailable("no-controller", "nobody"));
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "nobody"));
        assert_eq!(status.get_details_error_info().unwrap().reason, "NO_CONTROLLER");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_status_fits_into_the_headers_of_any_client() {
        let many = (0..10_000).map(|n| FieldError::new(format!("labels.ü{n}"), "ü".repeat(100)));
        let status = Status::from(Problem::invalid(many.collect()));
        let response = status.into_http::<axum::body::Body>();
        let size: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(size < 8192, "{size}");
    }
}
