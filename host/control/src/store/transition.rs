//! How a session and its operation change, whatever the database: the rules behind the transactions.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{ObservedChange, SessionRecord, StepRecord};
use crate::domain::{
    Condition, ConditionStatus, ControllerId, Epoch, OperationKind, Phase, Step, Wish, WishedState,
    condition_type, decide,
};

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It stays, changed.
    Changed,
    /// It goes.
    Removed,
}

impl SessionRecord {
    /// Whether the present wish was fulfilled or finally failed, and nothing is being done about it.
    pub(crate) fn is_answered(&self) -> bool {
        let Self { session, operation } = self;
        session.observed_generation == Some(session.generation)
            && (operation.is_settled() || session.phase == Phase::Failed)
    }

    /// Takes a wish; false if it is none that was not there already. One that failed may be wished again.
    pub(crate) fn wish(&mut self, state: WishedState, at: DateTime<Utc>) -> bool {
        let Self { session, operation } = self;
        let failed =
            session.phase == Phase::Failed && session.observed_generation == Some(session.generation);
        if session.state == state && !failed {
            return false;
        }
        if session.state == WishedState::Terminated || failed {
            // A new life begins.
            session.started_at = (session.phase == Phase::Running).then_some(at);
        }
        // Whoever wants it to run means to use it.
        session.running_since = (session.phase == Phase::Running).then_some(at);
        if session.conditions.holds(condition_type::POLICY_APPLIED) {
            session.conditions.set(Condition {
                kind: condition_type::POLICY_APPLIED.to_owned(),
                status: ConditionStatus::False,
                reason: "WishedAnew".to_owned(),
                message: String::new(),
                since: at,
            });
        }
        session.wish = Wish::State(state);
        session.state = state;
        session.generation = session.generation.next();
        session.updated_at = at;
        operation.next_attempt_at = Some(at);
        operation.updated_at = at;
        true
    }

    /// Wishes the same again where it was not reached and nothing is being done about it; whether that is so.
    pub(crate) fn wish_again(&mut self, at: DateTime<Utc>) -> bool {
        let Self { session, operation } = self;
        if session.is_deleting() || session.wish.is_fulfilled_by(session.phase) {
            return false;
        }
        session.generation = session.generation.next();
        session.updated_at = at;
        operation.next_attempt_at = Some(at);
        operation.updated_at = at;
        true
    }

    /// Settles it if the wish holds without any step. To be asked only while nobody works on it.
    pub(crate) fn rest_if_fulfilled(&mut self, at: DateTime<Utc>) -> bool {
        let Self { session, operation } = self;
        if decide(session, operation, at) != Step::Rest {
            return false;
        }
        // What never had a controller has nothing at any backend.
        if session.placed.is_none() && session.wish == Wish::State(WishedState::Terminated) {
            session.observe_phase(Phase::Terminated, at);
        }
        session.observed_generation = Some(session.generation);
        session.updated_at = at;
        let there = session.phase != Phase::Terminated && session.wish.is_fulfilled_by(session.phase);
        operation.rest(session.generation, there, at);
        true
    }

    /// It is to be moved to another controller of the same type: it is removed where it is, and then made there.
    pub(crate) fn depart(&mut self, target: ControllerId, at: DateTime<Utc>) {
        let Self { session, operation } = self;
        // Whoever asked for the one controller has asked for the other by now.
        if session.placement.controller_id.is_some() {
            session.placement.controller_id = Some(target.clone());
        }
        let message = format!("it is removed where it is, and then made on {target}");
        session.conditions.set(migrating(ConditionStatus::True, "Removing", message, at));
        session.moving_to = Some(target);
        session.generation = session.generation.next();
        session.updated_at = at;
        operation.next_attempt_at = Some(at);
        operation.updated_at = at;
    }

    /// It is not to be moved any more. What was begun to be removed is made again.
    pub(crate) fn stay(&mut self, why: &str, at: DateTime<Utc>) {
        let Self { session, operation } = self;
        session.moving_to = None;
        session.conditions.set(migrating(ConditionStatus::False, "Cancelled", why.to_owned(), at));
        session.generation = session.generation.next();
        session.updated_at = at;
        operation.next_attempt_at = Some(at);
        operation.updated_at = at;
    }

