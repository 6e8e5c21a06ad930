//! Whatever is wished in whatever order, whatever becomes of calls on the way, however long it takes, and whatever hands
//! do at the backend: once the controller does what it is told, the session gets where it was wished or has failed for a
//! reason, and rests. Nothing that somebody may have worked in is removed on the way, and nothing is left behind.

use std::time::Duration;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use tonic::Code;

use super::outcome::{Answer, Circumstances, outcome};
use crate::domain::{
    ControllerId, Epoch, Operation, OperationKind, Phase, Step, Wish, WishedState, decide, now, test_session,
};
use crate::fleet::{Observation, Progress, Reply};
use crate::observe::{Sight, change};
use crate::store::{Applied, Claimed, Lease, SessionRecord};

const LIMIT: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(10);
/// Steps in which everything comes to rest, if the controller does what it is told.
const STEPS: u32 = 80;
/// So many objects are made meanwhile, at most.
const MADE: u32 = 12;

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Done, and said so.
    Done,
    /// Done, and the reply was lost.
    Lost,
    /// Never heard of.
    Unheard,
    /// It is done some time later, and nobody hears of it.
    Late,
    /// Like that, but a creation outlasts even the calls after it.
    Hung,
    /// Taken, to be asked again with a handle; it is done if nothing else comes.
    Progress,
    /// Taken over, to be looked at.
    Accepted,
    /// Refused for good.
    Refused,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Wish(WishedState),
    Delete,
    /// It is to go on on another controller.
    Move,
    /// A step is claimed and its call goes like that …
    Begin(Course),
    /// … and its end is recorded.
    End,
    /// So many minutes pass.
    Wait(i64),
    /// What the backend has begun takes effect.
    Finish,
    /// Somebody changes the object at the backend, or brings it back. Whether that is seen at once.
    Hand(Option<Phase>, bool),
    /// The session is seen at the backend, or not.
    See,
    /// For a while all goes well.
    Settle,
    /// The server is killed and started again: no claim holds any more.
    Restart,
}

/// The backend: what it has of the session, and what it is about to do.
#[derive(Debug, Default)]
struct Backend {
    object: Option<Phase>,
    coming: Option<OperationKind>,
    /// A creation that hangs.
    hung: bool,
    /// It loses what it is told to stop.
    loses: bool,
    made: u32,
}

impl Backend {
    fn finish(&mut self) {
        match (self.coming.take(), self.object) {
            (Some(OperationKind::Create), before) => {
                self.object = Some(Phase::Running);
                self.made += u32::from(before.is_none());
            }
            (Some(OperationKind::Wake), Some(_)) => self.object = Some(Phase::Running),
            (Some(OperationKind::Hibernate), Some(_)) => {
                self.object = (!self.loses).then_some(Phase::Hibernated);
            }
            (Some(OperationKind::Delete | OperationKind::CleanUp), _) => self.object = None,
            _ => {}
        }
    }

    fn says(&self, removal: bool) -> Answer {
        match self.object {
            None if removal => Answer::Reply(Reply::Gone),
            None => error(Code::NotFound),
            Some(phase) => stands(phase),
        }
    }

    /// Calls for one session come one after the other: what an earlier one left undone is done first.
    fn call(&mut self, kind: Option<OperationKind>, course: Course) -> Answer {
        self.finish();
        let Some(kind) = kind else {
            return if course == Course::Unheard { error(Code::Unavailable) } else { self.says(false) };
        };
        let there = self.object.is_some() || kind == OperationKind::Create || kind.is_removal();
        match course {
            Course::Unheard => return error(Code::Unavailable),
            Course::Refused => return error(Code::PermissionDenied),
            Course::Hung if kind == OperationKind::Create => {
                self.hung = true;
                return error(Code::DeadlineExceeded);
            }
            Course::Late | Course::Hung => {
                self.coming = Some(kind);
                return error(Code::DeadlineExceeded);
            }
            Course::Progress => {
                self.coming = Some(kind);
                return Answer::Reply(Reply::InProgress(Progress {
                    handle: b"job".to_vec(),
                    ..Progress::default()
                }));
            }
            Course::Accepted if there && !kind.is_removal() => {
                self.coming = Some(kind);
                return stands(Phase::Pending);
            }
            Course::Done | Course::Lost | Course::Accepted => {}
        }
        self.coming = Some(kind);
        self.finish();
        match course {
            Course::Lost => error(Code::Unavailable),
            _ if !there => error(Code::NotFound),
            _ => self.says(kind.is_removal()),
        }
    }
}

fn observation(phase: Phase) -> Observation {
    let message = String::new();
    Observation { phase, node_id: None, conditions: None, message, last_activity: None }
}

fn stands(phase: Phase) -> Answer {
    Answer::Reply(Reply::Stands(observation(phase)))
}

fn error(code: Code) -> Answer {
    Answer::Error(tonic::Status::new(code, "").into())
}

