//! What there is and how it changes. Everything here happens under one lock and takes no time; what has to take time
//! is a [`Job`] that the [service](crate::service) finishes later.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use thiserror::Error;

use crate::effect::{Caller, Cause, Effect, EffectKind, Origin};
use crate::feed::Feed;
use crate::journal::{Change, Journal, Kept};
use crate::knobs::{ImageKind, Knobs, Plan, Verb};
use crate::object::{BoxRecord, CONTROLLER, Home, Job, JobKind, Labels, NewBox, SESSION, State, label};
use crate::output::{Line, LinePage, Output};
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

/// What the infrastructure says of itself.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    version: &'static str,
    instance: String,
    boxes: usize,
    /// Boxes of the controller that asked.
    own_boxes: usize,
    max_boxes: Option<usize>,
}

/// A page of a listing.
#[derive(Debug, Serialize)]
pub(crate) struct BoxPage {
    pub(crate) boxes: Vec<Arc<BoxRecord>>,
    pub(crate) next: Option<String>,
}

/// Counters of a box, made up from how long it has been running.
#[derive(Debug, Serialize)]
pub(crate) struct Metrics {
    sampled_at_ms: u64,
    cpu_ns: u64,
    memory_bytes: u64,
    memory_limit_bytes: Option<u64>,
    network_rx_bytes: u64,
    network_tx_bytes: u64,
}

/// What somebody does who is no client.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Deed {
    Stop,
    Start,
    Remove,
    Crash,
}

/// Something that happens to a box later.
#[derive(Debug)]
pub(crate) struct Timer {
    name: String,
    uid: u64,
    pub(crate) due_ms: u64,
    then: Then,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Its job takes effect.
    Job,
    /// It crashes, if this life of it lasts so long.
    Crash { starts: u32 },
    /// It writes a line, and another one after so long.
    Talk { starts: u32, every_ms: u64 },
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

    // ---- what clients do ----

    pub(crate) fn info(&self, controller: &str) -> Info {
        Info {
            version: env!("CARGO_PKG_VERSION"),
            instance: self.feed.instance().to_owned(),
            boxes: self.kept.boxes.len(),
            own_boxes: self.counts.get(controller).copied().unwrap_or(0),
            max_boxes: self.knobs.settings.max_boxes,
        }
    }

    pub(crate) fn create_box(
        &mut self,
        new: NewBox,
        caller: Caller,
        plan: &Plan,
    ) -> Result<(Progress, Arc<BoxRecord>), Refusal> {
        check_name(&new.name)?;
        check_image(&new.image)?;
        if self.kept.boxes.contains_key(&new.name) {
            return Err(Refusal::Taken(new.name));
        }
        self.check_supply(&new)?;
        if let Some(home) = new.home.as_ref().filter(|home| !self.kept.homes.contains_key(*home)) {
            return Err(Refusal::NoHome(home.clone()));
        }
        if let Some(max) = self.knobs.settings.max_boxes.filter(|max| self.kept.boxes.len() >= *max) {
            return Err(Refusal::Exhausted(max));
        }
        let took_ms = self.knobs.settings.create_ms;
        let mut record = BoxRecord::new(new, self.next_uid(), now_ms());
        record.epoch = caller.epoch;
        if plan.half {
            record.state = State::Failed;
            record.reason = "it was made only in part".to_owned();
        } else if took_ms > 0 {
            record.state = State::Creating;
            self.begin(&mut record, JobKind::Create, took_ms, caller.clone());
        }
        let name = record.name.clone();
        let record = self.put(record, Some(Cause::api(EffectKind::BoxMade, caller)));
        self.say(&name, "the box is made");
        if plan.half {
            return Err(Refusal::Stuck(format!("`{name}` was made only in part")));
        }
        let progress = if record.job.is_some() { Progress::Accepted } else { Progress::Done };
        Ok((progress, record))
    }

    pub(crate) fn get_box(&self, name: &str) -> Result<Arc<BoxRecord>, Refusal> {
        let record = self.kept.boxes.get(name).cloned();
        record.ok_or_else(|| Refusal::NotFound { what: "box", name: name.to_owned() })
    }

