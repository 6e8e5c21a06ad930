//! HTTP connections to sessions, kept for the next request. Every connection knows the site it leads to: what a
//! controller says of headers and paths counts for the connection that it was said for, and no longer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::connect::{ConnectError, Connector, Destination};
use super::service::Speech;
use super::way::Site;

/// Connections kept for one service.
const MOST_IDLE: usize = 8;
/// How long they are kept.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Older ones are not kept: the controller may say something else by now.
const OLDEST: Duration = Duration::from_secs(300);

/// Connections without a request.
#[derive(Clone)]
pub(super) struct Pool {
    connector: Arc<Connector>,
    idle: Arc<Idle>,
}

#[derive(Default)]
struct Idle {
    next: AtomicU64,
    by_destination: Mutex<HashMap<Destination, Vec<(u64, Connection)>>>,
}

/// A connection that a request can be sent over.
pub(super) struct Connection {
    /// The sending end.
    pub(super) sender: SendRequest<Body>,
    /// Where it leads.
    pub(super) site: Arc<Site>,
    /// Whether another request went over it before: its other end may be closing it just now.
    pub(super) is_used: bool,
    since: Instant,
}

impl Pool {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { connector, idle: Arc::default() }
    }

    /// A connection that was kept, or a new one.
    pub(super) async fn take(&self, to: &Destination) -> Result<Connection, ConnectError> {
        match self.idle.take(to) {
            Some(connection) => Ok(connection),
            None => self.fresh(to).await,
        }
    }

    /// A new connection.
    pub(super) async fn fresh(&self, to: &Destination) -> Result<Connection, ConnectError> {
        let (stream, site) = self.connector.connect(to, Speech::Http).await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(|_| ConnectError::Refused)?;
        let (session, service) = (to.session.clone(), to.service.clone());
        tokio::spawn(async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%session, service, %error, "a connection to a session broke");
            }
        });
        Ok(Connection { sender, site: Arc::new(site), is_used: false, since: Instant::now() })
    }

    /// Keeps a connection for the next request, as soon as the answer under way has been read, for a while.
    pub(super) fn keep(&self, to: Destination, mut connection: Connection) {
        let idle = Arc::clone(&self.idle);
        tokio::spawn(async move {
            // It fails where the connection is not to be used again.
            if connection.sender.ready().await.is_err() || connection.since.elapsed() > OLDEST {
                return;
            }
            connection.is_used = true;
            let Some(number) = idle.put(&to, connection) else { return };
            tokio::time::sleep(IDLE_LIMIT).await;
            idle.give_up(&to, number);
        });
    }
}

impl Idle {
    fn with<T>(&self, to: &Destination, look: impl FnOnce(&mut Vec<(u64, Connection)>) -> T) -> T {
        let mut all = self.by_destination.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = all.entry(to.clone()).or_default();
        let result = look(connections);
        if connections.is_empty() {
            all.remove(to);
        }
        result
    }

    /// The one used last: the others may grow old.
    fn take(&self, to: &Destination) -> Option<Connection> {
        self.with(to, |connections| {
            connections.retain(|(_, connection)| connection.sender.is_ready());
            connections.pop().map(|(_, connection)| connection)
        })
    }

    fn put(&self, to: &Destination, connection: Connection) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.with(to, |connections| {
            connections.retain(|(_, connection)| !connection.sender.is_closed());
            if connections.len() >= MOST_IDLE {
                return None;
            }
            connections.push((number, connection));
            Some(number)
        })
    }

    fn give_up(&self, to: &Destination, number: u64) {
        self.with(to, |connections| connections.retain(|(known, _)| *known != number));
    }
}
