//! One connection of a plugin's own, for protocols that authenticate connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::client::conn::http1::{self, SendRequest};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{Body, HttpEndpoint, MAX_ANSWER_HEADERS, MAX_HEAD};
use super::failure::Failure;
use super::open::InController;

/// A connection. It is closed when it is dropped.
pub(super) struct Pinned {
    sender: Mutex<SendRequest<Body>>,
    end_point: Option<Vec<u8>>,
    /// Whether a request is under way on it.
    busy: AtomicBool,
    _driver: AbortOnDropHandle<()>,
    _open: InController,
}

/// The right to make the one request that may be under way.
pub(super) struct Turn(Arc<Pinned>);

impl Turn {
    pub(super) fn connection(&self) -> Arc<Pinned> {
        Arc::clone(&self.0)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

impl Pinned {
    pub(super) async fn connect(endpoint: &HttpEndpoint, open: InController) -> Result<Self, Failure> {
        let stream = endpoint.connector.connect_http1().await.map_err(|error| Failure::connect(&error))?;
        let end_point = stream.end_point();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_ANSWER_HEADERS)
            .handshake(stream)
            .await
            .map_err(|error| Failure::http(&error))?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer on it is told.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a pinned connection ended");
            }
        });
        Ok(Self {
            sender: Mutex::new(sender),
            end_point,
            busy: AtomicBool::new(false),
            _driver: AbortOnDropHandle::new(driver),
            _open: open,
        })
    }

    /// Its channel binding `tls-server-end-point`.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        self.end_point.clone()
    }

    /// None while another request is under way.
    pub(super) fn turn(self: &Arc<Self>) -> Option<Turn> {
        let free = self.busy.compare_exchange(false, true, Ordering::AcqRel, Ordering::Acquire).is_ok();
        free.then(|| Turn(Arc::clone(self)))
    }

    /// Sends a request and waits for the head of its answer. `sent` becomes true when a byte may have left.
    pub(super) async fn send(
        &self,
        request: http::Request<Body>,
        sent: &AtomicBool,
    ) -> Result<http::Response<hyper::body::Incoming>, Failure> {
        let answer = {
            let mut sender = self.sender.lock().await;
            sender.ready().await.map_err(|error| Failure::http(&error))?;
            sent.store(true, Ordering::Release);
            sender.send_request(request)
        };
        answer.await.map_err(|error| Failure::http(&error))
    }

    /// Whether the other side still holds it. Waits a moment for the last answer to be over.
    pub(super) async fn is_usable(&self) -> bool {
        self.sender.lock().await.ready().await.is_ok()
    }

    /// Whether it is known to be closed.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.try_lock().is_ok_and(|sender| sender.is_closed())
    }
}
