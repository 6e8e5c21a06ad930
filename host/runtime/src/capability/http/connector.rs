//! The one way to a server: for pooled and for pinned connections, straight or through a proxy, with or without TLS.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use super::tls::TlsPolicy;
use crate::capability::text::chain;

/// Time for a connection: name, TCP, proxy and TLS. A server that needs longer is as good as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Silence on a connection after which the system asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where a server is.
#[derive(Debug)]
pub(super) enum Target {
    /// A unix socket.
    Unix(PathBuf),
    /// A host and port.
    Tcp {
        /// Scheme and authority.
        uri: Uri,
        /// None = plain HTTP.
        tls: Option<Box<TlsPolicy>>,
        /// An address elsewhere is refused, whatever the name resolves to.
        loopback_only: bool,
        /// A proxy that takes CONNECT.
        proxy: Option<Uri>,
    },
}

/// Makes connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    target: Arc<Target>,
    /// Whether pooled connections offer HTTP/2.
    http2: bool,
}

/// No connection came about, so that nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{path} cannot be reached: {source}")]
    Unix { path: PathBuf, source: io::Error },
    #[error("{authority} cannot be reached: {reason}")]
    Tcp { authority: String, reason: String },
    #[error("the proxy {authority} gives no connection: {reason}")]
    Proxy { authority: String, reason: String },
    #[error("{authority} is not on this machine, and plain HTTP stays on it")]
    NotLoopback { authority: String },
    #[error("TLS with {authority} failed: {reason}")]
    Tls { authority: String, reason: String },
    #[error("tls.{0}")]
    TlsFiles(String),
    #[error("no connection within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl Connector {
    pub(super) fn new(target: Target, http2: bool) -> Self {
        Self { target: Arc::new(target), http2 }
    }

    /// A connection that speaks HTTP/1.1.
    pub(super) async fn connect_http1(&self) -> Result<Stream, ConnectError> {
        connect(&self.target, false).await
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Stream, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    /// The address is the endpoint's, whatever the request says.
    fn call(&mut self, _: Uri) -> Self::Future {
        let (target, http2) = (Arc::clone(&self.target), self.http2);
        async move { connect(&target, http2).await }.boxed()
    }
}

async fn connect(target: &Target, http2: bool) -> Result<Stream, ConnectError> {
    tokio::time::timeout(CONNECT_TIMEOUT, connect_unlimited(target, http2))
        .await
        .unwrap_or(Err(ConnectError::TimedOut(CONNECT_TIMEOUT)))
}

async fn connect_unlimited(target: &Target, http2: bool) -> Result<Stream, ConnectError> {
    let (uri, tls, loopback_only, proxy) = match target {
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).await;
            let stream = stream.map_err(|source| ConnectError::Unix { path: path.clone(), source })?;
            return Ok(Stream::plain(stream));
        }
        Target::Tcp { uri, tls, loopback_only, proxy } => (uri, tls, *loopback_only, proxy),
    };
    let authority = || uri.authority().map(ToString::to_string).unwrap_or_default();
    let tcp = match proxy {
        None => {
            let reason = |error| ConnectError::Tcp { authority: authority(), reason: chain(&error) };
            tcp_connector().call(uri.clone()).await.map_err(reason)?
        }
        Some(proxy) => {
            let reason = |error| ConnectError::Proxy {
                authority: proxy.authority().map(ToString::to_string).unwrap_or_default(),
                reason: chain(&error),
            };
            Tunnel::new(proxy.clone(), tcp_connector()).call(uri.clone()).await.map_err(reason)?
        }
    };
    let tcp: TcpStream = tcp.into_inner();
    if loopback_only && !tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) {
        return Err(ConnectError::NotLoopback { authority: authority() });
    }
    let Some(tls) = tls else { return Ok(Stream::plain(tcp)) };
    let (connector, name) = tls.connector(http2).await.map_err(ConnectError::TlsFiles)?;
    let stream = connector.connect(name, tcp).await;
    let stream = stream
        .map_err(|error| ConnectError::Tls { authority: authority(), reason: TlsPolicy::explain(&error) })?;
    let session = stream.get_ref().1;
    let (http2, end_point) =
        (session.alpn_protocol() == Some(b"h2"), TlsPolicy::server_end_point(session.peer_certificates()));
    Ok(Stream { io: TokioIo::new(Box::new(stream)), http2, end_point })
}

fn tcp_connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to a server.
pub(super) struct Stream {
    io: TokioIo<Box<dyn Io>>,
    http2: bool,
    end_point: Option<Vec<u8>>,
}

impl Stream {
    fn plain(stream: impl Io + 'static) -> Self {
        Self { io: TokioIo::new(Box::new(stream)), http2: false, end_point: None }
    }

    /// Its channel binding `tls-server-end-point`.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        self.end_point.clone()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }
}
