//! What a sight of a settled session means: the drift table. Pure.
//!
//! | the backend shows | wished | what happens |
//! |---|---|---|
//! | nothing | running, hibernated | `Drifted`, `ObjectGone`; made again, the home is kept |
//! | stopped | running | `Drifted`, `Stopped`; woken |
//! | running | hibernated | `Drifted`, `Started`; stopped again |
//! | ended | running, hibernated | `Drifted`, `Ended`; made again |
//! | anything | terminated | `Drifted`, `Found`; removed |
//! | failed | running, hibernated | phase `Failed` with the backend's reason; nothing without a new wish |
//! | anything, though its creation failed | running, hibernated | `Drifted`, `Found`; removed |
//! | on its way, paused | running, hibernated | phase `Pending` with the backend's reason; nothing |
//!
//! Whatever drifts again and again is set right after longer and longer pauses, and the condition says so.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::{
    Condition, ConditionStatus, Operation, OperationKind, Phase, Session, Step, Wish, WishedState,
    condition_type, decide,
};
use crate::fleet::{Observation, Readiness};
use crate::store::{Glance, ObservedChange, SessionRecord};

/// What was seen of one session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sight<'a> {
    /// It is there.
    There(&'a Observation),
    /// The backend says that it is not there.
    Missing,
    /// It is not there, but together with so many others that it is not believed yet.
    Doubtful,
    /// Nobody knows.
    NotSeen,
}

/// What a sight of a settled session changes, if anything. `pause` comes before the second repair in a row.
pub(crate) fn change(
    record: &SessionRecord,
    sight: Sight<'_>,
    pause: Duration,
    at: DateTime<Utc>,
) -> Option<ObservedChange> {
    let SessionRecord { session, operation } = record;
    let mut after = session.clone();
    match sight {
        Sight::NotSeen => return None,
        Sight::Missing => missing(&mut after, at),
        Sight::Doubtful => doubtful(&mut after, at),
        Sight::There(observation) => there(&mut after, operation, observation, at),
    }
    reachable(&mut after, at);
    let anew = settled_anew(operation);
    let wait = sight == Sight::Doubtful || is_on_its_way(&after, sight);
    let act = is_left_over(session, operation, sight) || (!wait && decide(&after, &anew, at) != Step::Rest);
    let repair = act.then(|| repair(&mut after, &anew, sight, pause, at));
    if !act && !wait && after.conditions.holds(condition_type::DRIFTED) {
        let (reason, message) = if after.wish.is_fulfilled_by(after.phase) {
            ("Resolved", "")
        } else {
            ("GivenUp", "it could not be set right")
        };
        set(&mut after, condition_type::DRIFTED, ConditionStatus::False, reason, message.to_owned(), at);
    }
    if after == *session && repair.is_none() {
        return None;
    }
    Some(ObservedChange {
        session_id: after.id,
        operation_seen: operation.updated_at,
        session_seen: session.updated_at,
        phase: after.phase,
        node_id: (after.node_id != session.node_id).then_some(after.node_id),
        conditions: after.conditions,
        repair,
    })
}

/// Whether the session is expected to be at its backend.
pub(super) fn is_expected(wish: Wish, phase: Phase) -> bool {
    matches!(wish, Wish::State(_)) && !matches!(phase, Phase::Failed | Phase::Terminated)
}

