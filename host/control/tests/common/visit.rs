//! Browsers and programs on their way to the application of a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::ws::{Message as Served, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use streamspace_control::ControlConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::live::PATIENCE;
use super::{Backend, Server, config};

/// Tells what it was asked.
async fn echo(State(asked): State<Arc<AtomicU32>>, request: Request) -> Response {
    asked.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let headers: Vec<_> =
        parts.headers.iter().map(|(name, value)| json!([name.as_str(), value.to_str().unwrap()])).collect();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let told = json!({
        "method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8(body.to_vec()).unwrap(),
    });
    axum::Json(told).into_response()
}

async fn chat(upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["chat"]).on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if let Served::Text(text) = message {
                socket.send(Served::Text(format!("heard {text}").into())).await.unwrap();
            }
        }
    })
}

/// An application of a session.
pub async fn application() -> (u16, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let (port, _) = serve(router(&asked)).await;
    (port, asked)
}

/// What an application of a session answers with.
pub fn router(asked: &Arc<AtomicU32>) -> Router {
    let moved = async || {
        let headers = [
            ("location", "/login?x=1"),
            ("set-cookie", "app=1; Path=/; Domain=example.org"),
            ("strict-transport-security", "max-age=1"),
        ];
        (StatusCode::FOUND, headers).into_response()
    };
    Router::new()
        .route("/chat", any(chat))
        .route("/moved", get(moved))
        .fallback(echo)
        .with_state(Arc::clone(asked))
}

/// Serves until the token is cancelled; then all connections are closed.
pub async fn serve(router: Router) -> (u16, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await.unwrap() });
    (port, stop)
}

/// The server with a backend, behind a listener.
pub struct Stage {
    pub server: Server,
    pub backend: Backend,
    pub address: SocketAddr,
    pub http: reqwest::Client,
    pub folder: tempfile::TempDir,
}

impl Stage {
    pub async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::with(config(folder.path()), folder).await
    }

    pub async fn with(config: ControlConfig, folder: tempfile::TempDir) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let backend = Backend::default();
        let server = Server::start_with(config, Some(&backend)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = server.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { server, backend, address, http, folder }
    }

    /// A running session with this application behind a service.
    pub async fn session(&self, spec: Value, service: &str, port: u16) -> String {
        let answer = self.server.post("/api/v1/sessions", &json!({ "spec": spec })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        let id = answer.id();
        self.backend.with(|state| state.access.insert((id.clone(), service.to_owned()), port));
        self.server.phase(&id, "Running").await;
        id
    }

    pub async fn web_session(&self, port: u16) -> String {
        let spec = json!({"base_image": "app", "webapp": {"enabled": true, "port": 3000}});
        self.session(spec, "web", port).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(self.url(path)).bearer_auth(&self.server.token)
    }

    /// Sends a request as it is written, with a token and what ends the head, and reads the answer to the end.
    pub async fn raw(&self, head: &str, body: &str) -> String {
        let close = if head.contains("Connection:") { "" } else { "Connection: close\r\n" };
        let (mut stream, mut answer) = (self.written(&format!("{head}{close}"), body).await, Vec::new());
        let reading = stream.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The same, where the connection stays: reads up to these bytes.
    pub async fn raw_until(&self, head: &str, end: &str) -> String {
        let (mut stream, mut answer) = (self.written(head, "").await, String::new());
        while !answer.contains(end) {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(read, 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        answer
    }

    async fn written(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let (host, token) = (self.address, &self.server.token);
        let request = format!("{head}Host: {host}\r\nAuthorization: Bearer {token}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// What a browser gets by opening a session.
    pub async fn cookie(&self, id: &str) -> String {
        let ticket = self.server.post(&format!("/api/v1/sessions/{id}/tickets"), &Value::Null).await;
        assert_eq!(ticket.status, StatusCode::CREATED, "{}", ticket.text);
        let opened = self.http.get(self.url(ticket.json()["url"].as_str().unwrap())).send().await.unwrap();
        assert_eq!(opened.status(), StatusCode::SEE_OTHER);
        assert_eq!(header(opened.headers(), "location"), format!("/s/{id}/"));
        let cookie = header(opened.headers(), "set-cookie").to_owned();
        for part in [format!("Path=/s/{id}/"), "HttpOnly".into(), "SameSite=Lax".into()] {
            assert!(cookie.contains(&part), "{cookie}");
        }
        cookie.split(';').next().unwrap().to_owned()
    }
}

pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// The value of a header as the application got it.
pub fn got<'a>(told: &'a Value, name: &str) -> Option<&'a str> {
    let headers = told["headers"].as_array().unwrap();
    headers.iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str())
}

/// A desktop that greets like RFB and sends back what it gets.
pub async fn desktop() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut viewer, _): (TcpStream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                viewer.write_all(b"RFB 003.008\n").await.unwrap();
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = viewer.read(&mut buffer).await {
                    viewer.write_all(&buffer[..read]).await.unwrap();
                }
            });
        }
    });
    port
}
