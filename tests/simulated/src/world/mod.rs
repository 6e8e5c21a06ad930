//! What there is and how it changes. Everything here happens under one lock and takes no time; what has to take time
//! is a [`Job`] that the [service](crate::service) finishes later.

mod boxes;
mod hands;
mod homes;
mod time;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

pub(crate) use self::boxes::BoxPage;
pub(crate) use self::hands::Deed;
use self::time::Then;
pub(crate) use self::time::Timer;
use crate::effect::{Caller, Cause, Effect, EffectKind, Origin};
use crate::feed::Feed;
use crate::journal::{Change, Journal, Kept};
use crate::knobs::{ImageKind, Knobs, Verb};
use crate::object::{BoxRecord, CONTROLLER, SESSION, State, label};
use crate::output::{Line, Output};
use crate::page::Pages;

/// Why something is not done. The client's fault or the state of things; knobs are no refusals.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Invalid(String),
    #[error("there is no {what} `{name}`")]
    NotFound { what: &'static str, name: String },
    #[error("the name `{0}` is taken")]
    Taken(String),
    #[error("`{0}` is busy with another change")]
    Busy(String),
    #[error("there is no home `{0}`")]
    NoHome(String),
    #[error("the home is in use by `{0}`")]
    InUse(String),
    #[error("`{0}` does not run")]
    NotRunning(String),
    #[error("there is room for {0} boxes and no more")]
    Exhausted(usize),
    #[error("there is no image `{0}`")]
    NoImage(String),
    #[error("there is no machine for a box of {0}")]
    TooLarge(String),
    #[error("{0}")]
    Stuck(String),
}

/// How a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It took effect.
    Done,
    /// It was so already.
    Already,
    /// It goes on.
    Accepted,
}

/// Everything.
pub(crate) struct World {
    pub(crate) knobs: Knobs,
    kept: Kept,
    journal: Journal,
    feed: Feed,
    outputs: HashMap<String, Output>,
    pages: Pages,
    /// Boxes by controller.
    counts: HashMap<String, usize>,
    last_uid: u64,
    /// Lines are numbered over all boxes and all lives of the process, so that a number is never used again.
    last_line: u64,
    timers: Vec<Timer>,
    changed: bool,
}

impl World {
    pub(crate) fn new(journal: Journal, kept: Kept, knobs: Knobs) -> Self {
        let instance = format!("{:016x}", rand::random::<u64>());
        let uids = kept.boxes.values().map(|record| record.uid);
        let last_uid = uids.chain(kept.effects.iter().map(|effect| effect.uid)).max().unwrap_or(0);
        let mut world = Self {
            knobs,
            journal,
            feed: Feed::new(instance),
            outputs: HashMap::new(),
            pages: Pages::default(),
            counts: HashMap::new(),
            last_uid,
            // More than any earlier process can have written.
            last_line: now_ms().saturating_mul(1000),
            timers: Vec::new(),
            changed: false,
            kept,
        };
        for record in world.kept.boxes.values() {
            *world.counts.entry(label(&record.labels, CONTROLLER).to_owned()).or_default() += 1;
            if let Some(job) = &record.job {
                let (name, uid) = (record.name.clone(), record.uid);
                world.timers.push(Timer { name, uid, due_ms: job.due_ms, then: Then::Job });
            }
        }
        world
    }

    /// Jobs that were begun since the last time this was asked.
    pub(crate) fn take_timers(&mut self) -> Vec<Timer> {
        std::mem::take(&mut self.timers)
    }

