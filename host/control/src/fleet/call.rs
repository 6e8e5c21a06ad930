//! Calls to a controller, with their time limit and their errors in one form.

use std::error::Error as _;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use streamspace_proto::controller::v1 as proto;
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use tonic::body::Body;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;
use tower::Service;

use super::ControllerTransport;
use super::metrics::ControllerCalls;
use crate::domain::Epoch;

/// The controller ends a call at its deadline and says so; only if it does not, the call is given up here.
const GRACE: Duration = Duration::from_secs(2);

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CallError {
    /// The kind of failure.
    pub(crate) code: Code,
    /// One word for programs: the controller's own where it gave one. As it came, like the message: see
    /// [`SessionSpec::scrub`](crate::domain::SessionSpec::scrub).
    pub(crate) reason: String,
    /// The controller's own words.
    pub(crate) message: String,
    /// How long it asks to wait before the next try.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the controller itself said it. Otherwise it may never have heard of the call.
    pub(crate) from_controller: bool,
}

impl CallError {
    pub(crate) fn unattached() -> Self {
        Self {
            code: Code::Unavailable,
            reason: "ControllerNotConnected".to_owned(),
            message: "the controller is not connected to this server".to_owned(),
            retry_after: None,
            from_controller: false,
        }
    }

    fn local(code: Code, reason: &str, message: String) -> Self {
        Self { code, reason: reason.to_owned(), message, retry_after: None, from_controller: false }
    }

    /// What a reply that cannot be used amounts to.
    pub(crate) fn unusable_reply(message: String) -> Self {
        Self { from_controller: true, ..Self::local(Code::Internal, "UnusableReply", message) }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let retry_after = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        let field = status
            .get_details_bad_request()
            .and_then(|bad| bad.field_violations.into_iter().next())
            .map(|violation| violation.field)
            .filter(|field| !field.is_empty());
        let message = match field {
            Some(field) if !status.message().contains(&field) => format!("{field}: {}", status.message()),
            _ => status.message().to_owned(),
        };
        // What the transport says has a cause; a status that came over the wire has none. Proxies and transports
        // also say a bare "unavailable", and then nothing tells whose word it is.
        let from_transport = status.source().is_some() || status.code() == Code::Unavailable;
        let from_controller = info.is_some() || !from_transport;
        let reason = info
            .map(|info| info.reason)
            .filter(|reason| !reason.is_empty())
            .unwrap_or_else(|| format!("{:?}", status.code()));
        Self { code: status.code(), reason, message, retry_after, from_controller }
    }
}

/// The transport with an error of a plain type: the compiler cannot prove that a call with a boxed one may
/// move between threads.
#[derive(Debug, Clone)]
struct Wire(ControllerTransport);

/// What went wrong below gRPC.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WireError(#[source] tower::BoxError);

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = WireError;
    type Future = BoxFuture<'static, Result<Self::Response, WireError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WireError>> {
        self.0.poll_ready(context).map_err(WireError)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request).map_err(WireError).boxed()
    }
}

/// Calls one controller.
#[derive(Debug, Clone)]
pub(crate) struct ControllerClient {
    inner: ControllerServiceClient<Wire>,
    epoch: Epoch,
    calls: ControllerCalls,
}

/// One method for one RPC: all are called alike.
macro_rules! rpc {
    ($name:ident, $rpc:ident, $request:ty, $response:ty) => {
        pub(crate) async fn $name(
            &self,
            request: $request,
            timeout: Duration,
        ) -> Result<$response, CallError> {
            let mut client = self.inner.clone();
            let request = limited(request, timeout);
            streamspace_failpoint::hit_on("call.begun", stringify!($rpc));
            let call = bounded(timeout, Box::pin(async move { client.$rpc(request).await }));
            let answer = self.calls.measured(stringify!($rpc), call).await;
            streamspace_failpoint::hit_on("call.ended", stringify!($rpc));
            answer
        }
    };
}

impl ControllerClient {
    pub(super) fn new(transport: ControllerTransport, calls: ControllerCalls) -> Self {
        Self { inner: ControllerServiceClient::new(Wire(transport)), epoch: Epoch::NONE, calls }
    }

    /// The same for calls under an epoch.
    pub(super) fn under(&self, epoch: Epoch) -> Self {
        Self { epoch, ..self.clone() }
    }

