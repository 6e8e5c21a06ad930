//! A small cache of a controller, kept between calls.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use streamspace_bindings::imports::state::Host;
use streamspace_bindings::types::{Error, ErrorKind};

use super::error;
use crate::call::CallState;

/// Bytes of keys and values that one controller may keep.
const CAPACITY: usize = 4 << 20;

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    expires: Option<Instant>,
}

impl Entry {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// The cache. In memory only: losing it costs time, never correctness.
#[derive(Debug, Default)]
pub(crate) struct StateCache(Mutex<HashMap<String, Entry>>);

impl StateCache {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let mut entries = self.entries();
        if entries.get(key)?.is_live(Instant::now()) {
            entries.get(key).map(|entry| entry.value.clone())
        } else {
            entries.remove(key);
            None
        }
    }

    fn put(&self, key: String, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
        let now = Instant::now();
        let mut entries = self.entries();
        entries.retain(|other, entry| *other != key && entry.is_live(now));
        let used: usize = entries.iter().map(|(key, entry)| key.len() + entry.value.len()).sum();
        if used + key.len() + value.len() > CAPACITY {
            return Err(error(ErrorKind::Exhausted, format!("the cache is full ({CAPACITY} bytes)")));
        }
        // A time to live beyond the clock's range is for ever.
        entries.insert(key, Entry { value, expires: ttl.and_then(|ttl| now.checked_add(ttl)) });
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.entries().remove(key);
    }
}

impl Host for CallState {
    fn get(&mut self, key: String) -> Option<Vec<u8>> {
        self.context.state.get(&key)
    }

    fn put(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Result<(), Error> {
        self.context.state.put(key, value, ttl_ms.map(Duration::from_millis))
    }

    fn remove(&mut self, key: String) {
        self.context.state.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_values_until_they_expire_or_are_removed() {
        let state = StateCache::default();
        state.put("a".into(), vec![1], None).unwrap();
        state.put("b".into(), vec![2], Some(Duration::ZERO)).unwrap();
        assert_eq!(state.get("a"), Some(vec![1]));
        assert_eq!(state.get("b"), None);
        state.remove("a");
        assert_eq!(state.get("a"), None);
    }

    #[test]
    fn a_full_cache_says_so_and_keeps_what_it_has() {
        let state = StateCache::default();
        state.put("a".into(), vec![0; CAPACITY / 2], None).unwrap();
        let refused = state.put("b".into(), vec![0; CAPACITY / 2], None).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Exhausted);
        assert!(state.get("a").is_some());
        state.put("a".into(), vec![0; CAPACITY - 1], None).expect("a value makes room for its successor");
    }
}