/// Whether [`change`] would certainly come to nothing: the session is there as it is wished and known, or is gone as
/// wished. Asked for very many, of which little is read.
pub(super) fn changes_nothing(glance: &Glance, sight: Sight<'_>) -> bool {
    let status = |kind| glance.conditions.get(kind).map(|known| known.status);
    let denied = |kind| status(kind).is_some_and(|status| status != ConditionStatus::True);
    if denied(condition_type::CONTROLLER_REACHABLE) || glance.conditions.holds(condition_type::DRIFTED) {
        return false;
    }
    match sight {
        Sight::NotSeen => true,
        Sight::Missing => {
            let present = status(condition_type::OBJECT_PRESENT);
            glance.wish == Wish::State(WishedState::Terminated)
                && glance.phase == Phase::Terminated
                && present.is_none_or(|status| status == ConditionStatus::False)
        }
        Sight::Doubtful => false,
        Sight::There(seen) => {
            let kept = matches!(glance.wish, Wish::State(WishedState::Running | WishedState::Hibernated));
            kept && glance.wish.is_fulfilled_by(glance.phase)
                && seen.phase == glance.phase
                && seen.node_id.as_ref().is_none_or(|node_id| *node_id == glance.node_id)
                && !denied(condition_type::OBJECT_PRESENT)
                && says_the_same(glance, seen)
        }
    }
}

/// Whether the backend says of itself what it is known to say.
fn says_the_same(glance: &Glance, seen: &Observation) -> bool {
    let Readiness { status, reason, message } = seen.readiness();
    let spoken = seen.own_ready().is_some();
    let ready = match glance.conditions.get(condition_type::READY) {
        Some(known) => {
            known.status == status && (!spoken || (&known.reason, &known.message) == (&reason, &message))
        }
        None => !spoken,
    };
    let Some(reported) = &seen.conditions else { return ready };
    let same = |new: &Condition| {
        glance.conditions.get(&new.kind).is_some_and(|known| {
            (known.status, &known.reason, &known.message) == (new.status, &new.reason, &new.message)
        })
    };
    let theirs = |condition: &&Condition| !condition_type::is_own(&condition.kind);
    let known = glance.conditions.as_slice().iter().filter(theirs).count();
    let new = reported.iter().filter(theirs);
    ready && new.clone().count() == known && new.clone().all(same)
}

/// The operation as it would be if it began now: an old deadline says nothing about new work.
fn settled_anew(operation: &Operation) -> Operation {
    Operation { deadline: None, accepted: false, handle: Vec::new(), attempt: 0, ..operation.clone() }
}

/// A creation that was given up, and whose remains were removed, has taken effect after all. Nobody has worked in what
/// it made: no controller ever took the session over.
fn is_left_over(session: &Session, operation: &Operation, sight: Sight<'_>) -> bool {
    let kept = matches!(session.wish, Wish::State(WishedState::Running | WishedState::Hibernated));
    let never_there =
        operation.kind == OperationKind::Create && !operation.accepted && !operation.established;
    let there = matches!(sight, Sight::There(seen) if seen.phase != Phase::Terminated);
    kept && session.phase == Phase::Failed && never_there && there
}

/// The backend has it, and sees to it by itself or was told by somebody to hold it. To ask again would change
/// nothing, and the end of the time for it would count as a failure.
fn is_on_its_way(session: &Session, sight: Sight<'_>) -> bool {
    let wished = matches!(session.wish, Wish::State(WishedState::Running | WishedState::Hibernated));
    matches!(sight, Sight::There(seen) if seen.phase == Phase::Pending) && wished
}

