//! Who uses a session is seen here: every request and every open connection is a sign of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::domain::{SessionId, now};
use crate::store::{ActivitySign, Store};

/// Below so many sessions nothing is forgotten.
const FEW: usize = 1024;

/// Writes down that sessions are used, each at intervals: a page alone is a hundred requests.
pub(super) struct Activity {
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    noted: Mutex<Noted>,
}

impl Activity {
    /// The writes are among `tasks`, so that whoever closes the store can wait for them.
    pub(super) fn new(store: Arc<dyn Store>, tasks: TaskTracker, interval: Duration) -> Self {
        Self { store, tasks, noted: Mutex::new(Noted { interval, last: HashMap::new(), most: FEW }) }
    }

    /// Somebody uses a session. Nobody waits until that is written.
    pub(super) fn used(&self, id: &SessionId) {
        if !self.noted.lock().unwrap_or_else(PoisonError::into_inner).is_due(id, Instant::now()) {
            return;
        }
        let (store, session_id) = (Arc::clone(&self.store), id.clone());
        self.tasks.spawn(async move {
            let sign = ActivitySign { session_id: session_id.clone(), at: now() };
            if let Err(error) = store.record_activity(vec![sign]).await {
                tracing::debug!(session = %session_id, %error, "the use of a session was not noted");
            }
        });
    }
}

/// When each session's use was last noted. Sessions that are not used any more are forgotten.
struct Noted {
    interval: Duration,
    last: HashMap<SessionId, Instant>,
    /// When there are so many, the old ones go.
    most: usize,
}

impl Noted {
    fn is_due(&mut self, id: &SessionId, now: Instant) -> bool {
        let interval = self.interval;
        let recent = |at: &Instant| now.saturating_duration_since(*at) < interval;
        if self.last.get(id).is_some_and(recent) {
            return false;
        }
        if self.last.len() >= self.most {
            self.last.retain(|_, at| recent(at));
            self.most = FEW.max(self.last.len() * 2);
        }
        self.last.insert(id.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_an_interval_for_each_session() {
        let interval = Duration::from_secs(15);
        let mut noted = Noted { interval, last: HashMap::new(), most: 2 };
        let (begun, one, two) = (Instant::now(), SessionId::generate(), SessionId::generate());
        assert!(noted.is_due(&one, begun));
        assert!(!noted.is_due(&one, begun + interval / 2));
        assert!(noted.is_due(&two, begun + interval / 2), "each for itself");
        assert!(noted.is_due(&one, begun + interval));
        noted.most = 2;
        let third = SessionId::generate();
        assert!(noted.is_due(&third, begun + interval * 3));
        assert_eq!(noted.last.len(), 1, "those that nobody uses are forgotten");
    }
}
