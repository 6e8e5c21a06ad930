//! A listing of everything that a controller owns, and what it says about one session.

use std::collections::HashMap;

use streamspace_proto::controller::v1 as proto;

use super::drift::Sight;
use crate::domain::Session;
use crate::fleet::Observation;

/// All pages of a listing.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By session.
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// `None` = listed, but not in words that can be read.
    observation: Option<Observation>,
    /// The controller says that it made it.
    owned: bool,
}

impl Listing {
    pub(super) fn add(&mut self, entry: proto::SessionEntry) {
        let ownership = entry.ownership();
        if ownership == proto::Ownership::Adoptable {
            return;
        }
        let Some(status) = entry.status.filter(|status| !status.session_id.is_empty()) else {
            // Whoever misses a session because of that asks for it by name.
            tracing::warn!("an entry without a session in the listing");
            return;
        };
        let id = status.session_id.clone();
        let observation = Observation::read(status).ok();
        if observation.is_none() {
            tracing::warn!(session = id, "an unreadable entry in the listing");
        }
        let owned = ownership == proto::Ownership::Owned;
        self.entries.insert(id, Entry { observation, owned });
    }

    fn of(&self, id: &str) -> Sight<'_> {
        match self.entries.get(id).map(|entry| &entry.observation) {
            Some(Some(observation)) => Sight::There(observation),
            Some(None) => Sight::NotSeen,
            None => Sight::Missing,
        }
    }

    /// The ids of everything that bears the controller's own mark.
    fn owned(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, entry)| entry.owned).map(|(id, _)| id.as_str())
    }
}

/// Answers for single sessions; `None` = the backend says that it is not there.
pub(super) type Answers = HashMap<String, Option<Observation>>;

/// What was seen of all sessions.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Everything there is, if the controller can list.
    listing: Option<Listing>,
    /// What was asked for by name. It counts more than the listing.
    answers: Answers,
}

impl Seen {
    pub(super) fn listed(listing: Listing) -> Self {
        Self { listing: Some(listing), answers: Answers::new() }
    }

    pub(super) fn answered(answers: Answers) -> Self {
        Self { listing: None, answers }
    }

    /// Replaces what is known of these sessions by what they were asked; one without an answer is not known of.
    pub(super) fn confirm<'a>(&mut self, asked: impl Iterator<Item = &'a Session>, answers: Answers) {
        for session in asked {
            if let Some(listing) = &mut self.listing {
                let entry = Entry { observation: None, owned: false };
                listing.entries.insert(session.id.to_string(), entry);
            }
            self.answers.remove(session.id.as_str());
        }
        self.answers.extend(answers);
    }

    /// Whether what is known of a session is the answer to a question for it.
    pub(super) fn is_answer(&self, session: &Session) -> bool {
        self.answers.contains_key(session.id.as_str())
    }

    pub(super) fn of(&self, session: &Session) -> Sight<'_> {
        self.of_id(session.id.as_str())
    }

    pub(super) fn of_id(&self, id: &str) -> Sight<'_> {
        match (self.answers.get(id), &self.listing) {
            (Some(Some(observation)), _) => Sight::There(observation),
            (Some(None), _) => Sight::Missing,
            (None, Some(listing)) => listing.of(id),
            (None, None) => Sight::NotSeen,
        }
    }

    /// The ids of everything that a listing shows with the controller's own mark.
    pub(super) fn owned(&self) -> impl Iterator<Item = &str> {
        self.listing.iter().flat_map(Listing::owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_entry_makes_nobody_missing() {
        let entry = |id: &str, phase: &str| proto::SessionEntry {
            status: Some(proto::SessionStatusResponse {
                session_id: id.into(),
                phase: phase.into(),
                ..Default::default()
            }),
            ownership: proto::Ownership::Owned.into(),
            ..Default::default()
        };
        let mut listing = Listing::default();
        listing.add(entry("a", "Running"));
        listing.add(entry("b", "Melting"));
        assert!(matches!(listing.of("a"), Sight::There(_)));
        assert_eq!((listing.of("b"), listing.of("c")), (Sight::NotSeen, Sight::Missing));
        let adoptable = proto::Ownership::Adoptable.into();
        listing.add(proto::SessionEntry { ownership: adoptable, ..Default::default() });
        assert_eq!(listing.of("c"), Sight::Missing);
        listing.add(proto::SessionEntry { status: None, ..entry("", "") });
        assert!(matches!(listing.of("a"), Sight::There(_)));
        assert_eq!(listing.of("c"), Sight::Missing, "to be asked for by name");
    }
}
