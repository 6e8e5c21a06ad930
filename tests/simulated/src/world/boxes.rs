//! What clients do with boxes.

use std::sync::Arc;

use serde::Serialize;

use super::{Progress, Refusal, World, check_name, now_ms};
use crate::effect::{Caller, Cause, EffectKind, Origin};
use crate::knobs::{ImageKind, Plan};
use crate::object::{BoxRecord, JobKind, NewBox, State};
use crate::output::{LinePage, Output};

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

impl World {
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
}

/// Images are named like those of containers; none is as good as any.
fn check_image(image: &str) -> Result<(), Refusal> {
    let fits = image.len() <= 500
        && !image.contains("..")
        && image.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@'));
    if fits { Ok(()) } else { Err(Refusal::Invalid(format!("`{image}` is no name of an image"))) }
}
