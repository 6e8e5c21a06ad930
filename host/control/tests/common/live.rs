//! The server on a real listener, callers with other tokens, and a WebSocket.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub use super::database::sql;
use super::{Answer, Server, simple};

/// Longer than anything takes that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Serves on a port of the loopback address.
pub async fn listen(server: &Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// Makes a user with this name, role and token.
pub async fn user(data: &Path, name: &str, role: &str, token: &str) {
    let at = "2026-01-01T00:00:00+00:00";
    let hash = hex::encode(Sha256::digest(token));
    sql(data, &format!("INSERT INTO users (id, username, role, created_at, updated_at) VALUES ('{name}', '{name}', '{role}', '{at}', '{at}')")).await;
    sql(data, &format!("INSERT INTO api_tokens (token_hash, id, name, user_id, role, created_by, created_at) VALUES ('{hash}', 'tok-{name}', 't', '{name}', '{role}', '{name}', '{at}')")).await;
}

/// A request with another token than the administrator's.
pub async fn get_as(server: &Server, token: &str, path: &str) -> Answer {
    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
    server.send(request.body(Body::empty()).unwrap()).await
}

/// Makes a session of a user, and returns its id once it runs.
pub async fn running(server: &Server, user: &str) -> String {
    let mut body = simple();
    body["user_id"] = json!(user);
    let created = server.post("/api/v1/sessions?wait=30s", &body).await;
    assert_eq!(created.json()["phase"], "Running", "{}", created.text);
    created.id()
}

/// A listener to events.
pub struct Listener {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Listener {
    /// Opens `/api/v1/ws` with these headers.
    pub async fn open(
        address: SocketAddr,
        query: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{address}/api/v1/ws{query}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket })
    }

    /// The status with which the opening is answered: 101 if it is let in.
    pub async fn refusal(address: SocketAddr, query: &str, headers: &[(&'static str, String)]) -> u16 {
        match Self::open(address, query, headers).await {
            Ok(_) => 101,
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(other) => panic!("{other}"),
        }
    }

    /// Opens it with a token in the header.
    pub async fn with_token(address: SocketAddr, query: &str, token: &str) -> Self {
        Self::open(address, query, &[("authorization", format!("Bearer {token}"))]).await.unwrap()
    }

    async fn message(&mut self) -> Message {
        let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        message.expect("nothing is heard").expect("the connection ended").unwrap()
    }

    /// The next message with JSON in it.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Events up to one that is as wanted, that one included.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if wanted(all.last().unwrap()) {
                return all;
            }
        }
    }

    /// How the server closes, whatever it says before.
    pub async fn closed(&mut self) -> (CloseCode, String) {
        loop {
            if let Message::Close(frame) = self.message().await {
                let frame = frame.unwrap();
                return (frame.code, frame.reason.to_string());
            }
        }
    }

    /// Leaves.
    pub async fn close(mut self) {
        self.socket.send(Message::Close(None)).await.unwrap();
    }
}
