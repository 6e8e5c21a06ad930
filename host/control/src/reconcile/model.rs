//! Whatever is wished in whatever order, and whatever becomes of calls on the way: once the controller does what it is
//! told, the session gets where it was wished, and rests.

use std::time::Duration;

use proptest::prelude::*;
use tonic::Code;

use super::outcome::{Answer, Circumstances, outcome};
use crate::domain::{
    ControllerId, Epoch, Operation, OperationKind, Phase, Step, Wish, WishedState, decide, now, test_session,
};
use crate::fleet::{Observation, Progress, Reply};
use crate::store::{Applied, Claimed, Lease, SessionRecord};

const LIMIT: Duration = Duration::from_secs(600);

/// How a call goes.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// Done, and said so.
    Done,
    /// Done, and the reply was lost.
    Lost,
    /// Never heard of.
    Unheard,
    /// It is done some time later, and nobody hears of it.
    Late,
    /// Taken, to be asked again with a handle; it is done if nothing else comes.
    Progress,
    /// Taken over, to be looked at.
    Accepted,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Wish(WishedState),
    Delete,
    /// A step is claimed and its call goes like that …
    Begin(Course),
    /// … and its end is recorded.
    End,
    /// The server is killed and started again: no claim holds any more.
    Restart,
}

/// The backend: what it has of the session, and what it is about to do.
#[derive(Debug, Default)]
struct Backend {
    object: Option<Phase>,
    coming: Option<OperationKind>,
}

impl Backend {
    fn finish(&mut self) {
        match (self.coming.take(), self.object) {
            (Some(OperationKind::Create), _) | (Some(OperationKind::Wake), Some(_)) => {
                self.object = Some(Phase::Running);
            }
            (Some(OperationKind::Hibernate), Some(_)) => self.object = Some(Phase::Hibernated),
            (Some(OperationKind::Delete), _) => self.object = None,
            _ => {}
        }
    }

    fn says(&self, kind: Option<OperationKind>) -> Answer {
        match (kind, self.object) {
            (Some(OperationKind::Delete), None) => Answer::Reply(Reply::Gone),
            (_, None) => error(Code::NotFound),
            (_, Some(phase)) => stands(phase),
        }
    }

    /// Calls for one session come one after the other: what an earlier one left undone is done first.
    fn call(&mut self, kind: Option<OperationKind>, course: Course) -> Answer {
        self.finish();
        let Some(kind) = kind else { return self.says(None) };
        match course {
            Course::Unheard => return error(Code::Unavailable),
            Course::Late => {
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
            Course::Accepted
                if kind != OperationKind::Delete && self.says(Some(kind)) != error(Code::NotFound) =>
            {
                self.coming = Some(kind);
                return stands(Phase::Pending);
            }
            Course::Done | Course::Lost | Course::Accepted => {}
        }
        let there = self.object.is_some() || matches!(kind, OperationKind::Create | OperationKind::Delete);
        self.coming = Some(kind);
        self.finish();
        match course {
            Course::Lost => error(Code::Unavailable),
            _ if !there => error(Code::NotFound),
            _ => self.says(Some(kind)),
        }
    }
}

fn stands(phase: Phase) -> Answer {
    let message = String::new();
    let seen = Observation { phase, node_id: None, conditions: None, message, last_activity: None };
    Answer::Reply(Reply::Stands(seen))
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
}

impl Model {
    fn new(placed: bool) -> Self {
        let session = test_session(Wish::State(WishedState::Running), placed, Phase::Pending);
        let operation = Operation::first(session.id.clone(), now());
        let record = SessionRecord { session, operation };
        Self { record, removed: false, under_way: None, backend: Backend::default() }
    }

    fn happen(&mut self, event: Event) {
        if self.removed {
            return;
        }
        match event {
            Event::Wish(_) | Event::Delete if self.record.session.is_deleting() => {}
            Event::Wish(state) => {
                if self.record.wish(state, now()) && self.under_way.is_none() {
                    self.record.rest_if_fulfilled(now());
                }
            }
            Event::Delete => {
                let SessionRecord { session, operation } = &mut self.record;
                session.wish = Wish::Gone { purge_home: false };
                session.generation = session.generation.next();
                operation.next_attempt_at = Some(now());
            }
            Event::Begin(course) => self.begin(course),
            Event::End => self.end(),
            Event::Restart => self.under_way = None,
        }
    }

    fn begin(&mut self, course: Course) {
        if self.under_way.is_some() || self.record.operation.is_settled() {
            return;
        }
        if self.record.rest_if_fulfilled(now()) {
            return;
        }
        let SessionRecord { session, operation } = &mut self.record;
        let step = decide(session, operation, now());
        operation.prepare(&step, session, LIMIT, now());
        let answer = match step {
            Step::Place => {
                session.placed = Some((ControllerId::generate(), "docker".into()));
                return;
            }
            Step::Forget => Answer::NeverPlaced,
            Step::Call(kind) => self.backend.call(Some(kind), course),
            Step::Look => self.backend.call(None, course),
            Step::GiveUp | Step::Rest => panic!("{step:?}"),
        };
        let lease = Lease { session_id: session.id.clone(), owner: String::new(), epoch: Epoch::NONE };
        let claimed = Claimed { step, session: session.clone(), operation: operation.clone(), lease };
        self.under_way = Some((claimed, answer));
    }

    fn end(&mut self) {
        let Some((claimed, answer)) = self.under_way.take() else { return };
        let around = Circumstances {
            now: now(),
            jitter: 0.5,
            longest_look_pause: Duration::from_secs(3),
            keep_tombstone: Duration::from_secs(1),
            longest_step: Duration::from_secs(80),
            controller_healthy: true,
        };
        let record = outcome(&claimed, answer, around);
        self.removed = self.record.apply(record, Epoch::NONE, now()) == Applied::Removed;
    }

    /// The controller does what it is told until nothing is due.
    fn settle(&mut self) {
        for _ in 0..20 {
            if self.removed || (self.under_way.is_none() && self.record.operation.is_settled()) {
                break;
            }
            self.end();
            self.begin(Course::Done);
        }
        self.backend.finish();
    }
}

fn events() -> impl Strategy<Value = Event> {
    use Course::{Accepted, Done, Late, Lost, Progress, Unheard};
    let wish =
        prop::sample::select(vec![WishedState::Running, WishedState::Hibernated, WishedState::Terminated]);
    let course = prop::sample::select(vec![Done, Lost, Unheard, Late, Progress, Accepted]);
    prop_oneof![
        4 => wish.prop_map(Event::Wish),
        1 => Just(Event::Delete),
        6 => course.prop_map(Event::Begin),
        6 => Just(Event::End),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_wish_is_fulfilled(placed: bool, events in prop::collection::vec(events(), 0..24)) {
        let mut model = Model::new(placed);
        for event in events {
            model.happen(event);
        }
        model.settle();
        let SessionRecord { session, operation } = &model.record;
        if let Wish::Gone { .. } = session.wish {
            prop_assert!(model.removed && model.backend.object.is_none());
            return Ok(());
        }
        let (phase, object) = match session.state {
            WishedState::Running => (Phase::Running, Some(Phase::Running)),
            WishedState::Hibernated => (Phase::Hibernated, Some(Phase::Hibernated)),
            WishedState::Terminated => (Phase::Terminated, None),
        };
        prop_assert_eq!((session.phase, model.backend.object), (phase, object));
        prop_assert_eq!(session.observed_generation, Some(session.generation));
        prop_assert!(operation.is_settled() && decide(session, operation, now()) == Step::Rest);
    }
}
