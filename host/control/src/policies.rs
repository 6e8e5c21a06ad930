//! Limits in time, kept for every backend alike: sessions that nobody uses, and those that have been there for too
//! long.

use std::time::Duration;

use crate::control::Shared;
use crate::store::StoreError;

/// Sessions that one transaction looks at: the whole server waits for it.
const AT_ONCE: u32 = 64;
/// After a failure it is tried again no sooner.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps the limits. Never ends.
pub(crate) async fn run(shared: &Shared) {
    loop {
        let pause = match look(shared).await {
            // There may be more.
            Ok(found) if found >= AT_ONCE as usize => Duration::ZERO,
            Ok(_) => shared.config.policy_interval,
            Err(error) => {
                tracing::warn!(%error, "the limits in time of sessions were not looked at");
                shared.config.policy_interval.max(PAUSE)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Looks at some of those that may have reached a limit; how many there were.
async fn look(shared: &Shared) -> Result<usize, StoreError> {
    // Asked of a reader: mostly there is nothing to do, and nobody has to wait for that.
    let due = shared.store.policy_due(AT_ONCE).await?;
    if due.is_empty() {
        return Ok(0);
    }
    // Whoever uses a session at this moment may not be written down yet.
    let signs = shared.activity.seen(&due);
    let found = due.len();
    let changed = shared.store.enforce_policies(due, signs, shared.config.activity_interval).await?;
    for id in &changed {
        tracing::info!(session = %id, "a session has reached a limit in time");
        shared.changes.changed(id);
    }
    if !changed.is_empty() {
        shared.wake.notify_one();
    }
    Ok(found)
}
