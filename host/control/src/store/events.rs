//! What the store says about events.

use crate::domain::{Event, EventCursor, SessionId};

/// Which events somebody may and wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventScope {
    /// Only those of this user's sessions; absent = all, those of controllers included.
    pub user_id: Option<String>,
    /// Only those of these sessions; empty = of any.
    pub sessions: Vec<SessionId>,
}

impl EventScope {
    /// Whether an event is within.
    pub fn covers(&self, event: &Event) -> bool {
        let of_user = self.user_id.is_none() || self.user_id == event.user_id;
        let id = event.session_id.as_deref();
        let of_session = self.sessions.is_empty() || self.sessions.iter().any(|one| Some(one.as_str()) == id);
        of_user && of_session
    }
}

/// A question for events.
#[derive(Debug, Clone)]
pub struct EventQuery {
    /// Which.
    pub scope: EventScope,
    /// Behind this one.
    pub after: EventCursor,
    /// At most so many.
    pub limit: u32,
}

/// Events, oldest first.
#[derive(Debug)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// The last event of all when the page was read. If the page is not full, everything up to there is in it.
    pub upto: EventCursor,
    /// Some events behind the place asked for are removed already, or that place never was.
    pub lost: bool,
}
