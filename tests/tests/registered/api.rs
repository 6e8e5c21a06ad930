//! An API server made up for the tests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use serde_json::{Value, json};
use streamspace_call_auth::{Jwks, SigningKey};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The only join token.
pub const JOIN_TOKEN: &str = "ssj_let-me-in";

/// What it answers, and what it was sent.
pub struct Said {
    /// Which controller it takes every process for.
    pub id: String,
    pub epoch: u64,
    pub role: &'static str,
    pub state: &'static str,
    pub interval: &'static str,
    pub lease: &'static str,
    /// Keys that it names.
    pub keys: Vec<Arc<SigningKey>>,
    /// What it answers instead of anything else …
    pub refusal: Option<StatusCode>,
    /// … and what to registrations only.
    pub closed: Option<StatusCode>,
    /// How long tokens are good, as it says.
    pub token_life: Duration,
    /// It forgets every token that it gives.
    pub forgets: bool,
    /// Tokens that it takes.
    pub tokens: Vec<String>,
    /// Bodies, with the token that each came with.
    pub registrations: Vec<(String, Value)>,
    pub heartbeats: Vec<(String, Value)>,
    given: usize,
}

pub struct ApiServer {
    pub url: String,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    said: Arc<Mutex<Said>>,
    serving: Option<JoinHandle<()>>,
}

impl ApiServer {
    pub async fn start() -> Self {
        Self::with(None).await
    }

    pub async fn with_tls(config: ServerConfig) -> Self {
        Self::with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let said = Said {
            id: "ctrl-of-the-test".to_owned(),
            epoch: 5,
            role: "active",
            state: "serve",
            // Often, so that nobody waits for what is told by it.
            interval: "200ms",
            lease: "1h",
            keys: vec![Arc::new(SigningKey::generate().unwrap().0)],
            refusal: None,
            closed: None,
            token_life: Duration::from_secs(3600),
            forgets: false,
            tokens: Vec::new(),
            registrations: Vec::new(),
            heartbeats: Vec::new(),
            given: 0,
        };
        let mut server = Self {
            url: format!("{scheme}://{address}"),
            address,
            tls,
            said: Arc::new(Mutex::new(said)),
            serving: None,
        };
        server.serve(listener);
        server
    }

    /// Looks at what it says and was told, or changes it.
    pub fn said<T>(&self, look: impl FnOnce(&mut Said) -> T) -> T {
        look(&mut self.said.lock().unwrap())
    }

    pub fn key(&self) -> Arc<SigningKey> {
        self.said(|said| Arc::clone(&said.keys[0]))
    }

    /// Goes away, with all its connections.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Comes back at the same place.
    pub async fn start_again(&mut self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&mut self, listener: TcpListener) {
        let router = Router::new()
            .route("/api/v1/controllers/register", post(register))
            .route("/api/v1/controllers/{id}/heartbeat", post(heartbeat))
            .with_state(Arc::clone(&self.said));
        let (tls, service) = (self.tls.clone(), TowerToHyperService::new(router));
        self.serving = Some(tokio::spawn(async move {
            // They end with this task.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, service) = (tls.clone(), service.clone());
                connections.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    // A client that goes away, or does not believe the certificate, is no failure here.
                    let _ = match tls {
                        None => builder.serve_connection(TokioIo::new(stream), service).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await,
                            Err(_) => return,
                        },
                    };
                });
            }
        }));
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn bearer(headers: &HeaderMap) -> String {
    headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned()
}

fn problem(status: StatusCode) -> Response {
    (status, Json(json!({"title": "Refused", "detail": "the test wants it so"}))).into_response()
}

async fn register(
    State(said): State<Arc<Mutex<Said>>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut said = said.lock().unwrap();
    let token = bearer(&headers);
    said.registrations.push((token.clone(), body));
    if let Some(status) = said.refusal.or(said.closed) {
        return problem(status);
    }
    if token != JOIN_TOKEN && !said.tokens.contains(&token) {
        return problem(StatusCode::UNAUTHORIZED);
    }
    said.given += 1;
    let fresh = format!("ssc_{}", said.given);
    if !said.forgets {
        said.tokens.push(fresh.clone());
    }
    Json(json!({
        "controller_id": said.id,
        "auth_token": fresh,
        "token_expires_at": chrono::Utc::now() + said.token_life,
        "api_version": "v1alpha1",
        "epoch": said.epoch,
        "heartbeat_interval": said.interval,
        "lease": said.lease,
        "role": said.role,
        "keys": Jwks::new(said.keys.iter().map(|key| key.public())),
    }))
    .into_response()
}

async fn heartbeat(
    State(said): State<Arc<Mutex<Said>>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut said = said.lock().unwrap();
    let token = bearer(&headers);
    said.heartbeats.push((token.clone(), body));
    if let Some(status) = said.refusal {
        return problem(status);
    }
    if id != said.id || !said.tokens.contains(&token) {
        return problem(StatusCode::UNAUTHORIZED);
    }
    Json(json!({
        "state": said.state,
        "heartbeat_interval": said.interval,
        "lease": said.lease,
        "epoch": said.epoch,
        "role": said.role,
        "keys": Jwks::new(said.keys.iter().map(|key| key.public())),
    }))
    .into_response()
}
