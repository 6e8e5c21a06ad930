//! The one decision: what is the next step for a session.

use chrono::{DateTime, Utc};

use super::{Operation, OperationKind, Phase, Session, Wish, WishedState};

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes.
    Rest,
    /// Choose a controller.
    Place,
    /// Make this call.
    Call(OperationKind),
    /// Ask for the status: the controller took the wish and has not said that it is fulfilled.
    Look,
    /// Remove the row without any call: no controller has ever heard of the session.
    Forget,
    /// The time for the operation is up: ask for the status once more, and record that it failed unless it got there.
    GiveUp,
}

/// Decides from the wish, from what was observed and from the operation, and from nothing else.
pub fn decide(session: &Session, operation: &Operation, now: DateTime<Utc>) -> Step {
    use WishedState::{Hibernated, Running, Terminated};

    // An operation for an older wish has nothing to say about this one.
    let current = operation.generation == session.generation;
    // A call whose end nobody has seen may still take effect. Then the phase proves nothing, and what is wished is
    // asked for even where it seems to be there.
    let open = operation.is_open();
    let step = match (session.wish, session.placed.is_some(), session.phase) {
        (Wish::Gone { .. }, false, _) => Step::Forget,
        (Wish::Gone { .. }, true, _) => Step::Call(OperationKind::Delete),

        // Nothing may be left of it where it is, before it is made where it is moved to.
        (Wish::State(_), true, _) if session.moving_to.is_some() => Step::Call(OperationKind::Delete),

        (Wish::State(Terminated), false, _) => Step::Rest,
        (Wish::State(Terminated), true, Phase::Terminated) if !open => Step::Rest,
        (Wish::State(Terminated), true, _) => Step::Call(OperationKind::Delete),

        (Wish::State(_), true, Phase::Failed) if current && operation.kind == OperationKind::CleanUp => {
            Step::Call(OperationKind::CleanUp)
        }
        // It failed for this wish, and not for one before it that is being made up for.
        (Wish::State(_), _, Phase::Failed) if current && !open => Step::Rest,
        (Wish::State(_), false, _) => Step::Place,

        (Wish::State(Running), true, Phase::Running) if !open => Step::Rest,
        (Wish::State(Hibernated), true, Phase::Hibernated) if !open => Step::Rest,
        // What may be about to go has to be made sure of before it is started or stopped.
        (Wish::State(Running), true, Phase::Running) | (Wish::State(Hibernated), true, Phase::Hibernated)
            if operation.kind == OperationKind::Create || operation.kind.is_removal() =>
        {
            Step::Call(OperationKind::Create)
        }
        (Wish::State(Running), true, Phase::Running | Phase::Hibernated) => Step::Call(OperationKind::Wake),
        (Wish::State(Hibernated), true, Phase::Hibernated | Phase::Running) => {
            Step::Call(OperationKind::Hibernate)
        }
        // The controller took the wish and is on the way.
        (Wish::State(_), true, Phase::Pending) if current && open && operation.accepted => {
            Step::Call(operation.kind)
        }
        (Wish::State(_), true, Phase::Pending | Phase::Failed | Phase::Terminated) => {
            Step::Call(OperationKind::Create)
        }
    };

    match step {
        Step::Call(kind) if !kind.is_removal() && current => {
            // Whatever is next on the way: there is one limit for all of it.
            if operation.deadline.is_some_and(|deadline| deadline <= now) {
                Step::GiveUp
            } else if kind == operation.kind && operation.accepted && operation.handle.is_empty() {
                Step::Look
            } else {
                step
            }
        }
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use serde_json::Map;

    use super::super::{
        Conditions, ControllerId, Generation, PlacementRequest, Resources, SessionId, SessionSpec, now,
    };
    use super::*;

    pub(crate) fn session(wish: Wish, placed: bool, phase: Phase) -> Session {
        let state = match wish {
            Wish::State(state) => state,
            Wish::Gone { .. } => WishedState::Running,
        };
        Session {
            id: SessionId::generate(),
            user_id: "u".into(),
            template_id: String::new(),
            wish,
            state,
            phase,
            placed: placed.then(|| (ControllerId::generate(), "docker".into())),
            moving_to: None,
            placement: PlacementRequest::default(),
            node_id: String::new(),
            spec: SessionSpec {
                base_image: "image".into(),
                resources: Resources::default(),
                ports: vec![],
                env: vec![],
                volume_mounts: vec![],
                vnc: None,
                webapp: None,
                persistent_home: false,
                home_size: None,
                idle_timeout: None,
                max_session_duration: None,
                labels: BTreeMap::new(),
            },
            controller_config: Map::new(),
            spec_hash: String::new(),
            conditions: Conditions::default(),
            generation: Generation::FIRST,
            forget_after: None,
            observed_generation: None,
            last_activity: None,
            running_since: None,
            started_at: None,
            created_at: now(),
            updated_at: now(),
        }
    }

    fn step(wish: Wish, placed: bool, phase: Phase) -> Step {
        let session = session(wish, placed, phase);
        decide(&session, &Operation::first(session.id.clone(), now()), now())
    }

    const RUN: Wish = Wish::State(WishedState::Running);
    const HIBERNATE: Wish = Wish::State(WishedState::Hibernated);
    const TERMINATE: Wish = Wish::State(WishedState::Terminated);
    const GONE: Wish = Wish::Gone { purge_home: false };
    const PHASES: [Phase; 5] =
        [Phase::Pending, Phase::Running, Phase::Hibernated, Phase::Failed, Phase::Terminated];

    #[test]
    fn deletion_is_legal_in_every_phase() {
        for phase in PHASES {
            assert_eq!(step(GONE, true, phase), Step::Call(OperationKind::Delete));
            assert_eq!(step(GONE, false, phase), Step::Forget);
        }
    }

    #[test]
    fn running() {
        assert_eq!(step(RUN, false, Phase::Pending), Step::Place);
        assert_eq!(step(RUN, true, Phase::Pending), Step::Call(OperationKind::Create));
        assert_eq!(step(RUN, true, Phase::Running), Step::Rest);
        assert_eq!(step(RUN, true, Phase::Hibernated), Step::Call(OperationKind::Wake));
        assert_eq!(step(RUN, true, Phase::Terminated), Step::Call(OperationKind::Create));
        assert_eq!(step(RUN, true, Phase::Failed), Step::Rest);
    }

    #[test]
    fn hibernated_and_terminated() {
        assert_eq!(step(HIBERNATE, true, Phase::Running), Step::Call(OperationKind::Hibernate));
        assert_eq!(step(HIBERNATE, true, Phase::Hibernated), Step::Rest);
        assert_eq!(step(HIBERNATE, true, Phase::Pending), Step::Call(OperationKind::Create));
        assert_eq!(step(TERMINATE, true, Phase::Running), Step::Call(OperationKind::Delete));
        assert_eq!(step(TERMINATE, true, Phase::Failed), Step::Call(OperationKind::Delete));
        assert_eq!(step(TERMINATE, true, Phase::Terminated), Step::Rest);
        assert_eq!(step(TERMINATE, false, Phase::Pending), Step::Rest);
    }

    #[test]
    fn a_new_wish_revives_what_failed() {
        let mut session = session(RUN, true, Phase::Failed);
        let operation = Operation::first(session.id.clone(), now());
        session.generation = session.generation.next();
        let create = Step::Call(OperationKind::Create);
        assert_eq!(decide(&session, &operation, now()), create);
        // The call was made and came to nothing: that it had failed before is no reason not to try again.
        let mut operation = operation;
        operation.prepare(&create, &session, std::time::Duration::from_secs(600), now());
        assert_eq!(decide(&session, &operation, now()), create);
        operation.settle();
        assert_eq!(decide(&session, &operation, now()), Step::Rest);
    }

    #[test]
    fn the_deadline_ends_a_creation_but_no_deletion() {
        let mut session = session(RUN, true, Phase::Pending);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.deadline = Some(now());
        assert_eq!(decide(&session, &operation, now()), Step::GiveUp);
        session.wish = GONE;
        assert_eq!(decide(&session, &operation, now()), Step::Call(OperationKind::Delete));
    }

    #[test]
    fn only_a_failed_creation_is_cleaned_up() {
        let mut session = session(RUN, true, Phase::Failed);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.kind = OperationKind::Delete;
        assert_eq!(decide(&session, &operation, now()), Step::Rest);
        operation.begin_clean_up(now());
        operation.deadline = Some(now());
        let clean_up = Step::Call(OperationKind::CleanUp);
        assert_eq!(decide(&session, &operation, now()), clean_up, "it never gives up");
        operation.prepare(&clean_up, &session, std::time::Duration::from_secs(600), now());
        assert_eq!(decide(&session, &operation, now()), clean_up);
        session.generation = session.generation.next();
        assert_eq!(decide(&session, &operation, now()), Step::Call(OperationKind::Create));
    }

    #[test]
    fn an_accepted_wish_is_looked_at_and_not_asked_again() {
        let session = session(RUN, true, Phase::Pending);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.accepted = true;
        assert_eq!(decide(&session, &operation, now()), Step::Look);
        operation.handle = b"job 7".to_vec();
        assert_eq!(decide(&session, &operation, now()), Step::Call(OperationKind::Create));
    }

    #[test]
    fn a_call_whose_end_is_not_known_is_made_up_for() {
        use OperationKind::{Create, Delete, Hibernate, Wake};
        for (wish, phase, kind, step) in [
            (RUN, Phase::Running, Hibernate, Step::Call(Wake)),
            (RUN, Phase::Running, Delete, Step::Call(Create)),
            (HIBERNATE, Phase::Hibernated, Wake, Step::Call(Hibernate)),
            (HIBERNATE, Phase::Hibernated, Delete, Step::Call(Create)),
            (TERMINATE, Phase::Terminated, Create, Step::Call(Delete)),
        ] {
            let mut session = session(wish, true, phase);
            let mut operation = Operation::first(session.id.clone(), now());
            (operation.kind, operation.attempt) = (kind, 1);
            session.generation = session.generation.next();
            assert_eq!(decide(&session, &operation, now()), step, "{wish:?} {kind:?}");
            operation.prepare(&step, &session, std::time::Duration::from_secs(600), now());
            assert_eq!(decide(&session, &operation, now()), step, "and again, until there is an answer");
            operation.attempt = 0;
            assert_eq!(decide(&session, &operation, now()), Step::Rest);
        }
    }

    #[test]
    fn a_session_on_its_way_up_is_not_made_again() {
        let session = session(RUN, true, Phase::Pending);
        let mut operation = Operation::first(session.id.clone(), now());
        (operation.kind, operation.attempt, operation.accepted) = (OperationKind::Wake, 1, true);
        assert_eq!(decide(&session, &operation, now()), Step::Look);
        operation.accepted = false;
        assert_eq!(decide(&session, &operation, now()), Step::Call(OperationKind::Create));
    }

    #[test]
    fn a_look_has_a_deadline_and_counts_as_an_attempt() {
        let limit = std::time::Duration::from_secs(600);
        let session = session(RUN, true, Phase::Pending);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.accepted = true;
        let id = operation.id.clone();
        for attempt in 1..=2 {
            let step = decide(&session, &operation, now());
            assert_eq!(step, Step::Look);
            operation.prepare(&step, &session, limit, now());
            assert_eq!((operation.attempt, &operation.id), (attempt, &id));
        }
        let deadline = operation.deadline.unwrap();
        assert_eq!(decide(&session, &operation, deadline), Step::GiveUp);
    }

    #[test]
    fn all_steps_to_one_end_have_one_deadline() {
        let limit = std::time::Duration::from_secs(600);
        let mut session = session(HIBERNATE, true, Phase::Pending);
        let begun = now();
        let mut operation = Operation::first(session.id.clone(), begun);
        operation.prepare(&Step::Call(OperationKind::Create), &session, limit, begun);
        (operation.failures, operation.internal_failures) = (3, 2);
        session.phase = Phase::Running;
        let step = decide(&session, &operation, begun);
        assert_eq!(step, Step::Call(OperationKind::Hibernate));
        let (id, deadline) = (operation.id.clone(), operation.deadline.unwrap());
        operation.prepare(&step, &session, limit, begun + chrono::Duration::minutes(1));
        assert_eq!((operation.kind, operation.attempt), (OperationKind::Hibernate, 1));
        assert_ne!(operation.id, id);
        assert_eq!(
            (operation.deadline, operation.failures, operation.internal_failures),
            (Some(deadline), 3, 2)
        );
        session.phase = Phase::Pending;
        assert_eq!(decide(&session, &operation, deadline), Step::GiveUp, "whatever is next");
        // Another wish has time of its own.
        session.generation = session.generation.next();
        operation.prepare(&Step::Call(OperationKind::Create), &session, limit, deadline);
        assert!(operation.deadline.unwrap() > deadline && operation.failures == 0);
    }

    #[test]
    fn preparing_begins_a_new_operation_only_for_another_step() {
        let limit = std::time::Duration::from_secs(600);
        let mut session = session(RUN, true, Phase::Pending);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.prepare(&Step::Call(OperationKind::Create), &session, limit, now());
        let (first, deadline) = (operation.id.clone(), operation.deadline);
        assert!(deadline.is_some());
        operation.handle = b"h".to_vec();
        operation.prepare(&Step::Call(OperationKind::Create), &session, limit, now());
        assert_eq!((&operation.id, operation.deadline, operation.attempt), (&first, deadline, 2));

        session.wish = GONE;
        session.generation = session.generation.next();
        operation.prepare(&Step::Call(OperationKind::Delete), &session, limit, now());
        assert_ne!(operation.id, first);
        assert_eq!((operation.kind, operation.deadline, operation.attempt), (OperationKind::Delete, None, 1));
        assert!(operation.handle.is_empty());
    }
}
