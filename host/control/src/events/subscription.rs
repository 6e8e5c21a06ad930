//! One listener: every event of its scope, in order and once, however slow it reads.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::feed::Live;
use crate::domain::{Event, EventCursor};
use crate::store::{EventQuery, EventScope, Store, StoreError};

/// Events read from the table at once.
const PAGE: u32 = 64;

/// What a listener hears.
#[derive(Debug)]
pub(crate) enum News {
    /// These, one after the other.
    Events(Vec<Arc<Event>>),
    /// Events behind the place of the listener are gone; it goes on from the place it has now.
    Lost,
}

/// The place of one listener.
pub(crate) struct Subscription {
    store: Arc<dyn Store>,
    scope: EventScope,
    position: EventCursor,
    live: broadcast::Receiver<Live>,
    /// Everything up to `position` was given out; what follows comes live. Otherwise it is read from the table.
    caught_up: bool,
}

impl Subscription {
    pub(super) fn new(
        store: Arc<dyn Store>,
        scope: EventScope,
        position: EventCursor,
        live: broadcast::Receiver<Live>,
    ) -> Self {
        Self { store, scope, position, live, caught_up: false }
    }

    /// Everything of the scope up to here was given out.
    pub(crate) fn position(&self) -> EventCursor {
        self.position
    }

    /// The next events. May be dropped at any time without losing any.
    pub(crate) async fn next(&mut self) -> Result<News, StoreError> {
        loop {
            if self.caught_up {
                match self.live.recv().await {
                    Ok(Live::Event(event)) if event.cursor <= self.position => {}
                    Ok(Live::Event(event)) => {
                        self.position = event.cursor;
                        if self.scope.covers(&event) {
                            return Ok(News::Events(vec![event]));
                        }
                    }
                    Ok(Live::Look) | Err(RecvError::Lagged(_)) => self.caught_up = false,
                    // The server is going; the listener has its own reasons to stop.
                    Err(RecvError::Closed) => return std::future::pending().await,
                }
                continue;
            }
            let query = EventQuery { scope: self.scope.clone(), after: self.position, limit: PAGE };
            let page = self.store.events(&query).await?;
            if page.lost {
                self.position = page.upto;
                return Ok(News::Lost);
            }
            self.caught_up = page.events.len() < PAGE as usize;
            let last = page.events.last().map(|event| event.cursor);
            self.position = last.filter(|_| !self.caught_up).unwrap_or(page.upto);
            if !page.events.is_empty() {
                return Ok(News::Events(page.events.into_iter().map(Arc::new).collect()));
            }
        }
    }
}
