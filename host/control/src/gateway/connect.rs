//! Connections to sessions. Where a session is, its controller is asked for every new connection: the port of a
//! session that was started again may be another session's by now.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use streamspace_proto::controller::v1 as proto;
use streamspace_proto::controller::v1::access_point::Target;
use tokio::net::TcpStream;

use crate::control::Shared;
use crate::domain::{Generation, Session, SessionId};
use crate::fleet::CallError;
use crate::store::StoreError;

/// How long a session's server may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no connection. Never tells where the session is.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the session has changed")]
    Changed,
    #[error("its controller says: {}", .0.message)]
    Controller(CallError),
    #[error("its controller names no way to this service")]
    NoWay,
    #[error("its controller names a kind of way that is not offered yet")]
    Unsupported,
    #[error("it does not accept connections")]
    Refused(#[source] std::io::Error),
    #[error("it does not accept connections in time")]
    TimedOut,
    #[error("the server's database does not answer")]
    Store(#[from] StoreError),
}

/// A service of a session as it was at one generation. As the authority of a URL it is what pooled connections
/// are kept under, so that none outlives the wake of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) service: String,
}

impl Destination {
    pub(super) fn new(session: &Session, service: &str) -> Self {
        Self { session: session.id.clone(), generation: session.generation, service: service.to_owned() }
    }

    /// The authority that stands for it.
    pub(super) fn authority(&self) -> String {
        format!("{}.{}.{}", hex::encode(&self.service), self.generation.get(), self.session)
    }

    fn parse(authority: &str) -> Option<Self> {
        let (service, rest) = authority.split_once('.')?;
        let (generation, session) = rest.split_once('.')?;
        Some(Self {
            session: SessionId::parse(session).ok()?,
            generation: Generation::from_db(generation.parse().ok()?),
            service: String::from_utf8(hex::decode(service).ok()?).ok()?,
        })
    }
}

/// Connects to sessions; what the HTTP client gets its connections from.
#[derive(Clone)]
pub(super) struct Connector {
    shared: Arc<Shared>,
}

impl Connector {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Connects to a service where it is now.
    pub(super) async fn connect(&self, to: &Destination) -> Result<TcpStream, ConnectError> {
        let record = self.shared.store.session(&to.session).await?.ok_or(ConnectError::Changed)?;
        let session = record.session;
        if session.generation != to.generation {
            return Err(ConnectError::Changed);
        }
        let (controller, _) = session.placed.as_ref().ok_or(ConnectError::Changed)?;
        let client = self
            .shared
            .fleet
            .client(controller)
            .ok_or_else(|| ConnectError::Controller(CallError::unattached()))?;
        let request = proto::GetSessionAccessRequest {
            session_id: session.id.to_string(),
            node_id: session.node_id.clone(),
            service: to.service.clone(),
        };
        let answer = client.access(request, self.shared.config.call_timeout).await.map_err(|error| {
            // The controller's words may quote what it was given.
            let message = session.spec.scrub(&error.message);
            ConnectError::Controller(CallError { message, ..error })
        })?;
        let point = answer.points.into_iter().find(|point| point.service == to.service);
        let target = point.and_then(|point| point.target).ok_or(ConnectError::NoWay)?;
        let (host, port) = place(target)?;
        let connecting = TcpStream::connect((host.as_str(), port));
        let stream = match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(ConnectError::Refused(error)),
            Err(_) => return Err(ConnectError::TimedOut),
        };
        // Key strokes and frames want to go at once; where that cannot be set they only go later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// The host and port behind a way.
fn place(target: Target) -> Result<(String, u16), ConnectError> {
    match target {
        Target::Tcp(target) => {
            let port = u16::try_from(target.port).map_err(|_| ConnectError::NoWay)?;
            Ok((target.host, port))
        }
        Target::Http(target) => {
            let url: Uri = target.base_url.parse().map_err(|_| ConnectError::NoWay)?;
            // TLS, a path before the session's own, and headers of the controller's.
            let plain = url.scheme_str() == Some("http")
                && url.path() == "/"
                && url.query().is_none()
                && target.headers.is_empty();
            if !plain {
                return Err(ConnectError::Unsupported);
            }
            let host = url.host().ok_or(ConnectError::NoWay)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok((host.to_owned(), url.port_u16().unwrap_or(80)))
        }
        Target::Tunnel(_) => Err(ConnectError::Unsupported),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        async move {
            let destination = uri.authority().and_then(|authority| Destination::parse(authority.as_str()));
            let destination = destination.ok_or(ConnectError::NoWay)?;
            Ok(TokioIo::new(connector.connect(&destination).await?))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_a_place_like_any_other() {
        let http = |base_url: &str, headers: &[(&str, &str)]| {
            let headers =
                headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            place(Target::Http(proto::HttpTarget { base_url: base_url.to_owned(), headers }))
        };
        for (url, host, port) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("http://127.0.0.1:8080/", "127.0.0.1", 8080),
            ("http://[::1]:8080", "::1", 8080),
            ("http://session.internal", "session.internal", 80),
        ] {
            assert_eq!(http(url, &[]).unwrap(), (host.to_owned(), port), "{url}");
        }
        for url in ["https://127.0.0.1:8443", "http://127.0.0.1:8080/base", "http://127.0.0.1:8080/?a=b"] {
            assert!(matches!(http(url, &[]), Err(ConnectError::Unsupported)), "{url}");
        }
        let with_headers = http("http://127.0.0.1:8080", &[("authorization", "Basic x")]);
        assert!(matches!(with_headers, Err(ConnectError::Unsupported)));
        assert!(matches!(http("no url", &[]), Err(ConnectError::NoWay)));
    }

    #[test]
    fn a_destination_comes_back_out_of_its_authority() {
        for service in ["web", "My Port/1", "ü"] {
            let (session, generation) = (SessionId::generate(), Generation::FIRST.next());
            let destination = Destination { session, generation, service: service.to_owned() };
            let uri: Uri = format!("http://{}/x", destination.authority()).parse().unwrap();
            assert_eq!(Destination::parse(uri.authority().unwrap().as_str()), Some(destination));
        }
    }
}
