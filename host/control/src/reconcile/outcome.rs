//! What a controller's answer means for the session and its operation. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tonic::Code;

use super::backoff;
use crate::domain::{Condition, ConditionStatus, Operation, OperationKind, Phase, Step, condition_type};
use crate::fleet::{CallError, Observation, Progress, Readiness, Reply};
use crate::store::{Claimed, StepRecord};

/// A controller's own faults are retried so often.
const INTERNAL_RETRIES: u32 = 5;

/// What a controller took is asked for again after so many steps without any effect: about half a minute.
const LOOKS_BEFORE_ASKING_AGAIN: u32 = 12;

const CLEAN_UP: Step = Step::Call(OperationKind::CleanUp);

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The controller answered.
    Reply(Reply),
    /// It did not, or with an error.
    Error(CallError),
    /// There was no call: no controller knows of the session.
    NeverPlaced,
}

/// Circumstances of a step that the answer does not tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// When the step began, by the same clock as the present.
    pub(super) begun: DateTime<Utc>,
    /// The present.
    pub(super) now: DateTime<Utc>,
    /// From 0 to 1; spreads retries.
    pub(super) jitter: f64,
    /// The longest pause between two looks.
    pub(super) longest_look_pause: Duration,
    /// How long the trace of a removed session is kept.
    pub(super) keep_tombstone: Duration,
    /// How long it waits before a session that the backend lost a second time is made again.
    pub(super) repair_pause: Duration,
    /// A step does not take longer, unless the whole machine slept.
    pub(super) longest_step: Duration,
    /// The last probe of the controller found that its backend answers.
    pub(super) controller_healthy: bool,
}

impl Circumstances {
    /// Whether the backend was not there to do anything. A controller says "unavailable" also for one image that
    /// cannot be pulled, and some never end a call though they are there: only its probe tells.
    fn is_away(&self, error: &CallError) -> bool {
        let nobody = matches!(error.code, Code::Unavailable | Code::DeadlineExceeded);
        let never_heard = !error.from_controller && error.code != Code::DeadlineExceeded;
        never_heard || (nobody && !self.controller_healthy)
    }
}

/// What is to be stored.
pub(super) fn outcome(claimed: &Claimed, answer: Answer, around: Circumstances) -> StepRecord {
    let mut outcome = Outcome::new(claimed, around);
    match answer {
        Answer::Reply(reply) => {
            outcome.reachable();
            match claimed.step {
                CLEAN_UP => outcome.cleaning(reply),
                Step::GiveUp => outcome.last_look(reply),
                _ => outcome.reply(reply),
            }
        }
        Answer::Error(error) => outcome.error(error),
        Answer::NeverPlaced => outcome.record.gone = true,
    }
    outcome.record
}

struct Outcome<'a> {
    claimed: &'a Claimed,
    around: Circumstances,
    record: StepRecord,
}

impl<'a> Outcome<'a> {
    fn new(claimed: &'a Claimed, around: Circumstances) -> Self {
        let record = StepRecord {
            phase: None,
            node_id: None,
            conditions: Vec::new(),
            reported: None,
            wish_answered: false,
            served: claimed.session.generation,
            gone: false,
            forgotten: false,
            operation: claimed.operation.clone(),
            keep_tombstone: around.keep_tombstone,
        };
        let mut outcome = Self { claimed, around, record };
        let asleep = around.now - around.begun - outcome.took();
        outcome.operation().excuse(asleep.max(chrono::Duration::zero()));
        outcome
    }

    /// How long the step took.
    fn took(&self) -> chrono::Duration {
        let took = (self.around.now - self.around.begun).max(chrono::Duration::zero());
        took.min(signed(self.around.longest_step))
    }

    fn operation(&mut self) -> &mut Operation {
        &mut self.record.operation
    }

    fn is_deletion(&self) -> bool {
        self.claimed.step == Step::Call(OperationKind::Delete)
    }

    /// A deletion by force has waited long enough for its controller's word: the row goes without it.
    fn is_forgotten_now(&self) -> bool {
        let session = &self.claimed.session;
        session.is_deleting() && session.forget_after.is_some_and(|end| end <= self.around.now)
    }

    fn forget(&mut self) {
        (self.record.gone, self.record.forgotten) = (true, true);
    }

