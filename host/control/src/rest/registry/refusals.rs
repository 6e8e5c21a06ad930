//! Controllers that were turned away, in the audit log. Anybody can be turned away, and as often as they like: so that they
//! cannot fill the database, only some of it is written down, and how much is not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::control::Shared;
use crate::domain::{Action, Actor, Deed};

/// So many are written down …
const MOST: u32 = 60;
/// … within this time.
const WINDOW: Duration = Duration::from_secs(60);

/// How many were turned away lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Refusals {
    /// Whether one more is written down, and how many were not since the last that was.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.begun.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            (window.begun, window.written) = (Some(now), 0);
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
    let Some(left_out) = shared.kept.refusals.admit(Instant::now()) else { return };
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
        for _ in 0..MOST {
            assert_eq!(refusals.admit(begun), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(refusals.admit(begun + WINDOW / 2), None);
        }
        assert_eq!(refusals.admit(begun + WINDOW), Some(7));
        assert_eq!(refusals.admit(begun + WINDOW), Some(0));
    }
}
