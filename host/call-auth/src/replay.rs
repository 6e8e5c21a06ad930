//! Which signatures were used.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use crate::{Refusal, SKEW};

/// Signatures that are remembered at once. With the time that one is remembered for, 2 900 calls a second; 10 MB.
const MOST: usize = 1 << 18;

/// Remembers signatures for as long as they would be taken.
#[derive(Debug)]
pub(crate) struct Used {
    /// By the end of their time, so that the first ones are the first to be forgotten. Nobody can give a signature
    /// another end: it is signed.
    signatures: Mutex<BTreeSet<(u64, Uuid)>>,
    most: usize,
}

impl Default for Used {
    fn default() -> Self {
        Self::with_most(MOST)
    }
}

impl Used {
    fn with_most(most: usize) -> Self {
        Self { signatures: Mutex::default(), most }
    }

    /// Uses a signature. Whether it has expired is decided here again: between the first look and this one the body
    /// arrived, and what is remembered no longer could be used twice.
    pub(crate) fn once(&self, id: Uuid, expires: u64, now: u64) -> Result<(), Refusal> {
        let forgotten_from = now.saturating_sub(SKEW.as_secs());
        if expires < forgotten_from {
            return Err(Refusal::Expired);
        }
        let mut signatures = self.signatures.lock().unwrap_or_else(PoisonError::into_inner);
        while signatures.first().is_some_and(|(expired, _)| *expired < forgotten_from) {
            signatures.pop_first();
        }
        if signatures.contains(&(expires, id)) {
            return Err(Refusal::Replayed);
        }
        // None is forgotten early for another: it could be used again then.
        if signatures.len() >= self.most {
            return Err(Refusal::TooMany);
        }
        signatures.insert((expires, id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_used_once_and_forgotten_when_nobody_would_take_it() {
        let used = Used::default();
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        used.once(a, 1060, 1000).unwrap();
        used.once(b, 1061, 1001).unwrap();
        for now in [1000, 1060, 1090] {
            assert_eq!(used.once(a, 1060, now), Err(Refusal::Replayed), "{now}");
        }
        // Its time is over, and it takes no more room.
        assert_eq!(used.once(a, 1060, 1091), Err(Refusal::Expired));
        used.once(Uuid::new_v4(), 1151, 1091).unwrap();
        assert_eq!(used.signatures.lock().unwrap().len(), 2);
        assert_eq!(used.once(b, 1061, 1091), Err(Refusal::Replayed));
    }

    #[test]
    fn a_full_memory_forgets_nothing() {
        let used = Used::with_most(2);
        let ids = [Uuid::new_v4(), Uuid::new_v4()];
        for id in ids {
            used.once(id, 1060, 1000).unwrap();
        }
        assert_eq!(used.once(Uuid::new_v4(), 1060, 1000), Err(Refusal::TooMany));
        for id in ids {
            assert_eq!(used.once(id, 1060, 1000), Err(Refusal::Replayed));
        }
        used.once(Uuid::new_v4(), 1160, 1100).unwrap();
    }
}
