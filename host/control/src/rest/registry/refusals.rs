//! Controllers that were turned away, in the audit log. Anybody can be turned away, and as often as they like: so that they
//! cannot fill the database, only some of it is written down, and how much is not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::control::Shared;
use crate::domain::{Action, Actor, Deed};

/// So many of one kind are written down …
const MOST: u32 = 60;
/// … within this time.
const WINDOW: Duration = Duration::from_secs(60);

/// How many were turned away lately: those who came with the same token, for the same reason, by themselves, so that nobody
/// hides among the many of somebody else. All who came without a good token are one.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<(String, String), Window>>);

#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u32,
    left_out: u64,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.begun) >= WINDOW
    }
}

impl Refusals {
    /// Whether one more is written down, and how many of its kind were not since the last that was.
    fn admit(&self, source: &str, reason: &str, now: Instant) -> Option<u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was left out is kept until it can be told.
        windows.retain(|_, window| window.left_out > 0 || !window.is_over(now));
        let window = windows.entry((source.to_owned(), reason.to_owned()));
        let window = window.or_insert(Window { begun: now, written: 0, left_out: 0 });
        if window.is_over(now) {
            (window.begun, window.written) = (now, 0);
        }
        if window.written >= MOST {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

/// A request of a controller that is not served.
pub(super) struct Refused<'a> {
    /// Whose.
    pub(super) by: Actor,
    /// The controller that it is about, as far as that is known.
    pub(super) target: &'a str,
    /// `register` or `heartbeat`.
    pub(super) request: &'static str,
    /// Why.
    pub(super) reason: &'a str,
}

/// Says that a controller was turned away. That it cannot be written down is no reason to let it in.
pub(super) async fn note(shared: &Shared, refused: Refused<'_>) {
    let Refused { by, target, request, reason } = refused;
    tracing::warn!(controller = target, request, reason, "a controller was turned away");
    // Both are known only of good tokens: there are no more of them than there are tokens.
    let source = match &by {
        Actor::Controller { id: Some(id), .. } => id.as_str(),
        Actor::Controller { join_token: Some((id, _)), .. } => id,
        _ => "",
    };
    let Some(left_out) = shared.kept.refusals.admit(source, reason, Instant::now()) else { return };
    let details = json!({ "request": request, "reason": reason, "left_out": left_out });
    let deed = Deed::new(Action::ControllerRefuse, "controller", target).with(details);
    if let Err(error) = shared.store.record_audit(by, vec![deed]).await {
        tracing::error!(%error, "that a controller was turned away is not in the audit log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (refusals, begun) = (Refusals::default(), Instant::now());
        let admit = |source, at| refusals.admit(source, "another's", at);
        for _ in 0..MOST {
            assert_eq!(admit("join-1", begun), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(admit("join-1", begun + WINDOW / 2), None);
        }
        // It takes nobody else's place.
        assert_eq!(admit("join-2", begun + WINDOW / 2), Some(0));
        assert_eq!(refusals.admit("join-1", "expired", begun + WINDOW / 2), Some(0));
        // And is not forgotten, whenever it can be told.
        assert_eq!(admit("join-2", begun + WINDOW * 5), Some(0));
        assert_eq!(admit("join-1", begun + WINDOW * 5), Some(7));
        assert_eq!(admit("join-1", begun + WINDOW * 5), Some(0));
        assert_eq!(refusals.0.lock().unwrap().len(), 2);
    }
}
