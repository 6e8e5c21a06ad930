//! One mutation at a time for each session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// Locks by session id, there only while somebody holds or awaits them.
#[derive(Debug, Default)]
pub(crate) struct SessionLocks(Mutex<HashMap<String, Weak<Lock>>>);

impl SessionLocks {
    /// Waits until nobody else changes the session.
    pub(crate) async fn acquire(&self, session: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match locks.get(session).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    locks.retain(|_, lock| lock.strong_count() > 0);
                    let lock = Arc::new(Lock::new(()));
                    locks.insert(session.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_holder_for_each_session_and_nothing_kept_afterwards() {
        let locks = SessionLocks::default();
        let first = locks.acquire("a").await;
        assert!(locks.acquire("a").now_or_never().is_none(), "held");
        assert!(locks.acquire("b").now_or_never().is_some(), "another session is free");
        drop(first);
        assert!(locks.acquire("a").now_or_never().is_some(), "free again");
        drop(locks.acquire("c").await);
        assert_eq!(locks.0.lock().unwrap().len(), 1, "only the last is remembered");
    }
}
