//! The listener that the API and the gateway are served on.

use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A connection on which no whole head of a request arrives for so long is closed, whether its client is slow or has
/// nothing to ask: every open connection takes one of the process's file descriptors.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// HTTP/2 has no such limit: there the other end has to show that it is alive.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// When there is no descriptor left for another connection: until some have ended.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(1);

/// Serves until it is told to stop, and then until the requests under way have ended.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_within(HEAD_TIMEOUT, listener, router, stop).await;
}

async fn serve_within(
    head_timeout: Duration,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head_timeout);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL).enable_connect_protocol();
    let service = TowerToHyperService::new(router);
    let connections = GracefulShutdown::new();
    while let Some(stream) = stop.run_until_cancelled(accept(&listener)).await {
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service.clone());
        let connection = connections.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection. What a desktop says is small and has to go out at once.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        let accepted = match listener.accept().await {
            Ok((stream, _)) => stream.set_nodelay(true).map(|()| stream),
            Err(error) => Err(error),
        };
        match accepted {
            Ok(stream) => return stream,
            Err(error) if is_the_clients(&error) => {
                tracing::debug!(%error, "a connection did not come about")
            }
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::InvalidInput
    )
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_head_that_does_not_end_ends_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, router) = (CancellationToken::new(), Router::new());
        let serving = tokio::spawn(serve_within(Duration::from_millis(100), listener, router, stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n").await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "the connection is open: {}", String::from_utf8_lossy(&answer));
        stop.cancel();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_request_under_way_ends_before_the_server_does() {
        let (begun, may_end) = (CancellationToken::new(), CancellationToken::new());
        let slow = {
            let (begun, may_end) = (begun.clone(), may_end.clone());
            move || async move {
                begun.cancel();
                may_end.cancelled().await;
                "whole"
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Router::new().route("/", get(slow)), stop.clone()));
        let request = tokio::spawn(async move { reqwest::get(url).await.unwrap().text().await.unwrap() });
        begun.cancelled().await;
        stop.cancel();
        may_end.cancel();
        assert_eq!(request.await.unwrap(), "whole");
        serving.await.unwrap();
    }
}