/// The row, as the store treats it.
struct Model {
    record: SessionRecord,
    removed: bool,
    under_way: Option<(Claimed, Answer)>,
    backend: Backend,
    now: DateTime<Utc>,
    /// Time that was spent on the operation since it got its deadline, or was waited for because of it.
    worked: chrono::Duration,
    /// Somebody may have worked in what the backend has.
    precious: bool,
}

impl Model {
    fn new(placed: bool, loses: bool) -> Self {
        let session = test_session(Wish::State(WishedState::Running), placed, Phase::Pending);
        let now = now();
        let operation = Operation::first(session.id.clone(), now);
        Self {
            record: SessionRecord { session, operation },
            removed: false,
            under_way: None,
            backend: Backend { loses, ..Backend::default() },
            now,
            worked: chrono::Duration::zero(),
            precious: false,
        }
    }

    fn happen(&mut self, event: Event) {
        if self.removed {
            return;
        }
        match event {
            Event::Wish(_) | Event::Delete if self.record.session.is_deleting() => {}
            Event::Wish(state) => {
                if self.record.wish(state, self.now) && self.under_way.is_none() {
                    self.record.rest_if_fulfilled(self.now);
                }
            }
            Event::Delete => {
                let SessionRecord { session, operation } = &mut self.record;
                session.wish = Wish::Gone { purge_home: false };
                session.generation = session.generation.next();
                operation.next_attempt_at = Some(self.now);
            }
            Event::Move => {
                let session = &self.record.session;
                let moves = session.placed.is_some() && !session.is_deleting() && session.moving_to.is_none();
                if moves {
                    self.record.depart(ControllerId::generate(), self.now);
                    // Whoever moves it knows that it is made anew.
                    self.precious = false;
                }
            }
            Event::Begin(course) => self.begin(course),
            Event::End => self.end(),
            Event::Wait(minutes) => self.now += chrono::Duration::minutes(minutes),
            Event::Finish => {
                self.backend.finish();
                let session = &self.record.session;
                let stays = !session.is_deleting() && session.moving_to.is_none();
                if std::mem::take(&mut self.backend.hung) && stays {
                    self.backend.coming = Some(OperationKind::Create);
                    self.backend.finish();
                }
            }
            // What comes back while its session goes, or leaves, is a stray, which others see to.
            Event::Hand(..)
                if self.record.session.placed.is_none()
                    || self.record.session.is_deleting()
                    || self.record.session.moving_to.is_some() => {}
            Event::Hand(object, seen) => {
                self.backend.object = object;
                if seen {
                    self.see();
                }
            }
            Event::See => self.see(),
            Event::Settle => self.settle(),
            Event::Restart => self.under_way = None,
        }
        self.judge();
    }

    /// Whether somebody may work in the object from now on.
    fn judge(&mut self) {
        let SessionRecord { session, operation } = &self.record;
        let kept = matches!(session.wish, Wish::State(WishedState::Running | WishedState::Hibernated));
        let there = self.backend.object.is_some() && kept && session.moving_to.is_none();
        let usable = operation.is_settled() && session.wish.is_fulfilled_by(session.phase);
        self.precious = there && (self.precious || usable);
    }

    fn begin(&mut self, course: Course) {
        let Some(due) = self.record.operation.next_attempt_at.filter(|_| self.under_way.is_none()) else {
            return;
        };
        self.now = self.now.max(due);
        let before = self.record.operation.deadline;
        let Some(step) = self.record.claim(None, LIMIT, self.now) else {
            assert_ne!(self.record.session.phase, Phase::Failed, "no step failed");
            return;
        };
        let SessionRecord { session, operation } = &mut self.record;
        if before.is_none() || operation.deadline == Some(self.now + LIMIT) {
            self.worked = chrono::Duration::zero();
        }
        let answer = match step {
            Step::Place => {
                session.placed = Some((ControllerId::generate(), "docker".into()));
                return;
            }
            Step::Forget => Answer::NeverPlaced,
            Step::Call(kind) => {
                assert!(!(kind.is_removal() && self.precious), "{kind:?} of what somebody works in");
                self.backend.call(Some(kind), course)
            }
            Step::Look => self.backend.call(None, course),
            Step::GiveUp => {
                let limit = chrono::Duration::from_std(LIMIT).unwrap();
                assert!(self.worked >= limit, "given up after {}", self.worked);
                self.backend.call(None, course)
            }
            Step::Rest => panic!("{step:?}"),
        };
        let lease = Lease { session_id: session.id.clone(), owner: String::new(), epoch: Epoch::NONE };
        let (session, operation) = (session.clone(), operation.clone());
        let claimed = Claimed { step, session, operation, lease, controller_epoch: None };
        self.under_way = Some((claimed, answer));
    }

