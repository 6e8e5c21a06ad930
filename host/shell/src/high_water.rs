//! Fencing on this side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The highest epoch seen: whoever comes with a lower one has been replaced and does not know it yet. Its copies are one.
#[derive(Clone, Debug, Default)]
pub struct HighWater(Arc<AtomicU64>);

impl HighWater {
    /// From now on nothing below this epoch is let in. Gives the highest one before.
    pub fn raise(&self, epoch: u64) -> u64 {
        self.0.fetch_max(epoch, Ordering::SeqCst)
    }

    /// Counts from here: for another controller, which has epochs of its own.
    pub fn begin_at(&self, epoch: u64) {
        self.0.store(epoch, Ordering::SeqCst);
    }

    /// Whether calls under an epoch may still change anything.
    pub fn admits(&self, epoch: u64) -> bool {
        epoch >= self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_and_never_falls_by_itself() {
        let (water, copy) = (HighWater::default(), HighWater::default());
        assert!(water.admits(0) && water.admits(1));
        assert_eq!((water.raise(7), water.raise(5)), (0, 7));
        assert!(!water.clone().admits(6) && water.admits(7) && copy.admits(6));
        water.begin_at(2);
        assert!(water.admits(2) && !water.admits(1));
    }
}
