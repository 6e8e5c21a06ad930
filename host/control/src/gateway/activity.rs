//! Who uses a session is seen here: every request and every open connection is a sign of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::domain::{SessionId, now};
use crate::store::{ActivitySign, Store};

/// Below so many sessions nothing is forgotten.
const FEW: usize = 1024;

/// Writes down that sessions are used, each at intervals: a page alone is a hundred requests.
pub(crate) struct Activity {
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    noted: Mutex<Noted>,
}

impl Activity {
    /// The writes are among `tasks`, so that whoever closes the store can wait for them.
    pub(crate) fn new(store: Arc<dyn Store>, tasks: TaskTracker, interval: Duration) -> Self {
        Self { store, tasks, noted: Mutex::new(Noted { interval, last: HashMap::new(), most: FEW }) }
    }

    /// Somebody uses a session. Nobody waits until that is written.
    pub(crate) fn used(&self, id: &SessionId) {
        let at = now();
        if !self.noted.lock().unwrap_or_else(PoisonError::into_inner).is_due(id, Instant::now(), at) {
            return;
        }
        let (store, session_id) = (Arc::clone(&self.store), id.clone());
        self.tasks.spawn(async move {
            let sign = ActivitySign { session_id: session_id.clone(), at };
            if let Err(error) = store.record_activity(vec![sign]).await {
                tracing::debug!(session = %session_id, %error, "the use of a session was not noted");
            }
        });
    }

    /// Somebody used a session at that time. Whoever says so writes it down, or has found it written down.
    pub(crate) fn noted(&self, id: &SessionId, at: DateTime<Utc>) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).is_due(id, Instant::now(), at);
    }

    /// When somebody last used these sessions, as far as this process has seen it, written down or not.
    pub(crate) fn seen(&self, ids: &[SessionId]) -> Vec<ActivitySign> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).seen(ids)
    }
}

/// When each session's use was last written down, and last seen. Sessions that are not used any more are forgotten.
struct Noted {
    interval: Duration,
    last: HashMap<SessionId, Use>,
    /// When there are so many, the old ones go.
    most: usize,
}

/// The use of one session.
struct Use {
    written: Instant,
    seen: DateTime<Utc>,
}

impl Noted {
    /// Remembers a sign of a user; whether it is to be written down.
    fn is_due(&mut self, id: &SessionId, now: Instant, at: DateTime<Utc>) -> bool {
        let interval = self.interval;
        let recent = |last: &Use| now.saturating_duration_since(last.written) < interval;
        if let Some(known) = self.last.get_mut(id)
            && recent(known)
        {
            known.seen = at;
            return false;
        }
        if self.last.len() >= self.most {
            self.last.retain(|_, last| recent(last));
            self.most = FEW.max(self.last.len() * 2);
        }
        self.last.insert(id.clone(), Use { written: now, seen: at });
        true
    }

    fn seen(&self, ids: &[SessionId]) -> Vec<ActivitySign> {
        let sign = |id: &SessionId| {
            self.last.get(id).map(|last| ActivitySign { session_id: id.clone(), at: last.seen })
        };
        ids.iter().filter_map(sign).collect()
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
        let at = now();
        assert!(noted.is_due(&one, begun, at));
        assert!(!noted.is_due(&one, begun + interval / 2, at));
        assert!(noted.is_due(&two, begun + interval / 2, at), "each for itself");
        assert!(noted.is_due(&one, begun + interval, at));
        noted.most = 2;
        let third = SessionId::generate();
        assert!(noted.is_due(&third, begun + interval * 3, at));
        assert_eq!(noted.last.len(), 1, "those that nobody uses are forgotten");
    }

    #[test]
    fn what_is_not_written_down_is_known_all_the_same() {
        let mut noted = Noted { interval: Duration::from_secs(15), last: HashMap::new(), most: 2 };
        let (begun, at, id, other) = (Instant::now(), now(), SessionId::generate(), SessionId::generate());
        assert!(noted.is_due(&id, begun, at));
        let later = at + chrono::Duration::seconds(3);
        assert!(!noted.is_due(&id, begun + Duration::from_secs(3), later));
        let seen = noted.seen(&[other, id.clone()]);
        assert_eq!(seen.iter().map(|sign| (&sign.session_id, sign.at)).collect::<Vec<_>>(), [(&id, later)]);
    }
}
