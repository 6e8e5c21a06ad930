//! HTTP/1.1 on a unix socket and on a loopback port, with the right to hang up.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::future::Either;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tower::ServiceExt as _;

/// An answer that is none: the connection is closed instead.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(crate) struct Cut;

impl IntoResponse for Cut {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Serves until the process ends. Says on standard output where, one line each.
pub(crate) async fn serve(
    router: Router,
    socket: Option<&Path>,
    listen: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let unix = match socket {
        Some(path) => {
            let listener = bind_unix(path).await?;
            println!("serving on unix://{}", path.display());
            Either::Left(serve_unix(listener, router.clone()))
        }
        None => Either::Right(pending()),
    };
    let tcp = match listen {
        Some(address) => {
            ensure!(address.ip().is_loopback(), "--listen: {address} is not a loopback address");
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("{address} cannot be served on"))?;
            println!("serving on http://{}", listener.local_addr()?);
            Either::Left(serve_tcp(listener, router))
        }
        None => Either::Right(pending()),
    };
    tokio::select! {
        ended = unix => ended,
        ended = tcp => ended,
    }
}

/// A socket file without a process behind it is what a kill leaves.
async fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        bail!("another process serves on {}", path.display());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} is in the way", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("{} cannot be served on", path.display()))
}

async fn serve_unix(listener: UnixListener, router: Router) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("no connection can be accepted")?;
        tokio::spawn(connection(stream, router.clone()));
    }
}

async fn serve_tcp(listener: TcpListener, router: Router) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("no connection can be accepted")?;
        stream.set_nodelay(true).ok();
        tokio::spawn(connection(stream, router.clone()));
    }
}

/// Serves one connection. That it ends is all there is to say about it: many of them are cut on purpose.
pub(crate) async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let request: Request = request.map(Body::new);
            let response = router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
            match response.extensions().get::<Cut>() {
                Some(cut) => Err(*cut),
                None => Ok(response),
            }
        }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await.ok();
}