    /// Whether there is anything new since the last time this was asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Lets boxes that outlived an earlier process serve their pages again.
    pub(crate) fn reopen_pages(&mut self) {
        let running = self.kept.boxes.values_mut().filter(|record| record.state == State::Running);
        for record in running {
            let port = self.knobs.settings.pages.then(|| self.pages.open(&record.name)).flatten();
            Arc::make_mut(record).port = port;
        }
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    fn started(
        &mut self,
        mut record: BoxRecord,
        origin: Origin,
        caller: Caller,
        crash_after_ms: Option<u64>,
    ) -> Arc<BoxRecord> {
        record.state = State::Running;
        record.reason.clear();
        record.started_at_ms = Some(now_ms());
        record.starts += 1;
        record.port = self.knobs.settings.pages.then(|| self.pages.open(&record.name)).flatten();
        let starts = record.starts;
        if let Some(after_ms) = crash_after_ms {
            self.later(&record, after_ms, Then::Crash { starts });
        }
        match self.knobs.settings.image(&record.image) {
            Some(ImageKind::Crashing) => self.later(&record, 0, Then::Crash { starts }),
            Some(ImageKind::Talking { every_ms }) => {
                // Never without a pause: the line would be the only thing that happens.
                self.later(&record, every_ms.max(1), Then::Talk { starts, every_ms: every_ms.max(1) });
            }
            Some(ImageKind::Missing) | None => {}
        }
        self.say(&record.name, "the box is started");
        self.put(record, Some(Cause { kind: EffectKind::BoxStarted, origin, caller }))
    }

    fn stopped(&mut self, mut record: BoxRecord, cause: Cause) -> Arc<BoxRecord> {
        record.state = State::Stopped;
        record.reason.clear();
        record.job = None;
        record.ended_at_ms = Some(now_ms());
        self.close_page(&mut record);
        self.say(&record.name, "the box is stopped");
        self.put(record, Some(cause))
    }

    fn crashed(&mut self, mut record: BoxRecord) {
        record.state = State::Failed;
        record.reason = "it crashed".to_owned();
        record.ended_at_ms = Some(now_ms());
        self.close_page(&mut record);
        self.say(&record.name, "the box crashed");
        let cause = Cause { kind: EffectKind::BoxCrashed, origin: Origin::Itself, caller: Caller::default() };
        self.put(record, Some(cause));
    }

    fn removed(&mut self, mut record: BoxRecord, cause: Cause) {
        self.close_page(&mut record);
        self.outputs.remove(&record.name);
        self.commit(Change::BoxGone(Arc::new(record)), Some(cause));
    }

    fn put(&mut self, record: BoxRecord, cause: Option<Cause>) -> Arc<BoxRecord> {
        let record = Arc::new(record);
        self.commit(Change::Box(Arc::clone(&record)), cause);
        record
    }

    /// The one place where anything changes: first on paper, then here, then for those who listen.
    fn commit(&mut self, change: Change, cause: Option<Cause>) {
        let (name, uid, labels) = match &change {
            Change::Box(record) | Change::BoxGone(record) => (&record.name, record.uid, &record.labels),
            Change::Home(home) | Change::HomeGone(home) => (&home.name, home.uid, &home.labels),
        };
        let effect = cause.map(|Cause { kind, origin, caller }| Effect {
            seq: self.kept.effects.last().map_or(1, |last| last.seq + 1),
            at_ms: now_ms(),
            kind,
            name: name.clone(),
            uid,
            session: label(labels, SESSION).to_owned(),
            controller: label(labels, CONTROLLER).to_owned(),
            origin,
            caller,
        });
        self.changed = true;
        self.journal.write(&change, effect.as_ref());
        self.kept.effects.extend(effect);
        self.count(&change);
        self.kept.apply(change.clone());
        let (record, gone) = match change {
            Change::Box(record) => (record, false),
            Change::BoxGone(record) => (record, true),
            Change::Home(_) | Change::HomeGone(_) => return,
        };
        if !self.knobs.plan(Verb::Event, &record.name, false).drop {
            self.feed.push(record, gone, self.knobs.settings.event_buffer);
        }
    }

    fn count(&mut self, change: &Change) {
        match change {
            Change::Box(record) if !self.kept.boxes.contains_key(&record.name) => {
                *self.counts.entry(label(&record.labels, CONTROLLER).to_owned()).or_default() += 1;
            }
            Change::BoxGone(record) => {
                if let Some(count) = self.counts.get_mut(label(&record.labels, CONTROLLER)) {
                    *count = count.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, name: &str, message: &str) {
        self.write_line(name, "console", message.to_owned());
    }

    fn write_line(&mut self, name: &str, source: &str, message: String) {
        self.last_line += 1;
        let line = Line { seq: self.last_line, at_ms: now_ms(), source: source.to_owned(), message };
        self.outputs.entry(name.to_owned()).or_default().push(line);
        self.changed = true;
    }

    fn close_page(&mut self, record: &mut BoxRecord) {
        self.pages.close(&record.name);
        record.port = None;
    }

    fn next_uid(&mut self) -> u64 {
        self.last_uid += 1;
        self.last_uid
    }
}

/// Names stand in paths.
fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = (1..=200).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if fits { Ok(()) } else { Err(Refusal::Invalid(format!("`{name}` is no name"))) }
}

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
