//! A listing of everything that a controller owns, and what it says about one session.

use std::collections::{BTreeMap, HashMap, HashSet};

use streamspace_proto::controller::v1 as proto;

use super::Unobserved;
use super::drift::Sight;
use crate::domain::{DriftObject, DriftOwnership, MAX_ID_BYTES, Session, shortened};
use crate::fleet::Observation;

/// Entries asked for at once.
const PAGE: i32 = 500;
/// A listing that does not end is no listing.
const MOST_PAGES: usize = 10_000;

/// A listing under way: it is none before its last page has come.
#[derive(Debug, Default)]
pub(super) struct Pages {
    all: Listing,
    cursor: String,
    taken: usize,
}

/// What comes after a page.
#[derive(Debug)]
pub(super) enum Turn {
    /// Another page.
    More(Pages),
    /// Nothing: this is all there is.
    Whole(Listing),
}

impl Pages {
    /// What to ask for next.
    pub(super) fn request(&self) -> proto::ListSessionsRequest {
        proto::ListSessionsRequest { cursor: self.cursor.clone(), limit: PAGE }
    }

    /// Takes the next page.
    pub(super) fn take(mut self, page: proto::ListSessionsResponse) -> Result<Turn, Unobserved> {
        page.entries.into_iter().for_each(|entry| self.all.add(entry));
        self.taken += 1;
        if page.next_cursor.is_empty() {
            return Ok(Turn::Whole(self.all));
        }
        if page.next_cursor == self.cursor || self.taken >= MOST_PAGES {
            return Err(Unobserved::Endless);
        }
        self.cursor = page.next_cursor;
        Ok(Turn::More(self))
    }
}

/// All pages of a listing.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By session.
    entries: HashMap<String, Entry>,
    /// What somebody else made and no session id is known of, by the backend's name of it.
    nameless: BTreeMap<String, DriftObject>,
}

#[derive(Debug)]
struct Entry {
    /// `None` = listed, but not in words that can be read.
    observation: Option<Observation>,
    /// Who made it, as the controller says; `None` = it does not say so.
    ownership: Option<DriftOwnership>,
    user_id: String,
    wish: String,
    external_ref: String,
}

impl Entry {
    /// Nothing is known of what is there.
    fn unknown() -> Self {
        let (user_id, wish, external_ref) = Default::default();
        Self { observation: None, ownership: None, user_id, wish, external_ref }
    }

    fn object(&self, session_id: &str) -> Option<DriftObject> {
        let seen = self.observation.as_ref();
        Some(DriftObject {
            session_id: session_id.to_owned(),
            external_ref: shortened(&self.external_ref),
            ownership: self.ownership?,
            node_id: seen.and_then(|seen| seen.node_id.clone()).unwrap_or_default(),
            phase: seen.map(|seen| seen.phase.as_str().to_owned()).unwrap_or_default(),
            wish: shortened(&self.wish),
            user_id: shortened(&self.user_id),
        })
    }
}

impl Listing {
    pub(super) fn add(&mut self, entry: proto::SessionEntry) {
        let ownership = match entry.ownership() {
            proto::Ownership::Owned => Some(DriftOwnership::Owned),
            proto::Ownership::Adoptable => Some(DriftOwnership::Adoptable),
            proto::Ownership::Unspecified => None,
        };
        let proto::SessionEntry { status, wish, external_ref, user_id, .. } = entry;
        let status = status.filter(|status| is_an_id(&status.session_id));
        if ownership == Some(DriftOwnership::Adoptable) && status.is_none() {
            return self.add_nameless(external_ref, wish, user_id);
        }
        let Some(status) = status else {
            // Whoever misses a session because of that asks for it by name.
            tracing::warn!("an entry without a session in the listing");
            return;
        };
        let id = status.session_id.clone();
        let of_the_controller = |known: &Entry| known.ownership == Some(DriftOwnership::Owned);
        if ownership != Some(DriftOwnership::Owned) && self.entries.get(&id).is_some_and(of_the_controller) {
            // Its own counts, whatever else looks like it.
            return;
        }
        let observation = Observation::read(status).ok();
        if observation.is_none() {
            tracing::warn!(session = id, "an unreadable entry in the listing");
        }
        self.entries.insert(id, Entry { observation, ownership, user_id, wish, external_ref });
    }

    fn add_nameless(&mut self, external_ref: String, wish: String, user_id: String) {
        if !is_an_id(&external_ref) {
            tracing::warn!("an adoptable entry without a name in the listing");
            return;
        }
        let object = DriftObject {
            session_id: String::new(),
            external_ref: external_ref.clone(),
            ownership: DriftOwnership::Adoptable,
            node_id: String::new(),
            phase: String::new(),
            wish: shortened(&wish),
            user_id: shortened(&user_id),
        };
        self.nameless.insert(external_ref, object);
    }

    fn of(&self, id: &str) -> Sight<'_> {
        match self.entries.get(id).map(|entry| &entry.observation) {
            Some(Some(observation)) => Sight::There(observation),
            Some(None) => Sight::NotSeen,
            None => Sight::Missing,
        }
    }

    /// What the controller made, or could take over, and what is none of these sessions.
    fn others(&self, sessions: &HashSet<&str>) -> Vec<DriftObject> {
        let named = self.entries.iter().filter(|(id, _)| !sessions.contains(id.as_str()));
        let named = named.filter_map(|(id, entry)| entry.object(id));
        named.chain(self.nameless.values().cloned()).collect()
    }
}

/// Whether it can be the name of anything: every database can hold it.
fn is_an_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID_BYTES && !text.contains('\0')
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
                listing.entries.insert(session.id.to_string(), Entry::unknown());
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

    /// What a whole listing shows besides these sessions; `None` = there is no listing.
    pub(super) fn others(&self, sessions: &HashSet<&str>) -> Option<Vec<DriftObject>> {
        self.listing.as_ref().map(|listing| listing.others(sessions))
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
        // What looks like the controller's own does not take its place, in whatever order they come.
        listing.add(proto::SessionEntry { ownership: adoptable, ..entry("a", "Failed") });
        assert!(matches!(listing.of("a"), Sight::There(seen) if seen.phase == crate::domain::Phase::Running));
        listing.add(proto::SessionEntry { status: None, ..entry("", "") });
        assert!(matches!(listing.of("a"), Sight::There(_)));
        assert_eq!(listing.of("c"), Sight::Missing, "to be asked for by name");
    }
}
