use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use streamspace_proto::controller::v1 as proto;

use super::super::listing::{Listing, Pages, Turn};
use super::*;
use crate::domain::{ControllerId, now};

const INVENTORIES: usize = 10_000;
/// Looks at one inventory, each at another state of it.
const LOOKS: usize = 6;
const GRACE: Duration = Duration::from_secs(3600);

/// What an object really is, which only the backend knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The controller made it.
    Own,
    /// Somebody else did, in a form that could be taken over.
    Adoptable,
    /// Somebody else did, and it only looks like one of ours. No controller lists it.
    Foreign,
}

/// A backend, and what the database knows.
struct World {
    rng: SmallRng,
    objects: BTreeMap<String, Kind>,
    /// Sessions on this controller, and those on others.
    sessions: BTreeSet<String>,
    elsewhere: BTreeSet<String>,
    tombstones: BTreeMap<String, DateTime<Utc>>,
    entries: BTreeMap<String, Drift>,
    now: DateTime<Utc>,
    grace: Option<Duration>,
    next: u32,
    /// Nothing happens meanwhile, and nothing fails.
    at_rest: bool,
}

/// How a listing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Whole,
    /// It breaks off behind some page.
    Partial,
    /// There is none.
    Failed,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let grace = rng.random_bool(0.3).then_some(GRACE);
        let mut world = Self {
            rng,
            objects: BTreeMap::new(),
            sessions: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            tombstones: BTreeMap::new(),
            entries: BTreeMap::new(),
            now: now(),
            grace,
            next: 0,
            at_rest: false,
        };
        for _ in 0..world.rng.random_range(0..40) {
            world.happen();
        }
        world
    }

    fn some(&mut self, of: &BTreeSet<String>) -> Option<String> {
        let index = self.rng.random_range(0..of.len().max(1));
        of.iter().nth(index).cloned()
    }

    fn fresh(&mut self) -> String {
        self.next += 1;
        format!("object-{}", self.next)
    }

    /// Something happens at the backend or in the database.
    fn happen(&mut self) {
        self.now += chrono::Duration::seconds(self.rng.random_range(1..600));
        let id = self.fresh();
        match self.rng.random_range(0..10) {
            // A session, with its object or without.
            0..=3 => {
                self.sessions.insert(id.clone());
                if self.rng.random_bool(0.9) {
                    self.objects.insert(id, Kind::Own);
                }
            }
            // What nobody knows.
            4 => drop(self.objects.insert(id, Kind::Own)),
            5 => drop(self.objects.insert(id, Kind::Adoptable)),
            6 => {
                // Some of it under the id of what we know.
                let known = if self.rng.random_bool(0.5) { self.sessions.clone() } else { BTreeSet::new() };
                let id = self.some(&known).unwrap_or(id);
                self.objects.entry(id).or_insert(Kind::Foreign);
            }
            // A session goes, and its object with it or not.
            7 => {
                let sessions = self.sessions.clone();
                if let Some(id) = self.some(&sessions) {
                    self.sessions.remove(&id);
                    if self.rng.random_bool(0.5) {
                        self.objects.remove(&id);
                    }
                    self.tombstones.insert(id, self.now);
                }
            }
            8 => {
                self.elsewhere.insert(id.clone());
                self.objects.insert(id, Kind::Own);
            }
            // Objects are lost, some or many.
            _ => {
                let share = if self.rng.random_bool(0.2) { 0.9 } else { 0.1 };
                let rng = &mut self.rng;
                self.objects.retain(|_, _| !rng.random_bool(share));
            }
        }
    }

    /// Operators say something.
    fn order(&mut self) {
        for entry in self.entries.values_mut() {
            match self.rng.random_range(0..12) {
                0 => entry.state = DriftState::Ignored,
                1 if entry.object.ownership == DriftOwnership::Owned => {
                    entry.state = DriftState::Deleting;
                    if !self.elsewhere.contains(&entry.object.session_id) {
                        self.tombstones.insert(entry.object.session_id.clone(), self.now);
                    }
                }
                _ => {}
            }
        }
    }

    /// What the controller lists, page by page, in no certain order.
    fn list(&mut self, course: Course) -> Option<Listing> {
        let mut entries: Vec<proto::SessionEntry> = Vec::new();
        for (id, kind) in &self.objects {
            let ownership = match kind {
                Kind::Own => proto::Ownership::Owned,
                Kind::Adoptable => proto::Ownership::Adoptable,
                Kind::Foreign => continue,
            };
            let named = *kind == Kind::Own || id.ends_with(['0', '2', '4', '6', '8']);
            entries.push(proto::SessionEntry {
                status: Some(proto::SessionStatusResponse {
                    session_id: if named { id.clone() } else { String::new() },
                    phase: "Running".into(),
                    ..Default::default()
                }),
                ownership: ownership.into(),
                external_ref: id.clone(),
                ..Default::default()
            });
        }
        let mut pages: Vec<Vec<proto::SessionEntry>> = vec![Vec::new()];
        for entry in entries {
            if self.rng.random_bool(0.2) {
                pages.push(Vec::new());
            }
            if let Some(page) = pages.last_mut() {
                page.push(entry);
            }
        }
        let come = match course {
            Course::Whole => pages.len(),
            Course::Partial => self.rng.random_range(0..pages.len()),
            Course::Failed => 0,
        };
        let last = pages.len() - 1;
        let mut turn = Pages::default();
        for (number, entries) in pages.into_iter().enumerate().take(come) {
            let next_cursor = if number == last { String::new() } else { (number + 1).to_string() };
            match turn.take(proto::ListSessionsResponse { entries, next_cursor }).unwrap() {
                Turn::More(more) => turn = more,
                Turn::Whole(listing) => return Some(listing),
            }
        }
        None
    }

    /// What the observer does with a listing, over what the database says.
    fn look(&mut self, course: Course) {
        let begun = self.now;
        // Meanwhile a session may be deleted: its object stands in the listing.
        let listing = self.list(course);
        if !self.at_rest && self.rng.random_bool(0.2) {
            let sessions = self.sessions.clone();
            if let Some(id) = self.some(&sessions) {
                self.sessions.remove(&id);
                self.objects.remove(&id);
                self.tombstones.insert(id, self.now);
            }
        }
        let (objects_before, entries_before) = (self.objects.clone(), self.entries.clone());
        // A listing that did not come whole is none: there is nothing that could be decided about.
        let Some(listing) = listing else { return };
        assert_eq!(course, Course::Whole);

        let seen = super::super::listing::Seen::listed(listing);
        let known: HashSet<&str> = self.sessions.iter().map(String::as_str).collect();
        let others = seen.others(&known).unwrap();
        let lost = self.sessions.iter().filter(|id| self.objects.get(*id) != Some(&Kind::Own)).count();
        let objects = others.into_iter().map(|object| Unexplained {
            deleted_at: self
                .tombstones
                .get(&object.session_id)
                .copied()
                .filter(|_| !self.elsewhere.contains(&object.session_id)),
            elsewhere: self.elsewhere.contains(&object.session_id),
            object,
        });
        let situation = Situation {
            objects: objects.collect(),
            entries: self.entries.values().cloned().collect(),
            placed: self.sessions.len(),
            lost,
            begun,
            now: self.now,
            grace: self.grace,
        };
        let plan = situation.plan();

        let most = most_at_once(self.sessions.len());
        let mut unasked = 0;
        for Removal { session_id, asked } in &plan.removals {
            assert_eq!(self.objects.get(session_id), Some(&Kind::Own), "only what the controller made");
            assert!(!self.sessions.contains(session_id), "never a session's");
            let entry = self.entries.values().find(|entry| entry.object.session_id == *session_id);
            match asked {
                Some(id) => {
                    let entry = entry.unwrap();
                    assert_eq!((&entry.id, entry.state), (id, DriftState::Deleting), "a command");
                }
                None => {
                    unasked += 1;
                    let overdue = |entry: &Drift| {
                        let waited = (self.now - entry.first_seen).to_std().unwrap();
                        self.grace.is_some_and(|grace| waited >= grace)
                    };
                    let buried = self.tombstones.get(session_id).is_some_and(|at| *at < begun);
                    assert!(buried || entry.is_some_and(overdue), "a tombstone, or the grace period");
                    assert!(!self.elsewhere.contains(session_id), "never another controller's session");
                    assert!(entry.is_none_or(|entry| entry.state != DriftState::Ignored));
                }
            }
        }
        assert!(unasked <= most, "{unasked} of {most}");
        if lost > most {
            assert_eq!(
                (unasked, plan.report.alarm.map(|alarm| alarm.kind)),
                (0, Some(DriftAlarmKind::Losses))
            );
        }
        for id in self.tombstones.keys().filter(|id| self.objects.get(*id) == Some(&Kind::Own)) {
            let kept = plan.report.buried.contains(id) || self.elsewhere.contains(id);
            assert!(kept, "a tombstone goes while its object is there");
        }
        self.apply(plan, &entries_before);
        for (id, kind) in &objects_before {
            assert!(*kind != Kind::Foreign || self.objects.contains_key(id), "a foreign object was touched");
        }
    }

    fn apply(&mut self, plan: Plan, before: &BTreeMap<String, Drift>) {
        let Plan { report, removals } = plan;
        for id in report.gone {
            self.entries.retain(|_, entry| entry.id != id);
        }
        for DriftSighting { object, reason } in report.seen {
            let key = object.key();
            let known = before.get(&key);
            let entry = Drift {
                id: known.map_or_else(DriftId::generate, |known| known.id.clone()),
                controller_id: ControllerId::parse("ctrl-1").unwrap(),
                object,
                reason,
                state: known.map_or(DriftState::Found, |known| known.state),
                message: String::new(),
                first_seen: known.map_or(self.now, |known| known.first_seen),
                last_seen: self.now,
            };
            self.entries.insert(key, entry);
        }
        for Removal { session_id, .. } in removals {
            // Some removals come to nothing.
            if self.at_rest || self.rng.random_bool(0.9) {
                self.objects.remove(&session_id);
            }
        }
        self.now += chrono::Duration::seconds(30);
    }

    /// What the list has to have once nothing happens any more. Things without a session id are known by their name.
    fn judge(&self) {
        let listed: BTreeSet<&String> =
            self.entries.values().map(|entry| &entry.object.external_ref).collect();
        for (id, kind) in &self.objects {
            let wanted = match kind {
                Kind::Foreign => false,
                Kind::Adoptable => true,
                Kind::Own => !self.sessions.contains(id),
            };
            assert_eq!(listed.contains(id), wanted, "{id} ({kind:?})");
        }
        for id in listed {
            assert!(self.objects.contains_key(id), "{id} is in the list and not there");
        }
    }
}