    /// Boxes of a controller behind a name. The plan says what is left out or told twice.
    pub(crate) fn list_boxes(
        &mut self,
        controller: Option<&str>,
        after: Option<&str>,
        limit: usize,
        plan: &Plan,
    ) -> BoxPage {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let mut boxes = Vec::new();
        let mut next = None;
        let mut told: Option<&str> = None;
        let matching = self
            .kept
            .boxes
            .range::<str, _>((from, Unbounded))
            .map(|(_, record)| record)
            .filter(|record| record.is_of(controller));
        for record in matching {
            if boxes.len() >= limit {
                next = told.map(str::to_owned);
                break;
            }
            told = Some(&record.name);
            if !self.knobs.happens(plan.omit) {
                boxes.push(Arc::clone(record));
            }
            if self.knobs.happens(plan.duplicate) {
                boxes.push(Arc::clone(record));
            }
        }
        BoxPage { boxes, next }
    }

    pub(crate) fn start_box(
        &mut self,
        name: &str,
        caller: Caller,
        plan: &Plan,
    ) -> Result<(Progress, Arc<BoxRecord>), Refusal> {
        let found = self.get_box(name)?;
        match (found.state, found.job.as_ref().map(|job| job.kind)) {
            (State::Running, None) => return Ok((Progress::Already, found)),
            (_, Some(JobKind::Start)) => return Ok((Progress::Accepted, found)),
            (State::Creating | State::Deleting | State::Running, _) | (_, Some(_)) => {
                return Err(Refusal::Busy(name.to_owned()));
            }
            (State::Stopped | State::Failed, None) => {}
        }
        let mut record = BoxRecord::clone(&found);
        record.epoch = record.epoch.max(caller.epoch);
        if plan.half {
            record.state = State::Failed;
            record.reason = "it got stuck while it was being started".to_owned();
            self.put(record, Some(Cause::api(EffectKind::BoxBroken, caller)));
            return Err(Refusal::Stuck(format!("`{name}` got stuck while it was being started")));
        }
        let took_ms = self.knobs.settings.start_ms;
        if took_ms > 0 {
            self.begin(&mut record, JobKind::Start, took_ms, caller);
            return Ok((Progress::Accepted, self.put(record, None)));
        }
        Ok((Progress::Done, self.started(record, Origin::Api, caller, plan.crash_after_ms)))
    }

    pub(crate) fn stop_box(
        &mut self,
        name: &str,
        caller: Caller,
    ) -> Result<(Progress, Arc<BoxRecord>), Refusal> {
        let found = self.get_box(name)?;
        match (found.state, found.job.as_ref().map(|job| job.kind)) {
            (State::Stopped, None) => return Ok((Progress::Already, found)),
            (_, Some(JobKind::Stop)) => return Ok((Progress::Accepted, found)),
            (State::Running | State::Failed, None) => {}
            _ => return Err(Refusal::Busy(name.to_owned())),
        }
        let mut record = BoxRecord::clone(&found);
        record.epoch = record.epoch.max(caller.epoch);
        let took_ms = self.knobs.settings.stop_ms;
        if took_ms > 0 {
            self.begin(&mut record, JobKind::Stop, took_ms, caller);
            return Ok((Progress::Accepted, self.put(record, None)));
        }
        Ok((Progress::Done, self.stopped(record, Cause::api(EffectKind::BoxStopped, caller))))
    }

    /// Deleting is possible in every state; it takes the place of what is under way.
    pub(crate) fn delete_box(&mut self, name: &str, caller: Caller) -> Result<Progress, Refusal> {
        let found = self.get_box(name)?;
        if found.state == State::Deleting {
            return Ok(Progress::Accepted);
        }
        let mut record = BoxRecord::clone(&found);
        record.epoch = record.epoch.max(caller.epoch);
        let took_ms = self.knobs.settings.delete_ms;
        if took_ms > 0 {
            record.state = State::Deleting;
            self.close_page(&mut record);
            self.begin(&mut record, JobKind::Delete, took_ms, caller);
            self.put(record, None);
            return Ok(Progress::Accepted);
        }
        self.removed(record, Cause::api(EffectKind::BoxRemoved, caller));
        Ok(Progress::Done)
    }

