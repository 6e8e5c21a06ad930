//! Errors as `application/problem+json` (RFC 9457).

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::QuotaExcess;
use crate::store::{Outage, StoreError};

/// A field that is at fault, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Where in the request, e.g. `spec.resources.memory`.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The answer to a request that is not served (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What kind of problem it is, for programs: `urn:streamspace:problem:<kind>`.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(pattern = "^urn:streamspace:problem:[a-z-]+$", example = "urn:streamspace:problem:not-found")]
    kind: &'static str,
    /// The same in a few words, for people.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, for people; it may change.
    detail: String,
    /// The fields at fault, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The quotas that would be exceeded, all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    exceeded: Vec<QuotaExcess>,
    #[serde(skip)]
    header: Option<&'static (&'static str, &'static str)>,
}

fn urn<S: Serializer>(kind: &&'static str, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&format_args!("urn:streamspace:problem:{kind}"))
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            exceeded: Vec::new(),
            header: None,
        }
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this path does not have this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self {
            header: Some(&("www-authenticate", "Bearer realm=\"streamspace\"")),
            ..Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Authentication required", detail)
        }
    }

    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// The caller may not set a field to what they gave.
    pub(super) fn forbidden_field(field: &str, message: &str) -> Self {
        Self::forbidden("").with(vec![FieldError::new(field, message)])
    }

    /// The request is for another version of the thing than there is.
    pub(super) fn precondition_failed(detail: &str) -> Self {
        let status = StatusCode::PRECONDITION_FAILED;
        Self::new(status, "precondition-failed", "Changed in the meantime", detail)
    }

    /// The request cannot be read.
    pub(crate) fn bad_request(errors: Vec<FieldError>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be read", "");
        problem.with(errors)
    }

    /// The request can be read, but is not sensible.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::new(status, "invalid", "The request is not valid", "").with(errors)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("the body may have at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large", detail)
    }

    pub(crate) fn unsupported_media_type() -> Self {
        Self::unsupported_media_type_but("application/json")
    }

    /// The body is not of the one type that is understood here.
    pub(crate) fn unsupported_media_type_but(expected: &str) -> Self {
        let detail = format!("expected Content-Type: {expected}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Unsupported media type", detail)
    }

    pub(crate) fn conflict(kind: &'static str, detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, kind, "Conflict", detail)
    }

    /// The user would have more than they may; nothing was stored.
    pub(super) fn over_quota(exceeded: Vec<QuotaExcess>) -> Self {
        let told = exceeded.iter().map(|one| {
            let QuotaExcess { quota, limit, used, requested } = one;
            let quota = quota.as_str();
            match requested {
                Some(requested) => {
                    format!("quota of {quota}: limit {limit}, used {used}, asked for {requested} more")
                }
                None => format!(
                    "quota of {quota}: limit {limit}, and the session does not say in spec.resources.{quota} how much it takes"
                ),
            }
        });
        let detail = told.collect::<Vec<_>>().join("; ");
        let status = StatusCode::CONFLICT;
        Self { exceeded, ..Self::new(status, "quota-exceeded", "More than the user may have", detail) }
    }

    /// The session's backend cannot do it at all.
    pub(super) fn unsupported(detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "unsupported", "Not supported", detail)
    }

    /// The session is not in a state in which it could be done.
    pub(super) fn failed_precondition(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "failed-precondition", "Not possible in this state", detail)
    }

    /// The caller, or all of them, do too much at once.
    pub(crate) fn too_many(detail: &str) -> Self {
        Self {
            header: Some(&("retry-after", "5")),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many at once", detail)
        }
    }

    /// The session's controller answered with a failure.
    pub(super) fn backend(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "backend", "The backend failed", detail)
    }

    /// Nothing can be done now; later it may.
    pub(crate) fn unavailable(kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            header: Some(&("retry-after", "5")),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, "Not available", detail)
        }
    }

    /// The session's own server cannot be reached or did not answer properly.
    pub(crate) fn bad_gateway(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "bad-gateway", "The session does not answer", detail)
    }

    /// This is served over another protocol only.
    pub(crate) fn upgrade_required(detail: &str) -> Self {
        Self {
            header: Some(&("upgrade", "websocket")),
            ..Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade-required", "Not over plain HTTP", detail)
        }
    }

    /// What kind of problem it is, for programs.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// The fields at fault.
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// The quotas that would be exceeded.
    pub(crate) fn exceeded(&self) -> &[QuotaExcess] {
        &self.exceeded
    }

    /// After how long it makes sense to try again, if it does.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let (_, seconds) = self.header.filter(|(name, _)| *name == "retry-after")?;
        seconds.parse().ok().map(Duration::from_secs)
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What is wrong, in short and at length.
    pub(crate) fn text(&self) -> (&str, &str) {
        (self.title, &self.detail)
    }

    /// A fault of the server. What it was is in the log, under the request's id.
    pub(crate) fn internal() -> Self {
        let detail = "the server failed; its log says more under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// The fields at fault.
    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    fn with(mut self, errors: Vec<FieldError>) -> Self {
        let all: Vec<_> = errors
            .iter()
            .map(|error| {
                if error.field.is_empty() {
                    error.message.clone()
                } else {
                    format!("{}: {}", error.field, error.message)
                }
            })
            .collect();
        self.detail = all.join("; ");
        self.errors = errors;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed");
        match error {
            StoreError::Unavailable { outage, .. } => {
                let detail = outage.explanation();
                match outage {
                    Outage::Unreachable => Self::unavailable("database-unreachable", detail),
                    Outage::Busy => Self::unavailable("database-busy", detail),
                    Outage::Full => Self::unavailable("database-full", detail),
                    Outage::ReadOnly => Self::unavailable("database-read-only", detail),
                    Outage::Uncertain => Self::unavailable("database-uncertain", detail),
                }
            }
            StoreError::NulCharacter => {
                Self::invalid(vec![FieldError::new("", "the character U+0000 cannot be stored")])
            }
            StoreError::Closed => Self::unavailable("stopping", "the server is stopping"),
            _ => Self::internal(),
        }
    }
}
