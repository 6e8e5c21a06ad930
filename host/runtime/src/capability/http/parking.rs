//! Connections between two calls. They belong to one endpoint of one controller, bound to one plugin file: with that
//! binding they come and go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::pinned::Pinned;

/// How long a connection waits for its next call.
const KEPT: Duration = Duration::from_secs(120);

/// Connections of one endpoint that wait.
const PLACES: usize = 16;

/// Bytes of a tag.
const MAX_TAG: usize = 256;

/// Bytes of a memo: keys and counters.
const MAX_MEMO: usize = 64 << 10;

/// Time for the end of the last answer to be noticed.
const SETTLING: Duration = Duration::from_secs(1);

/// The connections that wait.
#[derive(Default)]
pub(super) struct Parking(Mutex<Places>);

#[derive(Default)]
struct Places {
    /// The longest waiting first.
    waiting: Vec<Parked>,
    /// Whether there is a task that closes those which have waited too long.
    is_swept: bool,
}

struct Parked {
    tag: String,
    connection: Pinned,
    memo: Vec<u8>,
    until: Instant,
}

impl Parking {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection. One that cannot be kept is closed: the next call opens another.
    pub(super) fn park(self: &Arc<Self>, tag: String, connection: Pinned, memo: Vec<u8>) {
        if tag.len() > MAX_TAG || memo.len() > MAX_MEMO || connection.is_closed() {
            tracing::debug!(tag = tag.len(), memo = memo.len(), "a connection is not parked, but closed");
            return;
        }
        let parked = Parked { tag, connection, memo, until: Instant::now() + KEPT };
        let mut places = self.places();
        places.waiting.retain(Parked::is_fresh);
        if places.waiting.len() >= PLACES {
            places.waiting.remove(0);
        }
        places.waiting.push(parked);
        // An endpoint that nobody asks for any more has to let go as well.
        if !std::mem::replace(&mut places.is_swept, true) {
            tokio::spawn(sweep_until_empty(Arc::downgrade(self)));
        }
    }

    /// Takes the connection with this tag that was parked last, if the other side still holds it.
    pub(super) async fn take(&self, tag: &str) -> Option<(Pinned, Vec<u8>)> {
        loop {
            let parked = {
                let mut places = self.places();
                let at = places.waiting.iter().rposition(|parked| parked.tag == tag)?;
                places.waiting.remove(at)
            };
            if !parked.is_fresh() {
                continue;
            }
            let usable = tokio::time::timeout(SETTLING, parked.connection.is_usable()).await;
            if usable.unwrap_or(false) {
                return Some((parked.connection, parked.memo));
            }
        }
    }

    /// Closes what has waited too long or was closed by the other side.
    pub(super) fn sweep(&self) {
        self.places().waiting.retain(Parked::is_fresh);
    }

    /// The same, and when the next one will have waited too long; none = there is no other, and nobody sweeps any more.
    fn sweep_and_look(&self) -> Option<Instant> {
        let mut places = self.places();
        places.waiting.retain(Parked::is_fresh);
        let next = places.waiting.iter().map(|parked| parked.until).min();
        places.is_swept = next.is_some();
        next
    }
}

/// Ends with the last connection, or with the endpoint.
async fn sweep_until_empty(parking: Weak<Parking>) {
    while let Some(next) = parking.upgrade().and_then(|parking| parking.sweep_and_look()) {
        tokio::time::sleep_until(next.into()).await;
    }
}

impl Parked {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.until && !self.connection.is_closed()
    }
}
