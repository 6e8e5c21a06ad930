//! What time does: jobs take effect, boxes talk and crash.

use super::{World, now_ms};
use crate::effect::{Caller, Cause, EffectKind, Origin};
use crate::object::{BoxRecord, Job, JobKind, State};

/// Something that happens to a box later.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(super) name: String,
    pub(super) uid: u64,
    pub(crate) due_ms: u64,
    pub(super) then: Then,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Its job takes effect.
    Job,
    /// It crashes, if this life of it lasts so long.
    Crash { starts: u32 },
    /// It writes a line, and another one after so long.
    Talk { starts: u32, every_ms: u64 },
}

impl World {
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

    pub(super) fn begin(&mut self, record: &mut BoxRecord, kind: JobKind, after_ms: u64, caller: Caller) {
        let due_ms = now_ms() + after_ms;
        record.job = Some(Job { kind, due_ms, caller });
        self.timers.push(Timer { name: record.name.clone(), uid: record.uid, due_ms, then: Then::Job });
    }

    pub(super) fn later(&mut self, record: &BoxRecord, after_ms: u64, then: Then) {
        let due_ms = now_ms().saturating_add(after_ms);
        self.timers.push(Timer { name: record.name.clone(), uid: record.uid, due_ms, then });
    }
}