    pub(crate) fn metrics(&self, name: &str) -> Result<Metrics, Refusal> {
        let record = self.get_box(name)?;
        let started = record.started_at_ms.filter(|_| record.state == State::Running);
        let started = started.ok_or_else(|| Refusal::NotRunning(name.to_owned()))?;
        let now = now_ms();
        let up_ms = now.saturating_sub(started);
        Ok(Metrics {
            sampled_at_ms: now,
            // A twentieth of a processor.
            cpu_ns: up_ms * 50_000,
            memory_bytes: record.memory_bytes.map_or(64 << 20, |limit| limit / 4),
            memory_limit_bytes: record.memory_bytes,
            network_rx_bytes: up_ms * 100,
            network_tx_bytes: up_ms * 1000,
        })
    }

    pub(crate) fn lines(
        &self,
        name: &str,
        after: Option<u64>,
        tail: Option<usize>,
        limit: usize,
    ) -> Result<LinePage, Refusal> {
        let record = self.get_box(name)?;
        let ended = !matches!(record.state, State::Running | State::Creating);
        Ok(match self.outputs.get(name) {
            Some(output) => output.read(after, tail, limit, ended),
            None => Output::default().read(after, tail, limit, ended),
        })
    }

    pub(crate) fn put_home(
        &mut self,
        name: &str,
        labels: Labels,
        caller: Caller,
    ) -> Result<(Progress, Arc<Home>), Refusal> {
        check_name(name)?;
        if let Some(home) = self.kept.homes.get(name) {
            return if label(&home.labels, CONTROLLER) == label(&labels, CONTROLLER) {
                Ok((Progress::Already, Arc::clone(home)))
            } else {
                Err(Refusal::Taken(name.to_owned()))
            };
        }
        let home = Home {
            name: name.to_owned(),
            uid: self.next_uid(),
            labels,
            made_at_ms: now_ms(),
            files: BTreeMap::new(),
        };
        let home = Arc::new(home);
        self.commit(Change::Home(Arc::clone(&home)), Some(Cause::api(EffectKind::HomeMade, caller)));
        Ok((Progress::Done, home))
    }

    pub(crate) fn get_home(&self, name: &str) -> Result<Arc<Home>, Refusal> {
        let home = self.kept.homes.get(name).cloned();
        home.ok_or_else(|| Refusal::NotFound { what: "home", name: name.to_owned() })
    }

