//! What a complete listing means for objects that no session explains: which are recorded, and which are removed. Pure.
//!
//! | the object | what happens |
//! |---|---|
//! | made by nobody we know | nothing: it is in no listing |
//! | adoptable | recorded |
//! | the controller's own, of an unknown session | recorded; removed when somebody says so, or after the grace period |
//! | its own, of a session that is placed elsewhere | recorded; removed when somebody says so |
//! | its own, of a deleted session | removed, and its tombstone kept |
//!
//! What nobody has asked for in person is bounded: where a listing would have too much removed, or misses too many
//! sessions, it is not believed. Then nothing is removed unasked, and what should have been is recorded.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{
    Drift, DriftAlarm, DriftAlarmKind, DriftId, DriftObject, DriftOwnership, DriftReason, DriftState,
};
use crate::store::{DriftReport, DriftSighting};

/// So many sessions may be gone, or be removed, in one pass without anybody asking why …
const MOST_AT_ONCE: usize = 5;
/// … or one in so many of those that are placed on the controller.
const MOST_AT_ONCE_PART: usize = 5;
/// That an object is still there is written down so often.
const SEEN_GRAIN: chrono::Duration = chrono::Duration::minutes(1);

/// How many of so many sessions may go at once.
pub(super) fn most_at_once(placed: usize) -> usize {
    MOST_AT_ONCE.max(placed / MOST_AT_ONCE_PART)
}

/// An object that no session on its controller explains, and what is known of its id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unexplained {
    pub(super) object: DriftObject,
    /// When a session of its id was deleted.
    pub(super) deleted_at: Option<DateTime<Utc>>,
    /// There is a session of its id, and it is not placed here.
    pub(super) elsewhere: bool,
}

/// Everything that counts.
#[derive(Debug)]
pub(super) struct Situation {
    /// All that the listing shows and no session explains.
    pub(super) objects: Vec<Unexplained>,
    /// The drift list of the controller.
    pub(super) entries: Vec<Drift>,
    /// Sessions that are placed on the controller, and those of them that the listing misses.
    pub(super) placed: usize,
    pub(super) lost: usize,
    /// When the listing began. What happened since then it may not show, or show still.
    pub(super) begun: DateTime<Utc>,
    pub(super) now: DateTime<Utc>,
    /// How long an object of an unknown session is left alone; `None` = for ever.
    pub(super) grace: Option<Duration>,
}

/// An object that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) session_id: String,
    /// The entry through which somebody asked for it.
    pub(super) asked: Option<DriftId>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) report: DriftReport,
    pub(super) removals: Vec<Removal>,
}

/// What becomes of one object.
enum Fate {
    Record(DriftReason),
    /// Somebody said so.
    RemoveAsked(DriftReason),
    /// Nobody did.
    Remove(DriftReason),
    /// The listing is too old to tell.
    Wait,
}

impl Situation {
    /// Decides about everything that the listing shows.
    pub(super) fn plan(self) -> Plan {
        let known: HashMap<String, &Drift> =
            self.entries.iter().map(|entry| (entry.object.key(), entry)).collect();
        let fates: Vec<_> = self
            .objects
            .iter()
            .map(|found| {
                let entry = known.get(&found.object.key()).copied();
                (found, entry, self.fate(found, entry))
            })
            .collect();
        let unasked = fates.iter().filter(|(_, _, fate)| matches!(fate, Fate::Remove(_))).count();
        let alarm = self.alarm(unasked);

        let mut plan = Plan::default();
        for (found, entry, fate) in &fates {
            let session_id = found.object.session_id.clone();
            let reason = match fate {
                Fate::Wait => continue,
                Fate::Record(reason) => Some(*reason),
                Fate::RemoveAsked(reason) => {
                    let asked = entry.map(|entry| entry.id.clone());
                    plan.removals.push(Removal { session_id, asked });
                    Some(*reason)
                }
                Fate::Remove(reason) if alarm.is_some() => Some(*reason),
                Fate::Remove(reason) => {
                    plan.removals.push(Removal { session_id, asked: None });
                    // It is about to go: only what is in the list already has to stay right.
                    entry.map(|_| *reason)
                }
            };
            if let Some(reason) = reason
                && self.is_news(found, *entry, reason)
            {
                plan.report.seen.push(DriftSighting { object: found.object.clone(), reason });
            }
        }
        let buried = self.objects.iter().filter(|found| found.deleted_at.is_some());
        plan.report.buried = buried.map(|found| found.object.session_id.clone()).collect();
        let listed: HashMap<String, ()> = self.objects.iter().map(|found| (found.object.key(), ())).collect();
        let gone = self.entries.iter().filter(|entry| {
            // What another server has seen since then is younger than this listing.
            !listed.contains_key(&entry.object.key()) && entry.last_seen < self.begun
        });
        plan.report.gone = gone.map(|entry| entry.id.clone()).collect();
        plan.report.alarm = alarm;
        plan
    }

    fn fate(&self, found: &Unexplained, entry: Option<&Drift>) -> Fate {
        let own = found.object.ownership == DriftOwnership::Owned;
        let reason = match (found.deleted_at, found.elsewhere) {
            (_, true) => DriftReason::OtherController,
            (Some(_), false) => DriftReason::DeletedSession,
            (None, false) => DriftReason::UnknownSession,
        };
        match entry.map(|entry| entry.state) {
            Some(DriftState::Deleting) if own => return Fate::RemoveAsked(reason),
            Some(DriftState::Ignored) => return Fate::Record(reason),
            _ => {}
        }
        match (reason, found.deleted_at) {
            // A session that was deleted while the listing was made may still stand in it.
            (DriftReason::DeletedSession, Some(at)) if at >= self.begun => Fate::Wait,
            (DriftReason::DeletedSession, _) if own => Fate::Remove(reason),
            (DriftReason::UnknownSession, _) if own && self.is_overdue(entry) => Fate::Remove(reason),
            _ => Fate::Record(reason),
        }
    }

    fn is_overdue(&self, entry: Option<&Drift>) -> bool {
        let (Some(grace), Some(entry)) = (self.grace, entry) else { return false };
        (self.now - entry.first_seen).to_std().is_ok_and(|waited| waited >= grace)
    }

    fn alarm(&self, unasked: usize) -> Option<DriftAlarm> {
        let most = most_at_once(self.placed);
        let kind = match () {
            () if self.lost > most => DriftAlarmKind::Losses,
            () if unasked > most => DriftAlarmKind::Deletions,
            () => return None,
        };
        let objects = if kind == DriftAlarmKind::Losses { self.lost } else { unasked };
        Some(DriftAlarm { kind, objects, placed: self.placed })
    }

    fn is_news(&self, found: &Unexplained, entry: Option<&Drift>, reason: DriftReason) -> bool {
        entry.is_none_or(|entry| {
            entry.object != found.object || entry.reason != reason || self.now - entry.last_seen >= SEEN_GRAIN
        })
    }
}

#[cfg(test)]
mod tests;
