//! How long this process may change anything.
//!
//! Of several processes of one controller one is active, by a lease that begins anew with every sign of life. Another one may
//! be called as soon as the API server has not heard of this one for the time of its lease: by then this one must not change
//! anything any more, also if it hears of nothing, was stopped for a while, or is in the middle of a call. So the lease counts
//! here from the moment at which its renewal was *sent*, which is before the API server can have noted it, and ends a little
//! early: for clocks that do not run alike, and for the last request to the backend that is under way by then.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tonic::Status;

use crate::status;

/// This part of a lease, one in so many, is left at its end.
const REST: u32 = 6;
/// When whoever is refused may ask again: by then it has been decided who is called.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A moment by a clock that nobody sets and that goes on while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanos))
    }

    fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(pause))
    }
}

/// Whether this process may change anything. Its copies are one.
#[derive(Debug, Clone)]
pub struct Tenure(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    hold: Hold,
    /// Nothing new is begun: it is about to end.
    ending: bool,
}

#[derive(Debug)]
enum Hold {
    /// There is no other process: nobody takes turns with this one.
    Unlimited,
    /// Another one is called, or nobody has said yet that this one is.
    Standby,
    /// It is called until then, unless it hears more.
    Until(Moment),
}

/// Why nothing is changed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    Standby,
    LeaseOver,
    Ending,
}

impl Default for Tenure {
    /// Of a process that takes turns with nobody.
    fn default() -> Self {
        Self::with(Hold::Unlimited)
    }
}

impl Tenure {
    fn with(hold: Hold) -> Self {
        Self(Arc::new(RwLock::new(State { hold, ending: false })))
    }

    /// Of a process that waits to be told that it is the active one.
    pub fn standby() -> Self {
        Self::with(Hold::Standby)
    }

    /// The API server says that this process is active, in answer to what was sent then.
    pub fn prolong(&self, sent: Moment, lease: Duration) {
        let until = sent.after(lease.saturating_sub(lease / REST));
        self.0.write().unwrap_or_else(PoisonError::into_inner).hold = Hold::Until(until);
    }

    /// It says that another one is.
    pub fn yield_to_another(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).hold = Hold::Standby;
    }

    /// Nothing new is begun any more; what is under way may end.
    pub fn begin_to_end(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).ending = true;
    }

    /// Whether what is under way may change anything now. To be asked before each change.
    pub fn holds(&self) -> bool {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !matches!(state.pause(), Some(Pause::Standby | Pause::LeaseOver))
    }

    /// Lets a mutation begin.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        let pause = self.0.read().unwrap_or_else(PoisonError::into_inner).admission();
        pause.map_or(Ok(()), |pause| Err(pause.status()))
    }
}

impl State {
    fn pause(&self) -> Option<Pause> {
        match self.hold {
            Hold::Unlimited => None,
            Hold::Standby => Some(Pause::Standby),
            Hold::Until(until) => (Moment::now() >= until).then_some(Pause::LeaseOver),
        }
    }

    fn admission(&self) -> Option<Pause> {
        if self.ending { Some(Pause::Ending) } else { self.pause() }
    }
}

impl Pause {
    fn status(self) -> Status {
        let (reason, message) = match self {
            Self::Standby => ("STANDBY", "another process of this controller is the active one"),
            Self::LeaseOver => (
                "LEASE_OVER",
                "the API server was not reached for the time of the lease: another process may be the active one now",
            ),
            Self::Ending => ("CONTROLLER_ENDS", "the controller ends"),
        };
        status::unavailable(reason, message, Some(ASK_AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    fn ago(seconds: u64) -> Moment {
        Moment(Moment::now().0 - Duration::from_secs(seconds))
    }

    fn pause(tenure: &Tenure) -> Option<Pause> {
        tenure.0.read().unwrap().admission()
    }

    #[test]
    fn it_lasts_as_long_as_it_is_renewed_and_ends_before_the_lease_does() {
        let tenure = Tenure::standby();
        assert_eq!(pause(&tenure), Some(Pause::Standby));
        tenure.prolong(ago(45), LEASE);
        assert!(pause(&tenure).is_none() && tenure.holds());
        tenure.prolong(ago(51), LEASE);
        assert_eq!((pause(&tenure), tenure.holds()), (Some(Pause::LeaseOver), false));
        tenure.prolong(ago(1), LEASE);
        assert!(tenure.holds());
        tenure.clone().yield_to_another();
        assert_eq!((pause(&tenure), tenure.holds()), (Some(Pause::Standby), false));
        assert!(pause(&Tenure::default()).is_none() && Tenure::default().holds());
    }

    #[test]
    fn what_is_under_way_may_end() {
        let tenure = Tenure::standby();
        tenure.prolong(ago(1), LEASE);
        tenure.begin_to_end();
        assert_eq!((pause(&tenure), tenure.holds()), (Some(Pause::Ending), true));
        // Unless it takes too long.
        tenure.prolong(ago(60), LEASE);
        assert!(!tenure.holds());
    }
}