    pub(crate) fn delete_home(&mut self, name: &str, caller: Caller) -> Result<(), Refusal> {
        let home = self.get_home(name)?;
        let user = self.kept.boxes.values().find(|record| record.home.as_deref() == Some(name));
        if let Some(user) = user {
            return Err(Refusal::InUse(user.name.clone()));
        }
        self.commit(Change::HomeGone(home), Some(Cause::api(EffectKind::HomeRemoved, caller)));
        Ok(())
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    // ---- what tests do ----

    pub(crate) fn homes(&self) -> Vec<Arc<Home>> {
        self.kept.homes.values().cloned().collect()
    }

    pub(crate) fn effects(&self, after: u64, limit: usize) -> Vec<Effect> {
        // Numbers start at 1 and have no gaps.
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        self.kept.effects.iter().skip(skip).take(limit).cloned().collect()
    }

    pub(crate) fn forget_events(&mut self) {
        self.feed.forget();
        self.changed = true;
    }

    pub(crate) fn by_hand(&mut self, name: &str, deed: Deed) -> Result<(), Refusal> {
        let mut record = BoxRecord::clone(&*self.get_box(name)?);
        record.job = None;
        match (deed, record.state) {
            (Deed::Start, State::Running) | (Deed::Stop, State::Stopped) => {
                drop(self.put(record, None));
            }
            (Deed::Start, _) => drop(self.started(record, Origin::Hand, Caller::default(), None)),
            (Deed::Stop, _) => drop(self.stopped(record, Cause::hand(EffectKind::BoxStopped))),
            (Deed::Remove, _) => self.removed(record, Cause::hand(EffectKind::BoxRemoved)),
            (Deed::Crash, _) => self.crashed(record),
        }
        Ok(())
    }

    pub(crate) fn speak(&mut self, name: &str, source: &str, message: String) -> Result<(), Refusal> {
        self.get_box(name)?;
        self.write_line(name, source, message);
        Ok(())
    }

    /// A program in a box writes a file. Only what is in the home is kept; there is nothing else to write to.
    pub(crate) fn write_file(&mut self, name: &str, path: String, content: String) -> Result<(), Refusal> {
        let mut home = Home::clone(&*self.home_of_running(name)?);
        home.files.insert(path, content);
        self.commit(Change::Home(Arc::new(home)), None);
        Ok(())
    }

    /// A program in a box reads a file; none = there is no such file.
    pub(crate) fn read_file(&self, name: &str, path: &str) -> Result<Option<String>, Refusal> {
        Ok(self.home_of_running(name)?.files.get(path).cloned())
    }

    fn home_of_running(&self, name: &str) -> Result<Arc<Home>, Refusal> {
        let record = self.get_box(name)?;
        if record.state != State::Running {
            return Err(Refusal::NotRunning(name.to_owned()));
        }
        let home = record.home.as_ref().ok_or_else(|| Refusal::NoHome(name.to_owned()))?;
        self.get_home(home)
    }

    /// A running box that no client made.
    pub(crate) fn make_foreign(&mut self, new: NewBox) -> Result<Arc<BoxRecord>, Refusal> {
        check_name(&new.name)?;
        if self.kept.boxes.contains_key(&new.name) {
            return Err(Refusal::Taken(new.name));
        }
        let record = BoxRecord::new(new, self.next_uid(), now_ms());
        let record = self.put(record, Some(Cause::hand(EffectKind::BoxMade)));
        Ok(self.started(BoxRecord::clone(&record), Origin::Hand, Caller::default(), None))
    }

    // ---- what time does ----

    /// Does what was to be done later, if it is still the same box and the same job.
    pub(crate) fn finish(&mut self, timer: &Timer) {
        let Some(found) = self.kept.boxes.get(&timer.name).filter(|found| found.uid == timer.uid) else {
            return;
        };
        let mut record = BoxRecord::clone(found);
        let lives = |starts| record.state == State::Running && record.starts == starts;
        match timer.then {
            Then::Job => {}
            Then::Crash { starts } => {
                if lives(starts) {
                    record.job = None;
                    self.crashed(record);
                }
                return;
            }
            Then::Talk { starts, every_ms } => {
                if lives(starts) {
                    let up_ms = now_ms().saturating_sub(record.started_at_ms.unwrap_or_default());
                    self.write_line(&record.name, "stdout", format!("up for {up_ms} ms"));
                    self.later(&record, every_ms, timer.then);
                }
                return;
            }
        }
        let Some(job) = record.job.take_if(|job| job.due_ms == timer.due_ms) else { return };
        match job.kind {
            JobKind::Create => {
                record.state = State::Stopped;
                self.put(record, None);
            }
            JobKind::Start => drop(self.started(record, Origin::Api, job.caller, None)),
            JobKind::Stop => drop(self.stopped(record, Cause::api(EffectKind::BoxStopped, job.caller))),
            JobKind::Delete => self.removed(record, Cause::api(EffectKind::BoxRemoved, job.caller)),
        }
    }

    // ---- changes ----

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

    fn begin(&mut self, record: &mut BoxRecord, kind: JobKind, after_ms: u64, caller: Caller) {
        let due_ms = now_ms() + after_ms;
        record.job = Some(Job { kind, due_ms, caller });
        self.timers.push(Timer { name: record.name.clone(), uid: record.uid, due_ms, then: Then::Job });
    }

    fn later(&mut self, record: &BoxRecord, after_ms: u64, then: Then) {
        let due_ms = now_ms().saturating_add(after_ms);
        self.timers.push(Timer { name: record.name.clone(), uid: record.uid, due_ms, then });
    }

    /// Whether there is what a box is made of.
    fn check_supply(&self, new: &NewBox) -> Result<(), Refusal> {
        let settings = &self.knobs.settings;
        if settings.image(&new.image) == Some(ImageKind::Missing) {
            return Err(Refusal::NoImage(new.image.clone()));
        }
        if let Some(bytes) = new.memory_bytes.filter(|bytes| *bytes > settings.largest_memory_bytes) {
            return Err(Refusal::TooLarge(format!("{bytes} bytes of memory")));
        }
        if let Some(millis) = new.cpu_millis.filter(|millis| *millis > settings.largest_cpu_millis) {
            return Err(Refusal::TooLarge(format!("{} processors", millis / 1000)));
        }
        Ok(())
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

/// Images are named like those of containers; none is as good as any.
fn check_image(image: &str) -> Result<(), Refusal> {
    let fits = image.len() <= 500
        && !image.contains("..")
        && image.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@'));
    if fits { Ok(()) } else { Err(Refusal::Invalid(format!("`{image}` is no name of an image"))) }
}

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