#[test]
fn no_inventory_costs_what_is_not_ours_or_not_to_go() {
    let (mut removed, mut recorded, mut alarms) = (0, 0, 0);
    for seed in 0..INVENTORIES as u64 {
        let mut world = World::new(seed);
        for _ in 0..LOOKS {
            for _ in 0..world.rng.random_range(0..4) {
                world.happen();
            }
            if world.rng.random_bool(0.3) {
                world.order();
            }
            let course = match world.rng.random_range(0..10) {
                0 | 1 => Course::Partial,
                2 => Course::Failed,
                _ => Course::Whole,
            };
            let before = (world.objects.len(), world.entries.clone());
            world.look(course);
            if course != Course::Whole {
                assert_eq!(world.entries, before.1, "{course:?}");
            }
            removed += usize::from(world.objects.len() < before.0);
            recorded += world.entries.len();
        }
        // Nothing happens any more: the list is what is there.
        world.at_rest = true;
        let mut left = usize::MAX;
        while left != world.objects.len() {
            left = world.objects.len();
            world.now += chrono::Duration::seconds(30);
            world.look(Course::Whole);
            let lost = world.sessions.iter().filter(|id| !world.objects.contains_key(*id)).count();
            alarms += usize::from(lost > most_at_once(world.sessions.len()));
        }
        world.judge();
    }
    // A test in which nothing happens proves nothing.
    assert!(removed > 1000 && recorded > 10_000 && alarms > 100, "{removed} {recorded} {alarms}");
}