    /// Nothing is left of it where it was: from here on it is placed where it is moved to, and made there.
    fn arrive(&mut self, at: DateTime<Utc>) {
        let Self { session, operation } = self;
        let Some(target) = session.moving_to.take() else { return };
        let message = format!("moved to {target}");
        let condition = |kind: &str, status, reason: &str, message: &str| Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: at,
        };
        session.conditions.set(condition(
            condition_type::SCHEDULED,
            ConditionStatus::True,
            "Moved",
            &message,
        ));
        session.conditions.set(migrating(ConditionStatus::False, "Moved", message, at));
        let kind = session.placed.take().map(|(_, kind)| kind).unwrap_or_default();
        session.placed = Some((target, kind));
        session.node_id.clear();
        if session.wish == Wish::State(WishedState::Terminated) {
            session.observe_phase(Phase::Terminated, at);
        } else {
            session.observe_phase(Phase::Pending, at);
            let why = "not started yet on its new controller";
            session.conditions.set(condition(condition_type::READY, ConditionStatus::False, "Pending", why));
        }
        operation.renew(at);
        (operation.kind, operation.generation) = (OperationKind::Create, session.generation);
        (operation.established, operation.repairs, operation.repaired_at) = (false, 0, None);
        self.rest_if_fulfilled(at);
    }

    /// Begins the next step, and says which; none if the wish holds without any. `leased_until` is the end of the
    /// claim before this one, if there still is one. To be asked only when it is due and nobody works on it.
    pub(crate) fn claim(
        &mut self,
        leased_until: Option<DateTime<Utc>>,
        limit: Duration,
        at: DateTime<Utc>,
    ) -> Option<Step> {
        if self.rest_if_fulfilled(at) {
            return None;
        }
        let Self { session, operation } = self;
        // It could have been claimed since then, but others were before it, or no server ran: time in which nobody
        // works on it is not time that it takes.
        if let Some(since) = operation.next_attempt_at.max(leased_until) {
            operation.excuse(at - since);
        }
        operation.next_attempt_at = Some(at);
        let step = decide(session, operation, at);
        operation.prepare(&step, session, limit, at);
        operation.epoch = operation.epoch.next();
        operation.updated_at = at;
        Some(step)
    }

    /// Takes over what was observed of it while it was settled.
    pub(crate) fn observe(&mut self, change: ObservedChange, at: DateTime<Utc>) {
        let Self { session, operation } = self;
        session.observe_phase(change.phase, at);
        session.conditions = change.conditions;
        if let Some(node_id) = change.node_id {
            session.node_id = node_id;
        }
        session.updated_at = at;
        if let Some(repair) = change.repair {
            *operation = repair;
            operation.updated_at = at;
        }
    }

    /// Applies the outcome of a step that was claimed under `epoch`.
    pub(crate) fn apply(&mut self, step: StepRecord, epoch: Epoch, at: DateTime<Utc>) -> Applied {
        let same_wish = self.session.generation == step.served;
        if step.gone && same_wish && matches!(self.session.wish, Wish::Gone { .. }) {
            return Applied::Removed;
        }
        let arrives = step.gone && same_wish && self.session.moving_to.is_some();
        let Self { session, operation } = self;
        let before = session.clone();
        if let Some(phase) = step.phase.filter(|_| !arrives) {
            session.observe_phase(phase, at);
        }
        if let Some(node_id) = step.node_id {
            session.node_id = node_id;
        }
        if let Some(reported) = step.reported {
            session.conditions.replace_reported(reported);
        }
        for condition in step.conditions {
            session.conditions.set(condition);
        }
        if step.wish_answered && !arrives {
            session.observed_generation = Some(step.served);
        }
        if *session != before {
            session.updated_at = at;
        }
        *operation = step.operation;
        operation.epoch = epoch;
        operation.updated_at = at;
        if arrives {
            self.arrive(at);
        }
        let Self { operation, .. } = self;
        if !same_wish {
            // The wish changed while the step was under way: what is next is decided at once, and anew.
            operation.next_attempt_at = Some(at);
            self.rest_if_fulfilled(at);
        }
        Applied::Changed
    }
}

fn migrating(status: ConditionStatus, reason: &str, message: String, at: DateTime<Utc>) -> Condition {
    let kind = condition_type::MIGRATING.to_owned();
    Condition { kind, status, reason: reason.to_owned(), message, since: at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Operation, now, test_session};

    #[test]
    fn what_is_there_as_wished_stands_as_if_it_had_been_made_so() {
        // It was terminated, found again, and wished before it was removed.
        let session = test_session(Wish::State(WishedState::Running), true, Phase::Running);
        let mut operation = Operation::first(session.id.clone(), now());
        operation.kind = OperationKind::Delete;
        let mut record = SessionRecord { session, operation };
        record.session.generation = record.session.generation.next();
        assert!(record.rest_if_fulfilled(now()));
        let SessionRecord { session, operation } = &mut record;
        assert_eq!((operation.kind, operation.generation), (OperationKind::Create, session.generation));
        assert!(operation.established && operation.accepted && operation.is_settled());
        session.phase = Phase::Failed;
        assert_eq!(decide(session, operation, now()), Step::Rest, "it is nobody's to remove");
    }
}
