//! Connections to sessions. Where a session is, its controller is asked for every new connection: the port of a
//! session that was started again may be another session's by now.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use streamspace_proto::controller::v1 as proto;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::service::{Speech, main_service};
use super::tls::{TlsFault, Trust};
use super::way::{Site, Way};
use crate::control::Shared;
use crate::domain::{Endpoint, Generation, Session, SessionId, never_called};
use crate::fleet::CallError;
use crate::store::StoreError;

/// How long a session's server may take to accept, with the TLS handshake if there is one.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no connection. Never tells where the session is, nor how one logs in there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the session has changed")]
    Changed,
    #[error("its controller says: {}", .0.message)]
    Controller(CallError),
    #[error("its controller names no way to this service that could be taken")]
    NoWay,
    #[error("{0}, which is not supported yet")]
    Unsupported(&'static str),
    #[error("its controller names an address where no session can be")]
    Forbidden,
    #[error("it does not accept connections")]
    Refused,
    #[error("it does not accept connections in time")]
    TimedOut,
    #[error("{0}")]
    Tls(#[from] TlsFault),
    #[error("the server's database does not answer")]
    Store(#[from] StoreError),
}

/// A service of a session as it was at one generation: what pooled connections are kept under, so that none outlives
/// the wake of its session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) service: String,
}

impl Destination {
    pub(super) fn new(session: &Session, service: &str) -> Self {
        Self { session: session.id.clone(), generation: session.generation, service: service.to_owned() }
    }
}

/// Bytes to and from a session.
pub(super) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Connects to sessions.
pub(super) struct Connector {
    shared: Arc<Shared>,
    trust: Trust,
}

impl Connector {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, trust: Trust::default() }
    }

    /// Connects to a service where it is now.
    pub(super) async fn connect(
        &self,
        to: &Destination,
        speech: Speech,
    ) -> Result<(Stream, Site), ConnectError> {
        let (way, here) = self.way(to, speech).await?;
        let connecting = async {
            let stream = dial(&way.host, way.port, here).await?;
            // Key strokes and frames want to go at once; where that cannot be set they only go later.
            let _ = stream.set_nodelay(true);
            match &way.tls {
                None => Ok(Stream::Left(stream)),
                Some(tls) => Ok::<_, ConnectError>(Stream::Right(tls.over(stream).await?)),
            }
        };
        let stream = tokio::time::timeout(CONNECT_LIMIT, connecting).await;
        Ok((stream.map_err(|_| ConnectError::TimedOut)??, way.site))
    }

    /// Asks the controller. Also says whether it is on this machine.
    async fn way(&self, to: &Destination, speech: Speech) -> Result<(Way, bool), ConnectError> {
        let record = self.shared.store.session(&to.session).await?.ok_or(ConnectError::Changed)?;
        let session = record.session;
        if session.generation != to.generation {
            return Err(ConnectError::Changed);
        }
        let (controller, _) = session.placed.as_ref().ok_or(ConnectError::Changed)?;
        let known = self.shared.store.controller(controller).await?.ok_or(ConnectError::Changed)?;
        let here = !known.remote || Endpoint::parse(&known.endpoint).is_ok_and(|place| place.is_loopback());
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
        let limit = self.shared.config.call_timeout;
        let points = client.ways(request, main_service(&session), limit).await.map_err(|error| {
            // The controller's words may quote what it was given.
            let message = session.spec.scrub(&error.message);
            ConnectError::Controller(CallError { message, ..error })
        })?;
        let point = points.into_iter().find(|point| point.service == to.service);
        Ok((Way::read(point.ok_or(ConnectError::NoWay)?, speech, &self.trust)?, here))
    }
}

/// Connects to the first address that accepts. A name is looked up once: what is checked is what is connected to.
/// What a controller elsewhere calls its own machine would be this one, and the session somebody else's.
async fn dial(host: &str, port: u16, here: bool) -> Result<TcpStream, ConnectError> {
    let found: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|_| ConnectError::Refused)?.collect();
    let mut error = ConnectError::Refused;
    for address in found {
        let own_machine = address.ip().to_canonical().is_loopback();
        if never_called(address.ip()).is_some() || (own_machine && !here) {
            error = ConnectError::Forbidden;
        } else if let Ok(stream) = TcpStream::connect(address).await {
            return Ok(stream);
        }
    }
    Err(error)
}
