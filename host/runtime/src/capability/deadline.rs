//! Waiting no longer than there is time.

use std::time::{Duration, Instant};

/// Waits for something until a point in time.
pub(super) async fn until<T>(by: Instant, future: impl Future<Output = T>) -> Result<T, TimeIsOver> {
    tokio::time::timeout_at(by.into(), future).await.map_err(|_| TimeIsOver)
}

/// See [`until`].
#[derive(Debug)]
pub(super) struct TimeIsOver;

/// A point in time, or as good as never where the clock does not reach so far.
pub(super) fn after(wait: Duration, at_last: Instant) -> Instant {
    Instant::now().checked_add(wait).map_or(at_last, |at| at.min(at_last))
}
