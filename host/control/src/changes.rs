//! Tells those who wait that a session has changed.

use tokio::sync::broadcast;

use crate::domain::SessionId;

/// Changes that a slow listener may fall behind by before it has to look for itself.
const BACKLOG: usize = 1024;

/// The hub. Ids only: whoever cares reads the store.
#[derive(Debug)]
pub(crate) struct Changes {
    sender: broadcast::Sender<SessionId>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0 }
    }

    /// To be called after the commit.
    pub(crate) fn changed(&self, id: &SessionId) {
        // Nobody listening is no failure.
        let _ = self.sender.send(id.clone());
    }

    pub(crate) fn subscribe(&self) -> Listener {
        Listener { receiver: self.sender.subscribe() }
    }
}

/// Hears of every change from its creation on.
#[derive(Debug)]
pub(crate) struct Listener {
    receiver: broadcast::Receiver<SessionId>,
}

impl Listener {
    /// Returns when this session may have changed.
    pub(crate) async fn changed(&mut self, id: &SessionId) {
        loop {
            match self.receiver.recv().await {
                Ok(changed) if changed == *id => return,
                Ok(_) => {}
                // What was missed may have been ours.
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                // The server is going; the caller has its own reasons to stop waiting.
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}
