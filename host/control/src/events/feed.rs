//! Reads every new event once, for all who listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;

use super::Subscription;
use crate::domain::{Event, EventCursor};
use crate::store::{EventQuery, EventScope, Store, StoreError};

/// Events read at once.
const PAGE: u32 = 256;
/// After a failure of the database.
const RETRY: Duration = Duration::from_secs(1);

/// What the feed says.
#[derive(Debug, Clone)]
pub(super) enum Live {
    /// This is the next event.
    Event(Arc<Event>),
    /// Some events were removed before they could be read: look for yourself.
    Look,
}

/// The one reader of new events.
pub(crate) struct Feed {
    store: Arc<dyn Store>,
    sender: broadcast::Sender<Live>,
    /// How far the events were handed on.
    reached: AtomicI64,
}

impl Feed {
    /// Listeners that are behind by more than `backlog` events read on from the store.
    pub(crate) fn new(store: Arc<dyn Store>, backlog: usize) -> Self {
        let reached = AtomicI64::new(store.latest_event().borrow().to_db());
        Self { store, sender: broadcast::channel(backlog.max(1)).0, reached }
    }

    /// Hands on what is new. Never ends.
    pub(crate) async fn run(&self) {
        let mut news = self.store.latest_event();
        loop {
            let latest = *news.borrow_and_update();
            match self.hand_on(latest).await {
                Ok(()) => {
                    if news.changed().await.is_err() {
                        // The store is closed.
                        return std::future::pending().await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "new events cannot be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn hand_on(&self, latest: EventCursor) -> Result<(), StoreError> {
        while self.reached() < latest {
            if self.sender.receiver_count() == 0 {
                // Whoever begins to listen after this looks into the table first, and finds them there.
                self.reach(latest);
                return Ok(());
            }
            let query = EventQuery { scope: EventScope::default(), after: self.reached(), limit: PAGE };
            let page = self.store.events(&query).await?;
            let full = page.events.len() >= PAGE as usize;
            let last = page.events.last().map(|event| event.cursor);
            if page.lost {
                let _ = self.sender.send(Live::Look);
            }
            for event in page.events {
                let _ = self.sender.send(Live::Event(Arc::new(event)));
            }
            self.reach(last.filter(|_| full).unwrap_or(page.upto));
        }
        Ok(())
    }

    fn reached(&self) -> EventCursor {
        EventCursor::from_db(self.reached.load(Ordering::Acquire))
    }

    fn reach(&self, cursor: EventCursor) {
        self.reached.store(cursor.to_db(), Ordering::Release);
    }

    /// Committed events that were not handed on yet.
    pub(crate) fn lag(&self) -> i64 {
        (self.store.latest_event().borrow().to_db() - self.reached().to_db()).max(0)
    }

    /// The events behind a place, or the new ones.
    pub(crate) fn subscribe(&self, scope: EventScope, after: Option<EventCursor>) -> Subscription {
        // In this order: nothing falls between what is read from the table and what is heard.
        let live = self.sender.subscribe();
        let after = after.unwrap_or_else(|| *self.store.latest_event().borrow());
        Subscription::new(Arc::clone(&self.store), scope, after, live)
    }
}
