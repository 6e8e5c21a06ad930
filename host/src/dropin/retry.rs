//! When something that failed is tried again.

use std::time::{Duration, Instant};

/// The first pause; each further one is twice as long, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Tries of one thing.
#[derive(Default)]
pub(super) struct Retry {
    last: Option<(Instant, Duration)>,
}

impl Retry {
    /// It failed once more.
    pub(super) fn failed(&mut self) {
        let pause = self.last.map_or(FIRST, |(_, pause)| (pause * 2).min(LONGEST));
        self.last = Some((Instant::now(), pause));
    }

    /// It is another thing now, or it has worked.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// How long it is until it should be tried again; none if it has not failed.
    pub(super) fn left(&self) -> Option<Duration> {
        self.last.map(|(at, pause)| pause.saturating_sub(at.elapsed()))
    }

    /// Whether it should be tried again now.
    pub(super) fn is_due(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_something_works() {
        let mut retry = Retry::default();
        assert_eq!((retry.left(), retry.is_due()), (None, false));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            retry.failed();
            assert!(!retry.is_due());
            pauses.push(retry.last.unwrap().1.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        retry.forget();
        retry.failed();
        assert!(retry.left().unwrap() <= FIRST);
    }
}
