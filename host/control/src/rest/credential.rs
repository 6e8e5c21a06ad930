//! Tickets: what a browser shows instead of its token where it cannot set a header. Each is good once, for a short
//! time, and only while this process lives.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// How long a ticket is good.
pub(super) const LIFE: Duration = Duration::from_secs(30);
/// Tickets that are good at the same time.
const MOST: usize = 10_000;

/// A token, kept to see later whether it is still valid. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential(String);

impl Credential {
    pub(crate) fn new(token: &str) -> Self {
        Self(token.to_owned())
    }

    pub(super) fn token(&self) -> &str {
        &self.0
    }
}

/// All tickets that are good.
#[derive(Default)]
pub(super) struct Tickets {
    good: Mutex<HashMap<String, (Credential, Instant)>>,
}

impl Tickets {
    /// A new ticket for this token; `None` when there are too many.
    pub(super) fn issue(&self, credential: Credential, now: Instant) -> Option<String> {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.retain(|_, (_, until)| *until > now);
        if good.len() >= MOST {
            return None;
        }
        // 244 random bits.
        let ticket = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        good.insert(ticket.clone(), (credential, now + LIFE));
        Some(ticket)
    }

    /// Whose ticket it is; never again after this.
    pub(super) fn redeem(&self, ticket: &str, now: Instant) -> Option<Credential> {
        let found = self.good.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket);
        found.filter(|(_, until)| *until > now).map(|(credential, _)| credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let (tickets, begun) = (Tickets::default(), Instant::now());
        let token = Credential::new("t");
        let first = tickets.issue(token.clone(), begun).unwrap();
        let second = tickets.issue(token.clone(), begun).unwrap();
        assert_ne!(first, second);
        assert!(tickets.redeem(&first, begun) == Some(token));
        assert!(tickets.redeem(&first, begun).is_none(), "a second time");
        assert!(tickets.redeem(&second, begun + LIFE).is_none(), "too late");
    }
}
