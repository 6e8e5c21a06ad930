//! What a running box shows: a small page and a WebSocket that echoes, on a loopback port of its own.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{Html, IntoResponse, Json, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::server;

/// The pages that are served.
#[derive(Default)]
pub(crate) struct Pages {
    open: HashMap<String, DropGuard>,
}

impl Pages {
    /// Serves a box's page; gives its port. None, and a line on standard error, where no port can be had.
    pub(crate) fn open(&mut self, name: &str) -> Option<u16> {
        let end = CancellationToken::new();
        match listen() {
            Ok((listener, port)) => {
                tokio::spawn(serve(listener, name.to_owned(), end.clone()));
                // One that is open already is closed by this.
                self.open.insert(name.to_owned(), end.drop_guard());
                Some(port)
            }
            Err(error) => {
                eprintln!("warning: `{name}` serves no page: {error}");
                None
            }
        }
    }

    /// Closes a box's page and all its connections.
    pub(crate) fn close(&mut self, name: &str) {
        self.open.remove(name);
    }
}

fn listen() -> std::io::Result<(TcpListener, u16)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((TcpListener::from_std(listener)?, port))
}

async fn serve(listener: TcpListener, name: String, end: CancellationToken) {
    let name: Arc<str> = name.into();
    let router = {
        let end = end.clone();
        Router::new().fallback(move |method, uri, headers, upgrade, body| {
            answer(Arc::clone(&name), end.clone(), method, uri, headers, upgrade, body)
        })
    };
    // Dropped with this function, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(server::connection(stream, router.clone()))),
                Err(error) => {
                    eprintln!("warning: a page is closed: {error}");
                    return;
                }
            },
        }
    }
}

async fn answer(
    name: Arc<str>,
    end: CancellationToken,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    body: Bytes,
) -> Response {
    if let Ok(upgrade) = upgrade {
        return upgrade.protocols(["binary"]).on_upgrade(move |socket| echo(socket, end));
    }
    if uri.path() == "/" {
        return Html(format!("<!doctype html><title>{name}</title><h1>{name}</h1>")).into_response();
    }
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    Json(json!({
        "box": &*name,
        "method": method.as_str(),
        "uri": uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    }))
    .into_response()
}

async fn echo(mut socket: WebSocket, end: CancellationToken) {
    loop {
        let message = tokio::select! {
            () = end.cancelled() => return,
            message = socket.recv() => message,
        };
        let Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) = message else {
            match message {
                // The library answers those by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                _ => return,
            }
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
