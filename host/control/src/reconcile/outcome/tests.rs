//! What answers amount to.

use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::domain::{EnvVar, Wish, WishedState, decide, now, test_session};
use crate::store::Lease;

fn claimed(step: Step, wish: Wish) -> Claimed {
    let session = test_session(wish, true, Phase::Pending);
    let mut operation = Operation::first(session.id.clone(), now());
    operation.prepare(&step, &session, Duration::from_secs(600), now());
    let lease = Lease { session_id: session.id.clone(), owner: "me".into(), epoch: operation.epoch };
    Claimed { step, session, operation, lease, controller_epoch: None }
}

fn around() -> Circumstances {
    Circumstances {
        begun: now(),
        now: now(),
        jitter: 1.0,
        longest_look_pause: Duration::from_secs(3),
        keep_tombstone: Duration::from_secs(1),
        repair_pause: Duration::from_secs(10),
        longest_step: Duration::from_secs(80),
        controller_healthy: true,
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

fn progress(handle: &str) -> Reply {
    Reply::InProgress(Progress { handle: handle.into(), message: "pulling".into(), ..Progress::default() })
}

fn ready(record: &StepRecord) -> &Condition {
    record.conditions.iter().find(|condition| condition.kind == condition_type::READY).unwrap()
}

/// The time for it is up, and the last look finds nothing.
fn time_up(claimed: &Claimed) -> StepRecord {
    let last = Claimed { step: Step::GiveUp, ..claimed.clone() };
    outcome(&last, error(Code::NotFound), around())
}

fn stands(phase: Phase) -> Answer {
    let observation =
        Observation { phase, node_id: None, conditions: None, message: String::new(), last_activity: None };
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
    let reply = progress("job");
    let record = outcome(&create(), Answer::Reply(reply), around());
    assert_eq!(record.operation.handle, b"job");
    assert_eq!((record.phase, ready(&record).message.as_str()), (None, "pulling"));
    assert!(!record.operation.is_settled());
}

#[test]
fn progress_shows_its_conditions_and_comes_back_when_it_wants() {
    let pulling = Condition {
        kind: "ImagePulled".into(),
        status: ConditionStatus::False,
        reason: "Pulling".into(),
        message: "3 of 7 layers".into(),
        since: now(),
    };
    let Reply::InProgress(plain) = progress("job") else { unreachable!() };
    let poll_after = Some(Duration::from_secs(7));
    let reply = Reply::InProgress(Progress { poll_after, conditions: Some(vec![pulling]), ..plain });
    let around = around();
    let record = outcome(&create(), Answer::Reply(reply), around);
    assert_eq!(record.reported.as_ref().map(|said| said[0].reason.as_str()), Some("Pulling"));
    assert_eq!(record.operation.next_attempt_at, Some(around.now + chrono::Duration::seconds(7)));
}

#[test]
fn what_has_been_there_is_not_cleaned_up() {
    let mut claimed = create();
    claimed.operation.established = true;
    let record = outcome(&claimed, error(Code::InvalidArgument), around());
    assert_eq!(record.phase, Some(Phase::Failed));
    assert!(record.operation.is_settled(), "no removal");
    let ran = outcome(&create(), stands(Phase::Running), around()).operation;
    assert!(ran.established && !ran.is_open());
    assert!(!outcome(&create(), stands(Phase::Pending), around()).operation.established);
    let mut gone = claimed;
    gone.step = Step::Call(OperationKind::Wake);
    assert!(!outcome(&gone, error(Code::NotFound), around()).operation.established);
}

#[test]
fn errors_that_pass_are_retried_and_change_no_phase() {
    for code in
        [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Aborted, Code::Cancelled]
    {
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
    for record in [outcome(&create(), error(Code::InvalidArgument), around()), time_up(&create())] {
        let why = ready(&record).clone();
        assert!(record.wish_answered && !record.operation.is_settled());
        let mut session = create().session;
        session.phase = Phase::Failed;
        session.conditions.set(why);
        let step = decide(&session, &record.operation, now());
        assert_eq!(step, CLEAN_UP);
        let mut operation = record.operation;
        operation.prepare(&step, &session, Duration::from_secs(600), now());
        assert_eq!(operation.deadline, None, "like a deletion it never gives up");
        let lease = Lease { session_id: session.id.clone(), owner: "me".into(), epoch: operation.epoch };
        let mut claimed = Claimed { step, session, operation, lease, controller_epoch: None };

        for answer in [
            error(Code::PermissionDenied),
            Answer::Reply(Reply::NotGone("busy".into())),
            Answer::Reply(progress("h")),
        ] {
            let record = outcome(&claimed, answer, around());
            assert_eq!(decide(&claimed.session, &record.operation, now()), CLEAN_UP);
            assert!(record.phase.is_none() && record.conditions.is_empty() && !record.operation.is_settled());
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
    let mut late = create();
    late.operation.attempt = 0;
    assert!(time_up(&late).operation.is_settled());
}

#[test]
fn before_it_is_given_up_it_is_looked_at() {
    let late = Claimed { step: Step::GiveUp, ..create() };
    let record = outcome(&late, stands(Phase::Running), around());
    assert_eq!((record.phase, record.operation.is_settled()), (Some(Phase::Running), true));
    assert!(record.operation.established);
    for answer in [stands(Phase::Pending), stands(Phase::Hibernated), error(Code::ResourceExhausted)] {
        let record = outcome(&late, answer, around());
        assert_eq!(record.phase, Some(Phase::Failed));
        assert_eq!(ready(&record).reason, "DeadlineExceeded");
    }
    // Not to be reached is no reason to give up.
    let record = outcome(&late, Answer::Error(CallError::unattached()), around());
    assert_eq!((record.phase, record.operation.is_settled()), (None, false));
    assert!(record.operation.deadline > late.operation.deadline);
}

#[test]
fn time_in_which_the_machine_slept_does_not_count() {
    let claimed = create();
    let deadline = claimed.operation.deadline.unwrap();
    let hour = chrono::Duration::hours(1);
    let around = Circumstances { begun: now(), now: now() + hour, ..around() };
    let hour = around.now - around.begun;
    let record = outcome(&claimed, error(Code::ResourceExhausted), around);
    assert_eq!(record.operation.deadline, Some(deadline + hour - chrono::Duration::seconds(80)));
}

#[test]
fn time_without_a_controller_does_not_count() {
    let claimed = create();
    let deadline = claimed.operation.deadline.unwrap();
    let begun = claimed.operation.updated_at;
    let around = Circumstances { begun, now: begun + chrono::Duration::seconds(60), ..around() };
    let record = outcome(&claimed, Answer::Error(CallError::unattached()), around);
    let gained = record.operation.deadline.unwrap() - deadline;
    assert_eq!(gained, record.operation.next_attempt_at.unwrap() - claimed.operation.updated_at);
    let record = outcome(&claimed, error(Code::ResourceExhausted), around);
    assert_eq!(record.operation.deadline, Some(deadline));
    let hangs = CallError { code: Code::DeadlineExceeded, ..CallError::unattached() };
    let record = outcome(&claimed, Answer::Error(hangs), around);
    assert_eq!(record.operation.deadline, Some(deadline), "a controller that hangs is there");
}

#[test]
fn time_without_a_backend_does_not_count_either() {
    let claimed = create();
    let deadline = claimed.operation.deadline.unwrap();
    for code in [Code::Unavailable, Code::DeadlineExceeded] {
        let said = || {
            let details = ErrorDetails::with_error_info("UNAVAILABLE", "streamspace.controller", []);
            Answer::Error(tonic::Status::with_error_details(code, "no engine", details).into())
        };
        let record = outcome(&claimed, said(), around());
        assert_eq!(
            record.operation.deadline,
            Some(deadline),
            "a registry that is away under a healthy engine"
        );
        let around = Circumstances { controller_healthy: false, ..around() };
        let record = outcome(&claimed, said(), around);
        assert!(record.operation.deadline.unwrap() > deadline, "{code:?}");
        assert!(record.conditions.iter().all(|one| one.kind != condition_type::CONTROLLER_REACHABLE));
    }
    let around = Circumstances { controller_healthy: false, ..around() };
    let record = outcome(&claimed, error(Code::ResourceExhausted), around);
    assert_eq!(record.operation.deadline, Some(deadline), "whoever says that has a backend");
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
    let mut claimed = create();
    for _ in 0..5 {
        claimed.operation = outcome(&claimed, error(Code::Internal), around()).operation;
        assert!(!claimed.operation.is_settled());
        claimed.operation = outcome(&claimed, Answer::Reply(progress("job")), around()).operation;
    }
    assert_eq!((claimed.operation.failures, claimed.operation.internal_failures), (5, 5));
    let late = time_up(&claimed);
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
    let record = time_up(&claimed);
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
        last_activity: None,
    };
    let record = outcome(&claimed, Answer::Reply(Reply::Stands(observation)), around());
    assert_eq!(record.reported.as_ref().unwrap().len(), 2);
    assert!(!format!("{record:?}").contains("hunter22"));
    assert_eq!(ready(&record).status, ConditionStatus::False, "the backend denies it");
}

#[test]
fn what_a_controller_took_and_forgot_is_asked_for_again() {
    for (state, kind, before, other) in [
        (WishedState::Running, OperationKind::Wake, Phase::Hibernated, Phase::Pending),
        (WishedState::Hibernated, OperationKind::Hibernate, Phase::Running, Phase::Pending),
    ] {
        let mut looking = claimed(Step::Call(kind), Wish::State(state));
        let id = looking.operation.id.clone();
        looking.step = Step::Look;
        looking.operation.accepted = true;
        let mut looks = 0;
        while looking.operation.accepted && looks < 100 {
            looks += 1;
            looking.operation.prepare(&Step::Look, &looking.session, Duration::from_secs(600), now());
            assert!(outcome(&looking, stands(other), around()).operation.accepted, "it moves");
            looking.operation = outcome(&looking, stands(before), around()).operation;
        }
        assert!((5..20).contains(&looks), "{looks}");
        let mut session = looking.session.clone();
        session.phase = before;
        assert_eq!(decide(&session, &looking.operation, now()), Step::Call(kind));
        assert_eq!(looking.operation.id, id, "the same operation");
    }
}

#[test]
fn whether_the_object_is_there_is_said_when_it_goes() {
    let present = |record: &StepRecord| {
        let mut all = record.conditions.iter();
        all.find(|one| one.kind == condition_type::OBJECT_PRESENT).map(|one| (one.status, one.reason.clone()))
    };
    assert_eq!(present(&outcome(&delete(), Answer::Reply(Reply::Gone), around())), None, "nobody said it is");
    let mut clean_up = create();
    clean_up.step = CLEAN_UP;
    for mut claimed in [delete(), clean_up] {
        let kind = condition_type::OBJECT_PRESENT.to_owned();
        let (status, reason) = (ConditionStatus::Unknown, "NotListed".to_owned());
        claimed.session.conditions.set(Condition {
            kind,
            status,
            reason,
            message: String::new(),
            since: now(),
        });
        let record = outcome(&claimed, Answer::Reply(Reply::Gone), around());
        assert_eq!(present(&record), Some((ConditionStatus::False, "Removed".to_owned())));
    }
    let wake = claimed(Step::Call(OperationKind::Wake), Wish::State(WishedState::Running));
    let record = outcome(&wake, error(Code::NotFound), around());
    assert_eq!(present(&record), Some((ConditionStatus::False, "Missing".to_owned())));
}
