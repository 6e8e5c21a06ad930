//! What a controller's answer means for the session and its operation. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tonic::Code;

use super::backoff;
use crate::domain::{
    Condition, ConditionStatus, OperationKind, Phase, Step, Wish, WishedState, condition_type,
};
use crate::fleet::{CallError, Observation, Readiness, Reply};
use crate::store::{Claimed, StepRecord};

/// A controller's own faults are retried so often.
const INTERNAL_RETRIES: u32 = 5;

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The controller answered.
    Reply(Reply),
    /// It did not, or with an error.
    Error(CallError),
    /// There was no call: no controller knows of the session.
    NeverPlaced,
    /// There was no call: the time was up.
    TimeUp,
}

/// Circumstances of a step that the answer does not tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    /// The present.
    pub(super) now: DateTime<Utc>,
    /// From 0 to 1; spreads retries.
    pub(super) jitter: f64,
    /// The longest pause between two looks.
    pub(super) longest_look_pause: Duration,
    /// How long the trace of a removed session is kept.
    pub(super) keep_tombstone: Duration,
}

/// What is to be stored.
pub(super) fn outcome(claimed: &Claimed, answer: Answer, around: Circumstances) -> StepRecord {
    let mut outcome = Outcome::new(claimed, around);
    match answer {
        Answer::Reply(reply) => {
            outcome.reachable();
            if claimed.step == Step::CleanUp {
                outcome.cleaning(reply);
            } else {
                outcome.reply(reply);
            }
        }
        Answer::Error(error) => outcome.error(error),
        Answer::NeverPlaced => outcome.record.gone = true,
        Answer::TimeUp => outcome.time_up(),
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
            operation: claimed.operation.clone(),
            keep_tombstone: around.keep_tombstone,
        };
        Self { claimed, around, record }
    }

    fn operation(&mut self) -> &mut crate::domain::Operation {
        &mut self.record.operation
    }

    fn is_deletion(&self) -> bool {
        self.claimed.step == Step::Call(OperationKind::Delete)
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
        let operation = self.operation();
        // Not later than the deadline, so that it is noticed when it passes.
        let latest = operation.deadline.map_or(at, |deadline| deadline.max(now));
        operation.next_attempt_at = Some(at.min(latest));
    }

    fn look_again(&mut self) {
        let pause = backoff::before_look(self.claimed.operation.attempt, self.around.longest_look_pause);
        self.again_in(pause);
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
        self.operation().next_attempt_at = None;
        self.operation().handle.clear();
        self.record.wish_answered = true;
    }

    /// Failed for good. What a creation may have made has to go: nobody would look after it.
    fn fail(&mut self) {
        self.record.phase = Some(Phase::Failed);
        self.settle();
        let operation = &self.claimed.operation;
        if operation.kind == OperationKind::Create && operation.attempt > 0 {
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
            }
            Reply::InProgress { handle, .. } => {
                self.operation().handle = handle;
                self.look_again();
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
            Reply::InProgress { handle, message } => {
                let message = self.claimed.session.spec.scrub(&message);
                let reason = if self.is_deletion() { "Deleting" } else { "InProgress" };
                self.condition(condition_type::READY, ConditionStatus::False, reason, &message);
                self.operation().handle = handle;
                self.operation().accepted = false;
                self.operation().message = message;
                self.look_again();
            }
            Reply::Gone => {
                self.forget_failures();
                self.record.gone = true;
                self.record.phase = Some(Phase::Terminated);
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
        let Observation { phase, node_id, conditions, message: _ } = observation;
        let spec = &self.claimed.session.spec;
        let (reason, message) = (spec.scrub(&reason), spec.scrub(&message));
        let reported = conditions.map(|conditions| spec.scrub_conditions(conditions));
        self.forget_failures();
        self.record.phase = Some(phase);
        self.record.node_id = node_id;
        self.record.reported = reported;
        self.operation().handle.clear();
        self.operation().message.clone_from(&message);

        let present = self.claimed.session.conditions.get(condition_type::OBJECT_PRESENT);
        if present.is_some_and(|known| known.status != ConditionStatus::True) {
            self.condition(condition_type::OBJECT_PRESENT, ConditionStatus::True, "Present", "");
        }
        self.condition(condition_type::READY, status, &reason, &message);

        let wished = match self.claimed.session.wish {
            Wish::State(WishedState::Running) => phase == Phase::Running,
            Wish::State(WishedState::Hibernated) => phase == Phase::Hibernated,
            Wish::State(WishedState::Terminated) | Wish::Gone { .. } => phase == Phase::Terminated,
        };
        if wished || phase == Phase::Failed {
            self.operation().accepted = true;
            self.settle();
        } else {
            // Taken, but not there yet. What comes next is decided from the phase; objects that are gone again
            // have to be asked for anew.
            self.operation().accepted = phase != Phase::Terminated;
            self.look_again();
        }
    }

    fn error(&mut self, error: CallError) {
        let spec = &self.claimed.session.spec;
        let (reason, message) = (spec.scrub(&error.reason), spec.scrub(&error.message));
        if error.from_controller {
            self.reachable();
        } else {
            self.condition(condition_type::CONTROLLER_REACHABLE, ConditionStatus::False, &reason, &message);
        }
        // Only to make a session is no question about one that should be there.
        let create = Step::Call(OperationKind::Create);
        if error.from_controller && error.code == Code::NotFound && self.claimed.step != create {
            return self.not_found();
        }
        let cleaning = self.claimed.step == Step::CleanUp;
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
        if !error.from_controller {
            self.excuse(pause);
        }
        self.again_in(pause);
    }

    /// The controller was not there to do anything: the call and the pause after it do not count.
    fn excuse(&mut self, pause: Duration) {
        let call = (self.around.now - self.claimed.operation.updated_at).max(chrono::Duration::zero());
        let operation = self.operation();
        operation.deadline = operation.deadline.map(|deadline| deadline + call + signed(pause));
    }

    /// The backend itself says that there is nothing.
    fn not_found(&mut self) {
        if self.claimed.step == Step::CleanUp {
            return self.cleaning(Reply::Gone);
        }
        if self.is_deletion() {
            return self.reply(Reply::Gone);
        }
        self.operation().accepted = false;
        self.operation().handle.clear();
        self.record.phase = Some(Phase::Pending);
        self.condition(
            condition_type::READY,
            ConditionStatus::False,
            "NotFound",
            "the backend does not have the session; it is made again",
        );
        self.look_again();
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
mod tests {
    use super::*;
    use crate::domain::{EnvVar, Operation, decide, now, test_session};
    use crate::store::Lease;

    fn claimed(step: Step, wish: Wish) -> Claimed {
        let session = test_session(wish, true, Phase::Pending);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.prepare(&step, &session, Duration::from_secs(600), now());
        let lease = Lease { session_id: session.id.clone(), owner: "me".into(), epoch: operation.epoch };
        Claimed { step, session, operation, lease }
    }

    fn around() -> Circumstances {
        Circumstances {
            now: now(),
            jitter: 1.0,
            longest_look_pause: Duration::from_secs(3),
            keep_tombstone: Duration::from_secs(1),
        }
    }

    fn create() -> Claimed {
        claimed(Step::Call(OperationKind::Create), Wish::State(WishedState::Running))
    }

    fn delete() -> Claimed {
        claimed(Step::Call(OperationKind::Delete), Wish::Gone { purge_home: false })
    }

    fn error(code: Code) -> Answer {
        Answer::Error(tonic::Status::new(code, "the backend said so").into())
    }

    fn ready(record: &StepRecord) -> &Condition {
        record.conditions.iter().find(|condition| condition.kind == condition_type::READY).unwrap()
    }

    fn stands(phase: Phase) -> Answer {
        let observation = Observation { phase, node_id: None, conditions: None, message: String::new() };
        Answer::Reply(Reply::Stands(observation))
    }

    #[test]
    fn running_settles() {
        let record = outcome(&create(), stands(Phase::Running), around());
        assert_eq!(record.phase, Some(Phase::Running));
        assert!(record.operation.is_settled() && record.wish_answered);
        assert_eq!(ready(&record).status, ConditionStatus::True);
    }

    #[test]
    fn pending_is_looked_at_again() {
        let record = outcome(&create(), stands(Phase::Pending), around());
        assert!(!record.operation.is_settled() && record.operation.accepted && !record.wish_answered);
    }

    #[test]
    fn progress_keeps_the_handle() {
        let reply = Reply::InProgress { handle: b"job".to_vec(), message: "pulling".into() };
        let record = outcome(&create(), Answer::Reply(reply), around());
        assert_eq!(record.operation.handle, b"job");
        assert_eq!((record.phase, ready(&record).message.as_str()), (None, "pulling"));
        assert!(!record.operation.is_settled());
    }

    #[test]
    fn errors_that_pass_are_retried_and_change_no_phase() {
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
            Code::Aborted,
            Code::Cancelled,
        ] {
            let mut claimed = create();
            claimed.operation.failures = 100;
            claimed.operation.handle = b"job".to_vec();
            let record = outcome(&claimed, error(code), around());
            assert_eq!(record.phase, None, "{code:?}");
            assert!(!record.operation.is_settled(), "{code:?}");
            assert_eq!(record.operation.handle, b"job");
            assert_eq!(ready(&record).message, "the backend said so");
        }
    }

    #[test]
    fn final_errors_fail_a_creation_and_never_a_deletion() {
        for code in [
            Code::InvalidArgument,
            Code::Unimplemented,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            Code::PermissionDenied,
        ] {
            let record = outcome(&create(), error(code), around());
            assert_eq!(record.phase, Some(Phase::Failed), "{code:?}");
            assert!(record.wish_answered);
            let record = outcome(&delete(), error(code), around());
            assert!(!record.operation.is_settled() && !record.gone && record.phase.is_none(), "{code:?}");
        }
    }

    #[test]
    fn internal_errors_are_retried_five_times() {
        let mut claimed = create();
        for retry in 0..5 {
            let record = outcome(&claimed, error(Code::Internal), around());
            assert!(!record.operation.is_settled(), "retry {retry}");
            claimed.operation = record.operation;
        }
        let record = outcome(&claimed, error(Code::Internal), around());
        assert_eq!(record.phase, Some(Phase::Failed));
    }

    #[test]
    fn a_failed_creation_leaves_nothing() {
        let mut late = create();
        late.step = Step::GiveUp;
        for record in [
            outcome(&create(), error(Code::InvalidArgument), around()),
            outcome(&late, Answer::TimeUp, around()),
        ] {
            let why = ready(&record).clone();
            assert!(record.wish_answered && !record.operation.is_settled());
            let mut session = create().session;
            session.phase = Phase::Failed;
            session.conditions.set(why);
            let step = decide(&session, &record.operation, now());
            assert_eq!(step, Step::CleanUp);
            let mut operation = record.operation;
            operation.prepare(&step, &session, Duration::from_secs(600), now());
            assert_eq!(operation.deadline, None, "like a deletion it never gives up");
            let lease = Lease { session_id: session.id.clone(), owner: "me".into(), epoch: operation.epoch };
            let mut claimed = Claimed { step, session, operation, lease };

            for answer in [
                error(Code::PermissionDenied),
                Answer::Reply(Reply::NotGone("busy".into())),
                Answer::Reply(Reply::InProgress { handle: b"h".to_vec(), message: String::new() }),
            ] {
                let record = outcome(&claimed, answer, around());
                assert_eq!(decide(&claimed.session, &record.operation, now()), Step::CleanUp);
                assert!(
                    record.phase.is_none() && record.conditions.is_empty() && !record.operation.is_settled()
                );
                claimed.operation = record.operation;
            }
            assert_eq!(claimed.operation.handle, b"h");
            for answer in [Answer::Reply(Reply::Gone), error(Code::NotFound)] {
                let record = outcome(&claimed, answer, around());
                assert!(record.operation.is_settled() && !record.gone);
                assert!(record.phase.is_none() && record.conditions.is_empty(), "the reason stays");
                assert_eq!(decide(&claimed.session, &record.operation, now()), Step::Rest);
            }
        }
        // What was never asked for has left nothing.
        late.operation.attempt = 0;
        assert!(outcome(&late, Answer::TimeUp, around()).operation.is_settled());
    }

    #[test]
    fn time_without_a_controller_does_not_count() {
        let claimed = create();
        let deadline = claimed.operation.deadline.unwrap();
        let around = Circumstances { now: now() + chrono::Duration::seconds(60), ..around() };
        let record = outcome(&claimed, Answer::Error(CallError::unattached()), around);
        let gained = record.operation.deadline.unwrap() - deadline;
        assert_eq!(gained, record.operation.next_attempt_at.unwrap() - claimed.operation.updated_at);
        let record = outcome(&claimed, error(Code::ResourceExhausted), around);
        assert_eq!(record.operation.deadline, Some(deadline));
    }

    #[test]
    fn the_end_of_the_time_is_not_slept_through() {
        let mut claimed = create();
        claimed.operation.failures = 20;
        let around = around();
        let deadline = around.now + chrono::Duration::seconds(2);
        claimed.operation.deadline = Some(deadline);
        let record = outcome(&claimed, error(Code::ResourceExhausted), around);
        assert_eq!(record.operation.next_attempt_at, Some(deadline));
    }

    #[test]
    fn gone_is_gone_by_success_or_by_not_found() {
        assert!(outcome(&delete(), Answer::Reply(Reply::Gone), around()).gone);
        assert!(outcome(&delete(), error(Code::NotFound), around()).gone);
        assert!(!outcome(&delete(), Answer::Reply(Reply::NotGone(String::new())), around()).gone);
        assert!(!outcome(&create(), error(Code::NotFound), around()).gone);
    }

    #[test]
    fn an_accepted_session_that_is_not_there_is_made_again() {
        let mut looking = create();
        looking.step = Step::Look;
        looking.operation.accepted = true;
        let record = outcome(&looking, error(Code::NotFound), around());
        assert!(!record.operation.accepted && !record.operation.is_settled());
        assert_eq!(record.phase, Some(Phase::Pending));
    }

    #[test]
    fn what_is_not_there_is_made_again_whatever_was_asked() {
        for kind in [OperationKind::Wake, OperationKind::Hibernate] {
            let mut claimed = claimed(Step::Call(kind), Wish::State(WishedState::Running));
            claimed.operation.handle = b"job".to_vec();
            let record = outcome(&claimed, error(Code::NotFound), around());
            assert_eq!(record.phase, Some(Phase::Pending), "{kind:?}");
            assert!(!record.operation.is_settled() && record.operation.handle.is_empty());
            let mut session = claimed.session.clone();
            session.phase = Phase::Pending;
            let next = decide(&session, &record.operation, now());
            assert_eq!(next, Step::Call(OperationKind::Create));
        }
        let record = outcome(&create(), error(Code::NotFound), around());
        assert_eq!(record.phase, Some(Phase::Failed));
    }

    #[test]
    fn looks_back_off() {
        let mut looking = create();
        looking.step = Step::Look;
        looking.operation.accepted = true;
        let mut last = chrono::Duration::zero();
        for _ in 0..4 {
            looking.operation.prepare(&Step::Look, &looking.session, Duration::from_secs(600), now());
            let around = around();
            let record = outcome(&looking, stands(Phase::Pending), around);
            let pause = record.operation.next_attempt_at.unwrap() - around.now;
            assert!(pause > last, "{pause} after {last}");
            last = pause;
            looking.operation = record.operation;
        }
    }

    #[test]
    fn progress_does_not_forgive_failures() {
        let progress = || Reply::InProgress { handle: b"job".to_vec(), message: "pulling".into() };
        let mut claimed = create();
        for _ in 0..5 {
            claimed.operation = outcome(&claimed, error(Code::Internal), around()).operation;
            assert!(!claimed.operation.is_settled());
            claimed.operation = outcome(&claimed, Answer::Reply(progress()), around()).operation;
        }
        assert_eq!((claimed.operation.failures, claimed.operation.internal_failures), (5, 5));
        let late = outcome(&claimed, Answer::TimeUp, around());
        assert!(ready(&late).message.contains("the backend said so"), "{}", ready(&late).message);
        let record = outcome(&claimed, error(Code::Internal), around());
        assert_eq!(record.phase, Some(Phase::Failed));

        let stands = outcome(&claimed, stands(Phase::Pending), around()).operation;
        assert_eq!((stands.failures, stands.internal_failures, stands.last_error.as_str()), (0, 0, ""));
    }

    #[test]
    fn what_the_transport_says_is_never_final() {
        let broken = tonic::Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        let broken = CallError::from(broken);
        assert!(!broken.from_controller);
        let mut claimed = create();
        for _ in 0..20 {
            claimed.operation = outcome(&claimed, Answer::Error(broken.clone()), around()).operation;
        }
        assert!(!claimed.operation.is_settled());
        assert_eq!((claimed.operation.failures, claimed.operation.internal_failures), (20, 0));
    }

    #[test]
    fn unreachable_is_a_condition_and_not_a_phase() {
        let record = outcome(&create(), Answer::Error(CallError::unattached()), around());
        let reachable =
            record.conditions.iter().find(|c| c.kind == condition_type::CONTROLLER_REACHABLE).unwrap();
        assert_eq!(reachable.status, ConditionStatus::False);
        assert_eq!(record.phase, None);
    }

    #[test]
    fn the_end_of_the_time_says_what_was_last() {
        let mut claimed = create();
        claimed.operation.message = "pulling".into();
        let record = outcome(&claimed, Answer::TimeUp, around());
        assert_eq!(record.phase, Some(Phase::Failed));
        assert!(ready(&record).message.contains("pulling"));
    }

    #[test]
    fn secrets_do_not_come_back_in_messages() {
        let mut claimed = create();
        claimed.session.spec.env.push(EnvVar { name: "P".into(), value: "hunter22".into(), secret: true });
        let failed = Answer::Error(tonic::Status::internal("bad env P=hunter22").into());
        let record = outcome(&claimed, failed, around());
        assert!(!format!("{record:?}").contains("hunter22"));

        let condition = |kind: &str| Condition {
            kind: kind.into(),
            status: ConditionStatus::False,
            reason: "hunter22".into(),
            message: "P=hunter22 is wrong".into(),
            since: now(),
        };
        let observation = Observation {
            phase: Phase::Running,
            node_id: None,
            conditions: Some(vec![condition("Ready"), condition("Started")]),
            message: String::new(),
        };
        let record = outcome(&claimed, Answer::Reply(Reply::Stands(observation)), around());
        assert_eq!(record.reported.as_ref().unwrap().len(), 2);
        assert!(!format!("{record:?}").contains("hunter22"));
        assert_eq!(ready(&record).status, ConditionStatus::False, "the backend denies it");
    }
}