    /// What the controller tells our calls from those of a predecessor by.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    rpc!(create, create_session, proto::CreateSessionRequest, proto::CreateSessionResponse);
    rpc!(delete, delete_session, proto::DeleteSessionRequest, proto::DeleteSessionResponse);
    rpc!(hibernate, hibernate_session, proto::HibernateSessionRequest, proto::HibernateSessionResponse);
    rpc!(wake, wake_session, proto::WakeSessionRequest, proto::WakeSessionResponse);
    rpc!(status, get_session_status, proto::GetSessionStatusRequest, proto::SessionStatusResponse);
    rpc!(list, list_sessions, proto::ListSessionsRequest, proto::ListSessionsResponse);
    rpc!(metrics, get_session_metrics, proto::GetSessionMetricsRequest, proto::SessionMetricsResponse);
    rpc!(access, get_session_access, proto::GetSessionAccessRequest, proto::SessionAccessResponse);

    /// Opens a stream of output. The limit is for the opening; only the reader ends the stream, by dropping it.
    pub(crate) async fn logs(
        &self,
        request: proto::GetSessionLogsRequest,
        timeout: Duration,
    ) -> Result<Streaming<proto::LogEntry>, CallError> {
        let mut client = self.inner.clone();
        let request = Request::new(request);
        let call = bounded(timeout, Box::pin(async move { client.get_session_logs(request).await }));
        self.calls.measured("get_session_logs", call).await
    }

    rpc!(get, get_session, proto::GetSessionRequest, proto::GetSessionResponse);

    /// Opens the stream of events. The time limit is for its beginning; it has no end of its own.
    pub(crate) async fn watch(
        &self,
        request: proto::WatchSessionsRequest,
        timeout: Duration,
    ) -> Result<Streaming<proto::SessionEvent>, CallError> {
        let mut client = self.inner.clone();
        let call = bounded(timeout, Box::pin(async move { client.watch_sessions(request).await }));
        self.calls.measured("watch_sessions", call).await
    }

    pub(super) async fn health_check(
        &self,
        timeout: Duration,
    ) -> Result<proto::HealthCheckResponse, CallError> {
        let mut client = self.inner.clone();
        let request = limited(proto::HealthCheckRequest {}, timeout);
        let call = bounded(timeout, Box::pin(async move { client.health_check(request).await }));
        self.calls.measured("health_check", call).await
    }

    pub(super) async fn capabilities(
        &self,
        timeout: Duration,
    ) -> Result<proto::CapabilitiesResponse, CallError> {
        let mut client = self.inner.clone();
        let request = limited(proto::GetCapabilitiesRequest {}, timeout);
        let call = bounded(timeout, Box::pin(async move { client.get_capabilities(request).await }));
        self.calls.measured("get_capabilities", call).await
    }
}

fn limited<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

async fn bounded<T>(
    timeout: Duration,
    call: BoxFuture<'static, Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    // The gRPC library panics on some malformed answers; a broken controller must not end the caller's task.
    match tokio::time::timeout(timeout + GRACE, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(Ok(response))) => Ok(response.into_inner()),
        Ok(Ok(Err(status))) => Err(status.into()),
        Ok(Err(_)) => Err(CallError::unusable_reply("the answer is no valid gRPC".to_owned())),
        Err(_) => Err(CallError::local(
            Code::DeadlineExceeded,
            "DeadlineExceeded",
            format!("no answer within {} s", timeout.as_secs_f32()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_controllers_own_words_are_kept() {
        let mut details = ErrorDetails::with_error_info("PLUGIN_TRAPPED", "streamspace.controller", []);
        details.set_retry_info(Some(Duration::from_secs(3)));
        let error = CallError::from(Status::with_error_details(Code::Unavailable, "out of fuel", details));
        assert_eq!((error.reason.as_str(), error.message.as_str()), ("PLUGIN_TRAPPED", "out of fuel"));
        assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
        assert!(error.from_controller);
    }

    #[test]
    fn a_field_at_fault_is_named() {
        let details = ErrorDetails::with_bad_request_violation("spec.base_image", "no such image");
        let error =
            CallError::from(Status::with_error_details(Code::InvalidArgument, "no such image", details));
        assert_eq!(error.message, "spec.base_image: no such image");
        assert_eq!(error.reason, "InvalidArgument");
    }

    #[test]
    fn a_bare_unavailable_is_not_the_controllers_word() {
        assert!(!CallError::from(Status::unavailable("connection refused")).from_controller);
        assert!(CallError::from(Status::invalid_argument("x")).from_controller);
        assert!(CallError::from(Status::unknown("x")).from_controller);
        let cut_off = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset");
        assert!(!CallError::from(Status::from_error(Box::new(cut_off))).from_controller);
    }
}