    fn condition(&mut self, kind: &str, status: ConditionStatus, reason: &str, message: &str) {
        self.record.conditions.push(Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: self.around.now,
        });
    }

    fn again_in(&mut self, pause: Duration) {
        let now = self.around.now;
        let at = now + signed(pause);
        let forced = self.claimed.session.forget_after.filter(|_| self.is_deletion());
        let operation = self.operation();
        // Not later than the deadline, so that it is noticed when it passes.
        let end = [operation.deadline, forced].into_iter().flatten().min();
        let latest = end.map_or(at, |end| end.max(now));
        operation.next_attempt_at = Some(at.min(latest));
    }

    fn look_again(&mut self) {
        self.look_again_after(None);
    }

    /// Looks again when the controller says that it makes sense.
    fn look_again_after(&mut self, asked: Option<Duration>) {
        let attempt = self.claimed.operation.attempt;
        let pause = asked.unwrap_or_else(|| backoff::before_look(attempt, self.around.longest_look_pause));
        self.again_in(pause);
    }

    /// What the backend says of itself, without secrets.
    fn report(&mut self, said: Option<Vec<Condition>>) {
        self.record.reported = said.map(|said| self.claimed.session.spec.scrub_conditions(said));
    }

    /// The backend is as it was left.
    fn undrifted(&mut self) {
        if self.claimed.session.conditions.holds(condition_type::DRIFTED) {
            self.condition(condition_type::DRIFTED, ConditionStatus::False, "Repaired", "");
        }
    }

    /// The object is not there any more, if anybody thought that it is.
    fn removed(&mut self) {
        let present = self.claimed.session.conditions.get(condition_type::OBJECT_PRESENT);
        if present.is_some_and(|known| known.status != ConditionStatus::False) {
            self.condition(condition_type::OBJECT_PRESENT, ConditionStatus::False, "Removed", "");
        }
    }

    /// The controller said how the session stands: what failed before is over.
    fn forget_failures(&mut self) {
        let operation = self.operation();
        operation.failures = 0;
        operation.internal_failures = 0;
        operation.last_error.clear();
    }

    /// Nothing more to do for this wish.
    fn settle(&mut self) {
        self.operation().settle();
        self.record.wish_answered = true;
    }

    /// Failed for good. What a creation may have made has to go, because nobody would look after it; but not what
    /// somebody has worked in already.
    fn fail(&mut self) {
        self.record.phase = Some(Phase::Failed);
        self.settle();
        let operation = &self.claimed.operation;
        if operation.kind == OperationKind::Create && operation.is_open() && !operation.established {
            let now = self.around.now;
            self.operation().begin_clean_up(now);
        }
    }

    /// An answer to the removal of what a failed creation left. Why it failed stays as it is.
    fn cleaning(&mut self, reply: Reply) {
        match reply {
            Reply::Gone => {
                self.settle();
                self.operation().end_clean_up();
                self.undrifted();
                self.removed();
            }
            Reply::InProgress(Progress { handle, poll_after, .. }) => {
                self.operation().handle = handle;
                self.look_again_after(poll_after);
            }
            Reply::NotGone(_) | Reply::Stands(_) => self.look_again(),
        }
    }

    /// That all is well is only said where it was not.
    fn reachable(&mut self) {
        let known = self.claimed.session.conditions.get(condition_type::CONTROLLER_REACHABLE);
        if known.is_some_and(|known| known.status != ConditionStatus::True) {
            self.condition(condition_type::CONTROLLER_REACHABLE, ConditionStatus::True, "Answers", "");
        }
    }

    fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::InProgress(_) | Reply::NotGone(_) | Reply::Stands(_) if self.is_forgotten_now() => {
                self.forget()
            }
            Reply::InProgress(Progress { handle, message, poll_after, conditions }) => {
                let message = self.claimed.session.spec.scrub(&message);
                let reason = if self.is_deletion() { "Deleting" } else { "InProgress" };
                self.condition(condition_type::READY, ConditionStatus::False, reason, &message);
                self.operation().handle = handle;
                self.operation().accepted = false;
                self.operation().message = message;
                self.report(conditions);
                self.look_again_after(poll_after);
            }
            Reply::Gone => {
                self.forget_failures();
                self.record.gone = true;
                self.record.phase = Some(Phase::Terminated);
                self.record.node_id = Some(String::new());
                self.report(Some(Vec::new()));
                self.undrifted();
                self.removed();
                self.operation().established = false;
                self.condition(condition_type::READY, ConditionStatus::False, "Terminated", "");
                self.operation().message.clear();
                self.settle();
            }
            Reply::NotGone(message) => {
                let message = self.claimed.session.spec.scrub(&message);
                self.condition(condition_type::READY, ConditionStatus::False, "Deleting", &message);
                self.operation().message = message;
                self.look_again();
            }
            Reply::Stands(observation) => self.stands(observation),
        }
    }

    fn stands(&mut self, observation: Observation) {
        let Readiness { status, reason, message } = observation.readiness();
        let Observation { phase, node_id, conditions, message: _, last_activity: _ } = observation;
        let spec = &self.claimed.session.spec;
        let (reason, message) = (spec.scrub(&reason), spec.scrub(&message));
        self.forget_failures();
        self.record.phase = Some(phase);
        self.record.node_id = node_id;
        self.report(conditions);
        self.operation().handle.clear();
        self.operation().message.clone_from(&message);

        let present = self.claimed.session.conditions.get(condition_type::OBJECT_PRESENT);
        if present.is_some_and(|known| known.status != ConditionStatus::True) {
            self.condition(condition_type::OBJECT_PRESENT, ConditionStatus::True, "Present", "");
        }
        self.condition(condition_type::READY, status, &reason, &message);

        let wished = self.claimed.session.wish.is_fulfilled_by(phase);
        if wished {
            self.undrifted();
            self.operation().established |= phase != Phase::Terminated;
        }
        if wished || phase == Phase::Failed {
            self.operation().accepted = true;
            self.settle();
        } else {
            // Taken, but not there yet. What comes next is decided from the phase; objects that are gone again
            // have to be asked for anew, and what has not moved for long may have been forgotten.
            self.operation().accepted = phase != Phase::Terminated && !self.is_forgotten(phase);
            self.look_again();
        }
    }

    /// Whether many looks have shown what was there before the call. The wish may not have outlived a restart of the
    /// backend.
    fn is_forgotten(&self, phase: Phase) -> bool {
        let Operation { kind, attempt, .. } = self.claimed.operation;
        let unmoved = matches!(
            (kind, phase),
            (OperationKind::Wake, Phase::Hibernated) | (OperationKind::Hibernate, Phase::Running)
        );
        self.claimed.step == Step::Look && unmoved && attempt.is_multiple_of(LOOKS_BEFORE_ASKING_AGAIN)
    }

    /// The time is up, unless it got there after all, or failed for a reason of its own.
    fn last_look(&mut self, reply: Reply) {
        match reply {
            Reply::Stands(seen)
                if self.claimed.session.wish.is_fulfilled_by(seen.phase) || seen.phase == Phase::Failed =>
            {
                self.stands(seen);
            }
            _ => self.time_up(),
        }
    }

    fn error(&mut self, error: CallError) {
        let spec = &self.claimed.session.spec;
        let (reason, message) = (spec.scrub(&error.reason), spec.scrub(&error.message));
        let away = self.around.is_away(&error);
        if !error.from_controller {
            self.condition(condition_type::CONTROLLER_REACHABLE, ConditionStatus::False, &reason, &message);
        } else if !away {
            self.reachable();
        }
        if self.claimed.step == Step::GiveUp && !away {
            return self.time_up();
        }
        // Only to make a session is no question about one that should be there.
        let create = Step::Call(OperationKind::Create);
        if error.from_controller && error.code == Code::NotFound && self.claimed.step != create {
            return self.not_found();
        }
        if self.is_forgotten_now() {
            return self.forget();
        }
        let cleaning = self.claimed.step == CLEAN_UP;
        let internal =
            error.from_controller && matches!(error.code, Code::Internal | Code::Unknown | Code::DataLoss);
        let operation = self.operation();
        operation.failures = operation.failures.saturating_add(1);
        operation.internal_failures = operation.internal_failures.saturating_add(u32::from(internal));
        operation.message.clone_from(&message);
        operation.last_error.clone_from(&message);
        let (failures, internal_failures) = (operation.failures, operation.internal_failures);

        let last_word = match error.code {
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
            | Code::Unauthenticated => false,
            Code::Internal | Code::Unknown | Code::DataLoss => internal_failures > INTERNAL_RETRIES,
            _ => true,
        };
        if !cleaning {
            self.condition(condition_type::READY, ConditionStatus::False, &reason, &message);
        }
        // A deletion never gives up: what was made must not be forgotten. To look costs nothing either; the
        // deadline ends it.
        let endless = cleaning || self.is_deletion() || self.claimed.step == Step::Look;
        if last_word && error.from_controller && !endless {
            return self.fail();
        }
        let pause = backoff::after_failure(failures, error.retry_after, self.around.jitter);
        if away {
            self.excuse(pause);
        }
        self.again_in(pause);
    }

    /// Nobody was there to do anything: the call and the pause after it do not count.
    fn excuse(&mut self, pause: Duration) {
        let idle = self.took() + signed(pause);
        self.operation().excuse(idle);
    }

    /// The backend itself says that there is nothing.
    fn not_found(&mut self) {
        if self.claimed.step == CLEAN_UP {
            return self.cleaning(Reply::Gone);
        }
        if self.is_deletion() {
            return self.reply(Reply::Gone);
        }
        let operation = self.operation();
        operation.accepted = false;
        operation.established = false;
        operation.handle.clear();
        self.record.phase = Some(Phase::Pending);
        self.condition(
            condition_type::OBJECT_PRESENT,
            ConditionStatus::False,
            "Missing",
            "the backend does not have the session any more",
        );
        self.condition(
            condition_type::READY,
            ConditionStatus::False,
            "NotFound",
            "the backend does not have the session; it is made again",
        );
        // A backend that loses what it is told to stop would be made to make it again at once, without end.
        let (now, pause) = (self.around.now, self.around.repair_pause);
        let due = self.operation().count_repair(pause, now);
        match (due - now).to_std() {
            Ok(pause) if !pause.is_zero() => self.again_in(pause),
            _ => self.look_again(),
        }
    }

    fn time_up(&mut self) {
        let operation = &self.claimed.operation;
        let mut message = format!("{} did not end in time", operation.kind.as_str());
        let last = if operation.last_error.is_empty() { &operation.message } else { &operation.last_error };
        if !last.is_empty() {
            message = format!("{message}; last: {last}");
        }
        self.condition(condition_type::READY, ConditionStatus::False, "DeadlineExceeded", &message);
        self.operation().message = message;
        self.fail();
    }
}

fn signed(pause: Duration) -> chrono::Duration {
    chrono::Duration::from_std(pause).unwrap_or(chrono::Duration::minutes(5))
}

#[cfg(test)]
mod tests;
