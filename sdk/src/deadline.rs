//! How much of a call's time is left.

use std::time::{Duration, Instant};

use crate::Call;

/// The end of a call. To be made first thing in it.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The end of a call that begins now.
    pub fn of(call: &Call) -> Self {
        Self::after(Duration::from_millis(call.timeout_ms.into()))
    }

    /// A point in time from now on.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The same end with some time kept for what comes after the waiting.
    pub fn reserving(self, time: Duration) -> Self {
        Self(self.0.checked_sub(time).unwrap_or(self.0))
    }

    /// What is left; nothing once it is over.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// What is left, in milliseconds as the contract counts.
    pub fn remaining_ms(self) -> u32 {
        u32::try_from(self.remaining().as_millis()).unwrap_or(u32::MAX)
    }

    /// Whether nothing is left.
    pub fn is_over(self) -> bool {
        self.remaining().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_out_and_not_further() {
        let over = Deadline::after(Duration::ZERO);
        assert!(over.is_over() && over.remaining_ms() == 0);
        let hour = Deadline::after(Duration::from_secs(3600));
        assert!(!hour.is_over() && hour.remaining_ms() > 3_500_000);
        assert!(hour.reserving(Duration::from_secs(1800)).remaining() < Duration::from_secs(1801));
    }
}
