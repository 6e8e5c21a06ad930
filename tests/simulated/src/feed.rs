//! The feed of events: a bounded buffer that forgets the oldest.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use crate::object::BoxRecord;

/// A change of a box.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    pub(crate) seq: u64,
    /// Whether the box is gone; else it is as `record` says.
    pub(crate) gone: bool,
    #[serde(rename = "box")]
    pub(crate) record: Arc<BoxRecord>,
}

/// A part of the feed.
#[derive(Debug, Serialize)]
pub(crate) struct EventPage {
    /// Numbers of another instance mean nothing here.
    pub(crate) instance: String,
    pub(crate) events: Vec<Event>,
    /// Where the next page starts.
    pub(crate) next: u64,
    /// Events after the number asked for are gone.
    pub(crate) lost: bool,
}

/// The buffer.
pub(crate) struct Feed {
    instance: String,
    events: VecDeque<Event>,
    last: u64,
}

impl Feed {
    pub(crate) fn new(instance: String) -> Self {
        Self { instance, events: VecDeque::new(), last: 0 }
    }

    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn push(&mut self, record: Arc<BoxRecord>, gone: bool, keep: usize) {
        self.last += 1;
        self.events.push_back(Event { seq: self.last, gone, record });
        while self.events.len() > keep {
            self.events.pop_front();
        }
    }

    /// Loses everything. A reader that has not seen it all is told so.
    pub(crate) fn forget(&mut self) {
        // So that even a reader who had seen everything cannot be sure.
        self.last += 1;
        self.events.clear();
    }

    /// Events of one controller after a number that this instance gave; none = from now on.
    pub(crate) fn read(
        &self,
        position: Option<(&str, u64)>,
        controller: Option<&str>,
        limit: usize,
    ) -> EventPage {
        let page = |events, next, lost| EventPage { instance: self.instance.clone(), events, next, lost };
        let Some((instance, after)) = position else { return page(Vec::new(), self.last, false) };
        let oldest = self.events.front().map_or(self.last + 1, |event| event.seq);
        if instance != self.instance || after > self.last || after + 1 < oldest {
            return page(Vec::new(), self.last, true);
        }
        // Numbers have no gaps in the buffer.
        let skip = usize::try_from(after + 1 - oldest).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut next = after;
        for event in self.events.iter().skip(skip) {
            next = event.seq;
            if event.record.is_of(controller) {
                found.push(event.clone());
                if found.len() == limit {
                    break;
                }
            }
        }
        page(found, next, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::NewBox;

    fn record(name: &str) -> Arc<BoxRecord> {
        let new = serde_json::from_value::<NewBox>(serde_json::json!({"name": name})).unwrap();
        Arc::new(BoxRecord::new(new, 1, 0))
    }

    #[test]
    fn a_reader_misses_nothing_or_is_told() {
        let mut feed = Feed::new("i".into());
        let start = feed.read(None, None, 10).next;
        for name in ["a", "b", "c"] {
            feed.push(record(name), false, 2);
        }
        assert!(feed.read(Some(("i", start)), None, 10).lost, "`a` is gone from the buffer");
        assert!(feed.read(Some(("other", 3)), None, 10).lost);
        assert!(feed.read(Some(("i", 99)), None, 10).lost);
        let page = feed.read(Some(("i", 1)), None, 1);
        assert_eq!((page.events[0].record.name.as_str(), page.next, page.lost), ("b", 2, false));
        feed.forget();
        assert!(feed.read(Some(("i", 3)), None, 10).lost);
        assert!(!feed.read(Some(("i", feed.last)), None, 10).lost);
    }
}
