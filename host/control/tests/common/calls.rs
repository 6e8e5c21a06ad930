//! gRPC clients of the server under test, without a network.

use std::fmt::Debug;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use streamspace_proto::api::v1::admin_service_client::AdminServiceClient;
use streamspace_proto::api::v1::session_service_client::SessionServiceClient;
use streamspace_proto::api::v1::template_service_client::TemplateServiceClient;
use streamspace_proto::api::v1::watch_service_client::WatchServiceClient;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::Server;
use super::live::PATIENCE;

/// Puts a token into every call, if there is one.
#[derive(Clone)]
pub struct Token(Option<String>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Ok(request)
    }
}

pub type Channel = InterceptedService<axum::Router, Token>;

/// Clients with one token.
pub struct Clients {
    pub sessions: SessionServiceClient<Channel>,
    pub templates: TemplateServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
    pub watch: WatchServiceClient<Channel>,
}

impl Clients {
    /// The administrator's.
    pub fn of(server: &Server) -> Self {
        Self::with(server, Some(&server.token))
    }

    /// Somebody's.
    pub fn with(server: &Server, token: Option<&str>) -> Self {
        let channel = || InterceptedService::new(server.router.clone(), Token(token.map(str::to_owned)));
        Self {
            sessions: SessionServiceClient::new(channel()),
            templates: TemplateServiceClient::new(channel()),
            admin: AdminServiceClient::new(channel()),
            watch: WatchServiceClient::new(channel()),
        }
    }
}

/// The next message of a stream; `None` = it has ended.
pub async fn next<T>(
    stream: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
) -> Option<Result<T, Status>> {
    tokio::time::timeout(PATIENCE, stream.next()).await.expect("nothing comes")
}

/// The code and the reason of a refusal.
pub fn refusal<T: Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no details: {status:?}"));
    assert_eq!(info.domain, "streamspace.api");
    let kind = info.reason.to_lowercase().replace('_', "-");
    assert_eq!(info.metadata["type"], format!("urn:streamspace:problem:{kind}"));
    (status.code(), info.reason)
}

/// The fields that a refusal names.
pub fn faults<T: Debug>(answer: Result<T, Status>) -> Vec<String> {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("no details: {status:?}"));
    details.field_violations.into_iter().map(|fault| fault.field).collect()
}

/// A length of time on the wire.
pub fn seconds(seconds: u64) -> Option<prost_types::Duration> {
    Duration::from_secs(seconds).try_into().ok()
}