    fn end(&mut self) {
        let Some((claimed, answer)) = self.under_way.take() else { return };
        let around = Circumstances {
            begun: claimed.operation.updated_at,
            now: self.now,
            jitter: 0.5,
            longest_look_pause: Duration::from_secs(3),
            keep_tombstone: Duration::from_secs(1),
            repair_pause: PAUSE,
            longest_step: LIMIT * 10,
            controller_healthy: true,
        };
        let fulfilled = match &answer {
            Answer::Reply(Reply::Stands(seen)) => claimed.session.wish.is_fulfilled_by(seen.phase),
            _ => false,
        };
        let record = outcome(&claimed, answer, around);
        let before = self.record.session.placed.clone();
        self.removed = self.record.apply(record, Epoch::NONE, self.now) == Applied::Removed;
        let SessionRecord { session, operation } = &self.record;
        assert!(!(fulfilled && session.phase == Phase::Failed), "failed, though it is as wished");
        if session.placed != before {
            assert_eq!(self.backend.object, None, "nothing is left where it was");
            // What may turn up there later is a stray, which others see to.
            let Backend { loses, made, .. } = self.backend;
            self.backend = Backend { loses, made, ..Backend::default() };
        }
        self.worked += self.now - claimed.operation.updated_at;
        self.worked += operation.next_attempt_at.map_or(chrono::Duration::zero(), |next| next - self.now);
    }

    /// Only settled sessions are observed, and what is missing was asked for by name.
    fn see(&mut self) {
        if self.under_way.is_some() || !self.record.operation.is_settled() {
            return;
        }
        let seen = self.backend.object.map(observation);
        let sight = seen.as_ref().map_or(Sight::Missing, Sight::There);
        if let Some(change) = change(&self.record, sight, PAUSE, self.now) {
            self.record.observe(change, self.now);
        }
    }

    /// The controller does what it is told until nothing is due.
    fn settle(&mut self) {
        let made = self.backend.made;
        for _ in 0..STEPS {
            if self.removed || (self.under_way.is_none() && self.record.operation.is_settled()) {
                break;
            }
            self.happen(Event::End);
            self.happen(Event::Begin(Course::Done));
        }
        let made = self.backend.made - made;
        assert!(made <= MADE, "made {made} times");
    }

    /// Whatever is still to come takes effect, is seen and set right.
    fn come_to_rest(&mut self) {
        self.settle();
        for event in [Event::Finish, Event::See, Event::See] {
            self.happen(event);
            self.settle();
        }
    }
}

fn events() -> impl Strategy<Value = Event> {
    use Course::{Accepted, Done, Hung, Late, Lost, Progress, Refused, Unheard};
    let wish =
        prop::sample::select(vec![WishedState::Running, WishedState::Hibernated, WishedState::Terminated]);
    let course = prop::sample::select(vec![Done, Lost, Unheard, Late, Hung, Progress, Accepted, Refused]);
    let hand = prop::sample::select(vec![
        None,
        Some(Phase::Running),
        Some(Phase::Hibernated),
        Some(Phase::Failed),
        Some(Phase::Terminated),
    ]);
    prop_oneof![
        4 => wish.prop_map(Event::Wish),
        1 => Just(Event::Delete),
        2 => Just(Event::Move),
        8 => course.prop_map(Event::Begin),
        8 => Just(Event::End),
        3 => (1..12i64).prop_map(Event::Wait),
        2 => Just(Event::Finish),
        6 => (hand, any::<bool>()).prop_map(|(object, seen)| Event::Hand(object, seen)),
        2 => Just(Event::See),
        4 => Just(Event::Settle),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_wish_is_fulfilled_or_fails_for_a_reason(
        placed: bool, loses: bool, events in prop::collection::vec(events(), 0..32),
    ) {
        let mut model = Model::new(placed, loses);
        for event in events {
            model.happen(event);
        }
        model.come_to_rest();
        if model.record.session.is_deleting() {
            prop_assert!(model.removed && model.backend.object.is_none());
            return Ok(());
        }
        let SessionRecord { session, operation } = &model.record;
        prop_assert!(operation.is_settled() && decide(session, operation, model.now) == Step::Rest);
        prop_assert_eq!(session.observed_generation, Some(session.generation));
        prop_assert!(session.moving_to.is_none(), "it is where it was to be moved");
        if session.phase == Phase::Failed {
            let never_there = operation.kind == OperationKind::Create && !operation.accepted && !operation.established;
            let left = model.backend.object.is_some_and(|object| object != Phase::Terminated);
            prop_assert!(!(never_there && left), "left behind");
            // Whoever wishes it again has it.
            let state = session.state;
            model.happen(Event::Wish(state));
            model.come_to_rest();
        }
        let SessionRecord { session, operation } = &model.record;
        prop_assert!(operation.is_settled() && decide(session, operation, model.now) == Step::Rest);
        let wished = match session.state {
            WishedState::Running => (Phase::Running, Some(Phase::Running)),
            WishedState::Hibernated if loses => return Ok(()),
            WishedState::Hibernated => (Phase::Hibernated, Some(Phase::Hibernated)),
            // What has ended by itself may lie about.
            WishedState::Terminated => (Phase::Terminated, model.backend.object.filter(|one| *one == Phase::Terminated)),
        };
        prop_assert_eq!((session.phase, model.backend.object), wished);
    }
}
