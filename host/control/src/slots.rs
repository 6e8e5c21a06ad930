//! How much may go on at once: for one (user, or session), and for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number of places.
pub(crate) struct Slots {
    each: usize,
    all: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place that is taken until this is dropped.
pub(crate) struct Slot {
    holder: String,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

fn lock(taken: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    /// So many places for each holder, and for all together.
    pub(crate) fn new((each, all): (usize, usize)) -> Self {
        Self { each, all, taken: Arc::default() }
    }

    /// Takes a place, if there is one left.
    pub(crate) fn take(&self, holder: &str) -> Option<Slot> {
        let mut taken = lock(&self.taken);
        let (own, all) = (taken.get(holder).copied().unwrap_or(0), taken.values().sum::<usize>());
        if own >= self.each || all >= self.all {
            return None;
        }
        taken.insert(holder.to_owned(), own + 1);
        Some(Slot { holder: holder.to_owned(), taken: Arc::clone(&self.taken) })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        lock(&self.taken).values().sum()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(own) = taken.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let slots = Slots::new((2, 3));
        let (first, second) = (slots.take("a").unwrap(), slots.take("a").unwrap());
        assert!(slots.take("a").is_none(), "one's own");
        let third = slots.take("b").unwrap();
        assert!(slots.take("c").is_none(), "all");
        drop((first, third));
        assert!(slots.take("c").is_some());
        drop(second);
        assert_eq!(slots.taken(), 0);
    }
}
