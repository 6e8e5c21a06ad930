//! A small cache of a controller, kept between calls.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use streamspace_bindings::imports::state::Host;
use streamspace_bindings::types::{Error, ErrorKind};

use super::error;
use crate::call::CallState;

/// Bytes that one controller's cache may take.
const CAPACITY: usize = 4 << 20;

/// Bytes that an entry takes beside its key and value.
const OVERHEAD: usize = 128;

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
pub(crate) struct StateCache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, Entry>,
    /// What they take, in bytes.
    size: usize,
}

impl Entries {
    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.by_key.remove(key) {
            self.size -= size(key, &entry.value);
        }
    }

    /// What all others take.
    fn size_without(&self, key: &str) -> usize {
        self.size - self.by_key.get(key).map_or(0, |entry| size(key, &entry.value))
    }

    fn remove_expired(&mut self, now: Instant) {
        self.by_key.retain(|key, entry| {
            let live = entry.is_live(now);
            if !live {
                self.size -= size(key, &entry.value);
            }
            live
        });
    }
}

fn size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD
}

impl StateCache {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let entries = self.entries();
        entries.by_key.get(key).filter(|entry| entry.is_live(Instant::now())).map(|entry| entry.value.clone())
    }

    fn put(&self, key: String, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
        let now = Instant::now();
        let size = size(&key, &value);
        let mut entries = self.entries();
        if entries.size_without(&key) + size > CAPACITY {
            entries.remove_expired(now);
        }
        if entries.size_without(&key) + size > CAPACITY {
            return Err(error(ErrorKind::Exhausted, format!("the cache is full ({CAPACITY} bytes)")));
        }
        entries.remove(&key);
        entries.size += size;
        // A time to live beyond the clock's range is for ever.
        let expires = ttl.and_then(|ttl| now.checked_add(ttl));
        entries.by_key.insert(key, Entry { value, expires });
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.entries().remove(key);
    }

    pub(crate) fn clear(&self) {
        *self.entries() = Entries::default();
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
        let refused = state.put("a".into(), vec![0; CAPACITY], None).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Exhausted);
        assert_eq!(state.get("a").unwrap().len(), CAPACITY / 2, "what is refused replaces nothing");
        state
            .put("a".into(), vec![0; CAPACITY - 1 - OVERHEAD], None)
            .expect("a value makes room for its successor");
    }

    #[test]
    fn tiny_entries_are_not_free_and_expired_ones_make_room() {
        let state = StateCache::default();
        let more = CAPACITY / OVERHEAD * 2;
        let full = (0..more).find(|i| state.put(i.to_string(), vec![], Some(Duration::ZERO)).is_err());
        assert_eq!(full, None, "all of them are expired");
        let state = StateCache::default();
        let full = (0..more).find(|i| state.put(i.to_string(), vec![], None).is_err());
        assert!(full.is_some_and(|count| count <= CAPACITY / OVERHEAD));
    }
}
