//! How long this server may act.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A moment by a clock that nobody sets and that goes on while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before everything.
    const NEVER: Self = Self(0);
    /// After everything.
    const FOREVER: Self = Self(u64::MAX);

    pub(crate) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
        // Never 0: that is before everything.
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos).max(1))
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }

    fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One unbroken stay among the servers. Once it is over it is never taken up again: others may have taken over what was
/// claimed in it.
#[derive(Debug)]
pub(crate) struct Term {
    /// Names the place, and whoever claims from it.
    owner: String,
    /// Until then nobody can have ended it.
    sure_until: AtomicU64,
    lease: Duration,
}

impl Term {
    /// The stay that was asked for at that moment.
    pub(super) fn new(owner: String, lease: Duration, asked: Moment) -> Self {
        let term = Self { owner, sure_until: AtomicU64::new(0), lease };
        term.prolong(asked);
        term
    }

    /// The stay of whoever has the database to itself.
    pub(super) fn without_end(owner: String) -> Self {
        Self { owner, sure_until: AtomicU64::new(Moment::FOREVER.0), lease: Duration::MAX }
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// Whether this server may act now. Clocks do not run alike: it ends a little before the lease does.
    pub(crate) fn is_sure(&self) -> bool {
        Moment::now().0 < self.sure_until.load(Ordering::SeqCst)
    }

    /// The lease began anew, not before that moment.
    pub(super) fn prolong(&self, asked: Moment) {
        let until = asked.after(self.lease - self.lease / 10);
        self.sure_until.fetch_max(until.0, Ordering::SeqCst);
    }

    /// It is over.
    pub(super) fn end(&self) {
        self.sure_until.store(Moment::NEVER.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_before_its_lease_and_lasts_as_long_as_it_is_renewed() {
        let lease = Duration::from_secs(100);
        let ago = |seconds: u64| Moment(Moment::now().0 - seconds * 1_000_000_000);
        assert!(Term::new("s".into(), lease, ago(80)).is_sure());
        let term = Term::new("s".into(), lease, ago(95));
        assert!(!term.is_sure(), "the lease is not over yet, but may be by another clock");
        term.prolong(ago(10));
        assert!(term.is_sure());
        term.prolong(ago(95));
        assert!(term.is_sure(), "answers may come in any order");
        term.end();
        assert!(!term.is_sure());
        assert!(Term::without_end("s".into()).is_sure());
    }
}
