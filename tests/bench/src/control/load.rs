//! Many requests at once, over connections that are kept, at little cost for the machine that both ends share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use streamspace_tests::server::Server;
use tokio::net::TcpStream;

use crate::statistics::Samples;

/// Whom the requests go to.
#[derive(Clone)]
pub(super) struct Target {
    address: String,
    token: String,
}

impl Target {
    /// As the administrator.
    pub(super) fn of(server: &Server) -> Result<Self> {
        let token = std::fs::read_to_string(server.data().join("admin.token"))?.trim().to_owned();
        Ok(Self { address: server.url().trim_start_matches("http://").to_owned(), token })
    }

    /// As somebody else.
    pub(super) fn with_token(&self, token: &str) -> Self {
        Self { address: self.address.clone(), token: token.to_owned() }
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its end is seen by whoever sends the next request.
        tokio::spawn(connection);
        Ok(Connection { target: self.clone(), sender })
    }
}

/// One connection.
pub(super) struct Connection {
    target: Target,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// A request that has to be answered with this status; the body of the answer.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        status: u16,
    ) -> Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.target.address)
            .header("authorization", format!("Bearer {}", self.target.token))
            .header("content-type", "application/json")
            .body(Full::new(body.map(Value::to_string).unwrap_or_default().into()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let found = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(found == status, "{path}: {found} {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// Whether any session is in this phase.
    pub(super) async fn some_are(&mut self, phase: &str) -> Result<bool> {
        let page =
            self.send(Method::GET, &format!("/api/v1/sessions?phase={phase}&limit=1"), None, 200).await?;
        let page: Value = serde_json::from_slice(&page)?;
        Ok(!page["items"].as_array().context("no page")?.is_empty())
    }
}

/// Posts so many sessions, so many at once.
pub(super) async fn post(target: &Target, count: usize, at_once: usize, body: &Value) -> Result<Samples> {
    let next = AtomicUsize::new(0);
    let lanes = (0..at_once).map(|_| async {
        let mut connection = target.connect().await?;
        let mut samples = Samples::default();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let began = Instant::now();
            connection.send(Method::POST, "/api/v1/sessions", Some(body), 201).await?;
            samples.add(began.elapsed());
        }
        Ok::<_, anyhow::Error>(samples)
    });
    let mut all = Samples::default();
    for samples in futures::future::try_join_all(lanes).await? {
        all.extend(samples);
    }
    Ok(all)
}
