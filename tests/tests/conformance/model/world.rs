//! What there is on the model's backend.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use streamspace_conformance::{Foreign, Weather};
use streamspace_proto::controller::v1::SessionSpec;

#[derive(Clone, Debug)]
pub struct Object {
    pub node: String,
    pub user: String,
    pub hash: String,
    pub spec: SessionSpec,
    pub phase: &'static str,
    pub since: Instant,
    pub doubles: usize,
    /// A wake has begun.
    pub waking: bool,
    /// Somebody gave it another name.
    pub renamed: bool,
}

#[derive(Debug, Default)]
pub struct World {
    pub objects: BTreeMap<String, Object>,
    pub volumes: BTreeSet<String>,
    /// Files by user.
    pub homes: BTreeMap<String, BTreeMap<String, String>>,
    pub foreign: BTreeMap<String, Foreign>,
    pub weather: Option<Weather>,
    pub calls: usize,
    pub nodes: usize,
    pub epoch: u64,
    pub feed: Feed,
}

/// The events that are kept, by number.
#[derive(Debug, Default)]
pub struct Feed {
    /// Number of the first one.
    first: usize,
    sessions: Vec<String>,
}

/// What a reader of the feed is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Something happened to this session.
    Session(String),
    /// There were events that are not kept.
    Lost,
}

impl Feed {
    pub fn end(&self) -> usize {
        self.first + self.sessions.len()
    }

    pub fn push(&mut self, session: &str) {
        self.sessions.push(session.to_owned());
    }

    /// Even who had heard everything cannot be sure after this.
    pub fn forget(&mut self) {
        self.first = self.end() + 1;
        self.sessions.clear();
    }

    /// What comes at a position, and the position behind it; none = nothing yet.
    pub fn read(&self, position: usize) -> Option<(Told, usize)> {
        if position < self.first || position > self.end() {
            return Some((Told::Lost, self.end()));
        }
        let session = self.sessions.get(position - self.first)?;
        Some((Told::Session(session.clone()), position + 1))
    }
}