/// Says what drifted, and when that is set right.
fn repair(
    session: &mut Session,
    operation: &Operation,
    sight: Sight<'_>,
    pause: Duration,
    at: DateTime<Utc>,
) -> Operation {
    let mut operation = operation.clone();
    operation.renew(at);
    let Wish::State(wished) = session.wish else { return operation };
    if wished != WishedState::Terminated && session.phase == Phase::Failed {
        operation.begin_clean_up(at);
    }
    let (reason, found, remedy) = match (sight, wished, session.phase) {
        (_, WishedState::Terminated, _) => ("Found", "the backend has it again", "it is removed"),
        (_, _, Phase::Failed) => ("Found", "it was made after its creation had failed", "it is removed"),
        (Sight::There(_), WishedState::Running, Phase::Hibernated) => {
            ("Stopped", "it was stopped at the backend", "it is woken")
        }
        (Sight::There(_), WishedState::Hibernated, Phase::Running) => {
            ("Started", "it was started at the backend", "it is stopped again")
        }
        (Sight::There(_), ..) => ("Ended", "it has ended at the backend", "it is made again"),
        _ => ("ObjectGone", "the backend does not have it any more", "it is made again"),
    };
    // Nobody has worked in what is made anew: if that fails, it may be removed.
    operation.established &= matches!(sight, Sight::There(_));

    let due = operation.count_repair(pause, at);
    let mut message = format!("{found}; {remedy}");
    if operation.repairs > 1 {
        operation.next_attempt_at = Some(due);
        message = format!(
            "{found}, for the {}. time in a row; {remedy} not before {}",
            operation.repairs,
            due.format("%FT%TZ"),
        );
    }
    operation.message.clone_from(&message);
    set(session, condition_type::DRIFTED, ConditionStatus::True, reason, message, at);
    operation
}

fn set(
    session: &mut Session,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: String,
    at: DateTime<Utc>,
) {
    let (kind, reason) = (kind.to_owned(), reason.to_owned());
    session.conditions.set(Condition { kind, status, reason, message, since: at });
}

/// Takes back a condition that was denied or doubted.
fn holds_again(session: &mut Session, kind: &str, reason: &str, at: DateTime<Utc>) {
    let known = session.conditions.get(kind);
    if known.is_some_and(|known| known.status != ConditionStatus::True) {
        set(session, kind, ConditionStatus::True, reason, String::new(), at);
    }
}

/// Who answers can be reached.
fn reachable(session: &mut Session, at: DateTime<Utc>) {
    holds_again(session, condition_type::CONTROLLER_REACHABLE, "Answers", at);
}

/// The backend has nothing under this id.
fn missing(session: &mut Session, at: DateTime<Utc>) {
    let expected = is_expected(session.wish, session.phase);
    let known = session.conditions.get(condition_type::OBJECT_PRESENT);
    if expected || known.is_some_and(|known| known.status != ConditionStatus::False) {
        let message = "the backend does not have the session any more".to_owned();
        set(session, condition_type::OBJECT_PRESENT, ConditionStatus::False, "Missing", message, at);
    }
    // Otherwise it is as it should be, or as it is known.
    if expected {
        session.phase = Phase::Pending;
        let message = "the session is made again".to_owned();
        set(session, condition_type::READY, ConditionStatus::False, "ObjectMissing", message, at);
    }
}

/// The backend does not show it, nor many others. The phase stays what it was.
fn doubtful(session: &mut Session, at: DateTime<Utc>) {
    if is_expected(session.wish, session.phase) {
        let message =
            "the backend shows unexpectedly few sessions; nothing is changed until that is confirmed";
        let kind = condition_type::OBJECT_PRESENT;
        set(session, kind, ConditionStatus::Unknown, "NotListed", message.to_owned(), at);
    }
}

fn there(session: &mut Session, operation: &Operation, seen: &Observation, at: DateTime<Utc>) {
    // A session that failed before its backend ever took it is not saved by an object of the same name. One that
    // was given up later is, if it got there after all; anything else would only be given up again, without end.
    let got_there = seen.phase != Phase::Terminated && session.wish.is_fulfilled_by(seen.phase);
    if session.phase != Phase::Failed || (operation.accepted && got_there) {
        ready(session, seen, at);
        session.phase = seen.phase;
    }
    if seen.phase != Phase::Terminated {
        holds_again(session, condition_type::OBJECT_PRESENT, "Present", at);
    }
    if let Some(node_id) = &seen.node_id {
        session.node_id.clone_from(node_id);
    }
    if let Some(reported) = &seen.conditions {
        let reported = session.spec.scrub_conditions(reported.clone());
        session.conditions.replace_reported(reported);
    }
}

