//! What is served beside ControllerService.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::Router;
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::Service;

/// A connection on which nothing comes is asked for a sign of life so often.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// A service, with grpc.health.v1 and reflection beside it, which are everybody's.
pub(super) fn around<S>(
    tls: Option<ServerTlsConfig>,
    service: S,
    health: HealthServer<impl Health>,
) -> anyhow::Result<Router>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let mut server = Server::builder().http2_keepalive_interval(Some(PING_INTERVAL));
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(streamspace_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(server
        .add_service(service)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        // What older tools ask.
        .add_service(reflection().build_v1alpha()?))
}
