//! How long to wait before the next step.

use std::time::Duration;

/// The first retry of a failure comes within this; every further failure doubles it.
const FIRST_FAILURE: Duration = Duration::from_millis(200);
/// No retry waits longer, whatever the count, unless the controller asks for it.
const LONGEST_FAILURE: Duration = Duration::from_secs(30);
/// A controller may ask for more, but not for ever.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// The first look at work in progress.
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// Full jitter: any time up to a bound that doubles with every failure. `jitter` is from 0 to 1.
pub(super) fn after_failure(failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let bound = doubled(FIRST_FAILURE, failures.saturating_sub(1), LONGEST_FAILURE);
    let pause = bound.mul_f64(jitter.clamp(0.0, 1.0));
    pause.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

/// Doubles with every step of the operation, up to a limit; there is no jitter, because nobody is overloaded.
pub(super) fn before_look(attempt: u32, longest: Duration) -> Duration {
    doubled(FIRST_LOOK, attempt.saturating_sub(1), longest)
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2u32.saturating_pow(times.min(31))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures() {
        assert_eq!(after_failure(1, None, 1.0), Duration::from_millis(200));
        assert_eq!(after_failure(3, None, 1.0), Duration::from_millis(800));
        assert_eq!(after_failure(3, None, 0.0), Duration::ZERO);
        assert_eq!(after_failure(u32::MAX, None, 1.0), Duration::from_secs(30));
        let asked = Some(Duration::from_secs(7));
        assert_eq!(after_failure(1, asked, 1.0), Duration::from_secs(7));
        assert_eq!(after_failure(1, Some(Duration::from_secs(1 << 40)), 0.0), LONGEST_ASKED);
    }

    #[test]
    fn looks() {
        let longest = Duration::from_secs(3);
        assert_eq!(before_look(1, longest), Duration::from_millis(200));
        assert_eq!(before_look(2, longest), Duration::from_millis(400));
        assert_eq!(before_look(50, longest), longest);
        assert_eq!(before_look(1, Duration::from_millis(5)), Duration::from_millis(5));
    }
}