/// Says whether the session can be used, if that is news.
fn ready(session: &mut Session, seen: &Observation, at: DateTime<Utc>) {
    let Readiness { status, reason, message } = seen.readiness();
    let (reason, message) = (session.spec.scrub(&reason), session.spec.scrub(&message));
    // A backend that says nothing of its own takes nothing back of what was said when the session got there.
    let spoken = seen.own_ready().is_some();
    let news = match session.conditions.get(condition_type::READY) {
        Some(known) => {
            known.status != status || (spoken && (&known.reason, &known.message) != (&reason, &message))
        }
        None => spoken,
    };
    if news || session.phase != seen.phase {
        let kind = condition_type::READY.to_owned();
        session.conditions.set(Condition { kind, status, reason, message, since: at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EnvVar, now, test_session};

    const PAUSE: Duration = Duration::from_secs(10);

    const RUN: Wish = Wish::State(WishedState::Running);

    fn record(wish: Wish, phase: Phase) -> SessionRecord {
        let session = test_session(wish, true, phase);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.next_attempt_at = None;
        operation.deadline = Some(now() - chrono::Duration::hours(1));
        SessionRecord { session, operation }
    }

    fn seen(phase: Phase) -> Observation {
        Observation {
            phase,
            node_id: Some("n".into()),
            conditions: None,
            message: String::new(),
            last_activity: None,
        }
    }

    #[test]
    fn nothing_new_changes_nothing() {
        let mut record = record(RUN, Phase::Running);
        record.session.node_id = "n".into();
        assert!(change(&record, Sight::There(&seen(Phase::Running)), PAUSE, now()).is_none());
        assert!(change(&record, Sight::NotSeen, PAUSE, now()).is_none());
    }

    /// Of all that can be seen of whatever can be known, nothing is passed over that would change something.
    #[test]
    fn what_is_passed_over_changes_nothing() {
        let says = |kind: &str, status, reason: &str| Condition {
            kind: kind.into(),
            status,
            reason: reason.into(),
            message: String::new(),
            since: now(),
        };
        use ConditionStatus::{False, True, Unknown};
        let phases = [Phase::Pending, Phase::Running, Phase::Hibernated, Phase::Failed, Phase::Terminated];
        let wishes = [
            RUN,
            Wish::State(WishedState::Hibernated),
            Wish::State(WishedState::Terminated),
            Wish::Gone { purge_home: false },
        ];
        let known = [
            vec![],
            vec![says(condition_type::READY, True, "Running")],
            vec![says(condition_type::READY, False, "Hibernated"), says("Disk", True, "Fast")],
            vec![says(condition_type::OBJECT_PRESENT, False, "Missing")],
            vec![says(condition_type::OBJECT_PRESENT, Unknown, "NotListed")],
            vec![says(condition_type::CONTROLLER_REACHABLE, False, "Away")],
            vec![says(condition_type::DRIFTED, True, "Stopped")],
        ];
        let reported = [
            None,
            Some(vec![]),
            Some(vec![says(condition_type::READY, True, "Running")]),
            Some(vec![says(condition_type::READY, True, "Other")]),
            Some(vec![says("Disk", True, "Fast")]),
            Some(vec![says("Disk", True, "Slow"), says(condition_type::READY, False, "Hibernated")]),
        ];
        let mut sights = vec![None];
        for phase in phases {
            for conditions in &reported {
                for node_id in [None, Some("n".to_owned()), Some("other".to_owned())] {
                    sights.push(Some(Observation { node_id, conditions: conditions.clone(), ..seen(phase) }));
                }
            }
        }
        let mut passed_over = 0;
        for (wish, phase) in wishes.into_iter().flat_map(|wish| phases.map(|phase| (wish, phase))) {
            for conditions in &known {
                let mut record = record(wish, phase);
                record.session.node_id = "n".into();
                conditions.iter().for_each(|one| record.session.conditions.set(one.clone()));
                let Session { id, node_id, conditions, last_activity, .. } = record.session.clone();
                let glance = Glance { id, wish, phase, node_id, conditions, last_activity };
                for sight in &sights {
                    let sight = sight.as_ref().map_or(Sight::Missing, Sight::There);
                    if changes_nothing(&glance, sight) {
                        passed_over += 1;
                        let change = change(&record, sight, PAUSE, now());
                        assert!(change.is_none(), "{glance:?}\n{sight:?}\n{change:?}");
                    }
                }
            }
        }
        assert!(passed_over > 20, "{passed_over}");
    }

    #[test]
    fn a_missing_object_is_made_again() {
        let change = change(&record(RUN, Phase::Running), Sight::Missing, PAUSE, now()).unwrap();
        assert!(change.repair.is_some());
        assert_eq!(change.phase, Phase::Pending);
        let present = change.conditions.get(condition_type::OBJECT_PRESENT).unwrap();
        assert_eq!(present.status, ConditionStatus::False);
    }

    #[test]
    fn a_controller_that_lists_can_be_reached() {
        let mut failed = record(RUN, Phase::Failed);
        failed.session.conditions.set(Condition {
            kind: condition_type::CONTROLLER_REACHABLE.to_owned(),
            status: ConditionStatus::False,
            reason: "Unavailable".to_owned(),
            message: String::new(),
            since: now(),
        });
        let change = change(&failed, Sight::Missing, PAUSE, now()).unwrap();
        assert!(change.repair.is_none());
        let reachable = change.conditions.get(condition_type::CONTROLLER_REACHABLE).unwrap();
        assert_eq!(reachable.status, ConditionStatus::True);
    }

    #[test]
    fn what_failed_or_goes_is_not_made_again() {
        assert!(change(&record(RUN, Phase::Failed), Sight::Missing, PAUSE, now()).is_none());
        // A deletion that came to rest on the way goes on, but nothing is made.
        let going =
            change(&record(Wish::Gone { purge_home: false }, Phase::Running), Sight::Missing, PAUSE, now());
        assert_eq!(going.map(|change| (change.phase, change.repair.is_some())), Some((Phase::Running, true)));
        let ended = record(Wish::State(WishedState::Terminated), Phase::Terminated);
        assert!(change(&ended, Sight::Missing, PAUSE, now()).is_none());
    }

    #[test]
    fn what_is_said_of_one_that_failed_stays_true() {
        let mut failed = record(RUN, Phase::Failed);
        for (kind, reason) in
            [(condition_type::OBJECT_PRESENT, "Present"), (condition_type::DRIFTED, "ObjectGone")]
        {
            set(&mut failed.session, kind, ConditionStatus::True, reason, String::new(), now());
        }
        let change = change(&failed, Sight::Missing, PAUSE, now()).unwrap();
        assert!(change.repair.is_none() && change.phase == Phase::Failed);
        let said = |kind| change.conditions.get(kind).map(|one| (one.status, one.reason.as_str()));
        assert_eq!(said(condition_type::OBJECT_PRESENT), Some((ConditionStatus::False, "Missing")));
        assert_eq!(said(condition_type::DRIFTED), Some((ConditionStatus::False, "GivenUp")));
    }

    #[test]
    fn one_that_was_stopped_by_hand_is_woken() {
        let change =
            change(&record(RUN, Phase::Running), Sight::There(&seen(Phase::Hibernated)), PAUSE, now())
                .unwrap();
        assert!(change.repair.is_some());
        assert_eq!(change.phase, Phase::Hibernated);
    }

    #[test]
    fn what_was_made_after_its_creation_had_failed_is_removed() {
        let refused = record(RUN, Phase::Failed);
        for phase in [Phase::Running, Phase::Pending, Phase::Hibernated, Phase::Failed] {
            let change = change(&refused, Sight::There(&seen(phase)), PAUSE, now()).unwrap();
            assert_eq!(change.phase, Phase::Failed);
            let mut after = refused.session.clone();
            after.phase = change.phase;
            assert_eq!(
                decide(&after, &change.repair.unwrap(), now()),
                Step::Call(OperationKind::CleanUp),
                "{phase:?}"
            );
        }
        let mut refused = refused;
        refused.session.node_id = "n".into();
        assert!(change(&refused, Sight::There(&seen(Phase::Terminated)), PAUSE, now()).is_none());
        // What somebody may have worked in, or look for the reason of its failure in, stays.
        let settled = refused.operation.clone();
        for operation in [
            Operation { accepted: true, ..settled.clone() },
            Operation { established: true, ..settled.clone() },
            Operation { kind: OperationKind::Wake, ..settled },
        ] {
            refused.operation = operation;
            assert!(change(&refused, Sight::There(&seen(Phase::Failed)), PAUSE, now()).is_none());
        }
    }

    #[test]
    fn one_that_was_given_up_and_got_there_is_back() {
        let mut refused = record(RUN, Phase::Failed);
        refused.session.node_id = "n".into();
        refused.operation.accepted = true;
        let change = change(&refused, Sight::There(&seen(Phase::Running)), PAUSE, now()).unwrap();
        assert_eq!((change.phase, change.repair.is_some()), (Phase::Running, false));
        // What is still on its way, or would have to be woken first, was given up for good.
        for phase in [Phase::Pending, Phase::Hibernated, Phase::Terminated, Phase::Failed] {
            assert!(super::change(&refused, Sight::There(&seen(phase)), PAUSE, now()).is_none(), "{phase:?}");
        }
    }

    fn says(status: ConditionStatus, reason: &str, message: &str) -> Observation {
        let condition = Condition {
            kind: condition_type::READY.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: now(),
        };
        Observation { conditions: Some(vec![condition]), ..seen(Phase::Running) }
    }

    #[test]
    fn a_health_check_shows_when_it_passes_and_when_it_fails() {
        let mut record = record(RUN, Phase::Running);
        record.session.spec.env.push(EnvVar { name: "P".into(), value: "hunter22".into(), secret: true });
        for (status, reason, message) in [
            (ConditionStatus::False, "HealthCheck", "no answer with hunter22"),
            (ConditionStatus::False, "HealthCheck", "status 500"),
            (ConditionStatus::False, "OutOfMemory", "status 500"),
            (ConditionStatus::True, "Healthy", ""),
        ] {
            let seen = says(status, reason, message);
            let change = change(&record, Sight::There(&seen), PAUSE, now()).unwrap();
            let ready = change.conditions.get(condition_type::READY).unwrap();
            assert_eq!((ready.status, ready.reason.as_str()), (status, reason));
            assert!(!ready.message.contains("hunter22") && change.repair.is_none());
            record.session.conditions = change.conditions;
            record.session.node_id = "n".into();
            assert!(super::change(&record, Sight::There(&seen), PAUSE, now()).is_none(), "no news");
        }
        // One that says nothing takes nothing back.
        assert!(change(&record, Sight::There(&seen(Phase::Running)), PAUSE, now()).is_none());
    }

    #[test]
    fn reported_conditions_are_scrubbed() {
        let mut record = record(RUN, Phase::Running);
        record.session.spec.env.push(EnvVar { name: "P".into(), value: "hunter22".into(), secret: true });
        let mut seen = says(ConditionStatus::True, "Healthy", "");
        seen.conditions.as_mut().unwrap().push(Condition {
            kind: "Started".to_owned(),
            status: ConditionStatus::True,
            reason: "hunter22".to_owned(),
            message: "with P=hunter22".to_owned(),
            since: now(),
        });
        let change = change(&record, Sight::There(&seen), PAUSE, now()).unwrap();
        assert!(change.conditions.get("Started").is_some());
        assert!(!format!("{:?}", change.conditions).contains("hunter22"));
    }
}
