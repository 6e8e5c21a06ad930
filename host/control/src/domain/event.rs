//! Events: what happened to a session or a controller. Pure: what changed is told from the difference.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    Condition, Controller, ControllerId, ControllerStatus, Generation, Operation, Phase, Place, Session,
    Wish, condition_type, shortened,
};

/// A place in the order of all events, which is the order of their commits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventCursor(i64);

impl EventCursor {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// A place that came out of the store.
    pub fn from_db(id: i64) -> Self {
        Self(id.max(0))
    }

    /// The place as databases keep it.
    pub fn to_db(self) -> i64 {
        self.0
    }

    /// Reads what [`EventCursor::to_string`](ToString) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok().map(Self) } else { None }
    }
}

impl std::fmt::Display for EventCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A session was asked for.
    Created,
    /// A controller was chosen.
    Placed,
    /// What was observed is another phase than before.
    PhaseChanged,
    /// A condition came, went, or has another status or reason.
    ConditionChanged,
    /// Something else is wanted than before.
    WishChanged,
    /// A call failed and is made again.
    OperationRetrying,
    /// What was wanted was given up.
    OperationFailed,
    /// Nothing is left of a session.
    Deleted,
    /// A controller is doing better or worse than before.
    ControllerHealthChanged,
    /// An operator changed a controller.
    ControllerChanged,
    /// An operator removed a controller.
    ControllerDeleted,
    /// A controller is called elsewhere than before.
    ControllerMoved,
}

impl EventKind {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "session.created",
            Self::Placed => "session.placed",
            Self::PhaseChanged => "session.phase_changed",
            Self::ConditionChanged => "session.condition_changed",
            Self::WishChanged => "session.wish_changed",
            Self::OperationRetrying => "session.operation_retrying",
            Self::OperationFailed => "session.operation_failed",
            Self::Deleted => "session.deleted",
            Self::ControllerHealthChanged => "controller.health_changed",
            Self::ControllerChanged => "controller.changed",
            Self::ControllerDeleted => "controller.deleted",
            Self::ControllerMoved => "controller.moved",
        }
    }
}

/// Something that happened, not stored yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// What it is.
    pub kind: EventKind,
    /// Why, in one word for programs; may be empty.
    pub reason: String,
    /// Why, in a sentence for people; may be empty.
    pub message: String,
    /// The details, by kind.
    pub data: Value,
}

/// An event as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place.
    pub cursor: EventCursor,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// See [`EventKind::as_str`]. As text, because a later version may have written it.
    pub kind: String,
    /// The session it is about.
    pub session_id: Option<String>,
    /// The owner of that session.
    pub user_id: Option<String>,
    /// The controller it is about, if it is about no session.
    pub controller_id: Option<String>,
    /// The session's generation at the time.
    pub generation: Option<Generation>,
    /// Why, in one word for programs; may be empty.
    pub reason: String,
    /// Why, in a sentence for people; may be empty.
    pub message: String,
    /// The details, by kind.
    pub data: Value,
}

impl Happening {
    fn new(kind: EventKind, reason: &str, message: &str, data: Value) -> Self {
        Self { kind, reason: reason.to_owned(), message: shortened(message), data }
    }

    /// A session was stored for the first time, placed or not.
    pub fn of_creation(session: &Session) -> Vec<Self> {
        let mut blank = session.clone();
        blank.placed = None;
        blank.conditions = super::Conditions::default();
        let state = json!({ "state": session.state.as_str() });
        let mut all = vec![Self::new(EventKind::Created, "", "", state)];
        all.extend(Self::of_change(&blank, session));
        all
    }

    /// Something else is wanted of a session than before.
    pub fn of_wish(session: &Session) -> Self {
        let data = json!({
            "state": session.state.as_str(),
            "deleting": session.is_deleting(),
            "purge_home": session.wish == Wish::Gone { purge_home: true },
        });
        Self::new(EventKind::WishChanged, "", "", data)
    }

    /// A session is not as it was.
    pub fn of_change(before: &Session, after: &Session) -> Vec<Self> {
        let mut all = Vec::new();
        if before.wish != after.wish || before.generation != after.generation {
            all.push(Self::of_wish(after));
        }
        if let Some((id, kind)) = &after.placed
            && before.placed != after.placed
        {
            let data = json!({ "controller_id": id.as_str(), "controller_type": kind });
            all.push(Self::new(EventKind::Placed, "", "", data));
        }
        if before.phase != after.phase {
            let ready = after.conditions.get(condition_type::READY);
            let (reason, message) = ready.map_or(("", ""), |ready| (&ready.reason, &ready.message));
            let data = json!({ "phase": after.phase.as_str(), "previous": before.phase.as_str() });
            all.push(Self::new(EventKind::PhaseChanged, reason, message, data));
        }
        all.extend(conditions(before, after));
        all
    }

    /// An operation failed once more, or for good. Of a row of failures the first is told, and then every one that
    /// doubles their number: a backend that is away for days must not fill the table.
    pub fn of_operation(
        before: &Operation,
        after: &Operation,
        earlier: Phase,
        session: &Session,
    ) -> Option<Self> {
        let gave_up = earlier != Phase::Failed && session.phase == Phase::Failed;
        let failed = after.failures > before.failures && after.failures.is_power_of_two();
        let ready = session.conditions.get(condition_type::READY);
        let (reason, why) = ready.map_or(("", ""), |ready| (&ready.reason, &ready.message));
        let (kind, message) = if gave_up {
            (EventKind::OperationFailed, why)
        } else if failed && !after.is_settled() {
            (EventKind::OperationRetrying, after.last_error.as_str())
        } else {
            return None;
        };
        let data = json!({
            "operation": before.kind.as_str(),
            "attempt": before.attempt,
            "failures": after.failures,
            "next_attempt_at": after.next_attempt_at.filter(|_| !gave_up),
        });
        Some(Self::new(kind, reason, message, data))
    }

    /// A session and its row are gone.
    pub fn of_deletion(session: &Session) -> Self {
        let purge = session.wish == Wish::Gone { purge_home: true };
        Self::new(EventKind::Deleted, "", "", json!({ "purge_home": purge }))
    }

    /// A session's row is gone; what its controller has of it nobody knows.
    pub fn of_forgetting() -> Self {
        let message = "the session was forgotten without the word of its controller";
        Self::new(EventKind::Deleted, "Forgotten", message, json!({ "purge_home": false }))
    }

    /// A controller is doing better or worse.
    pub fn of_health(
        id: &ControllerId,
        before: ControllerStatus,
        after: ControllerStatus,
        message: &str,
    ) -> Option<Self> {
        (before != after).then(|| {
            let data = json!({
                "controller_id": id.as_str(),
                "status": after.as_str(),
                "previous": before.as_str(),
            });
            Self::new(EventKind::ControllerHealthChanged, "", message, data)
        })
    }
}

impl Happening {
    /// An operator changed a controller; nothing if it is as it was.
    pub fn of_controller_change(before: &Controller, after: &Controller) -> Option<Self> {
        let told = |one: &Controller| (one.draining, one.operator_labels.clone());
        (told(before) != told(after)).then(|| {
            let data = json!({
                "controller_id": after.id.as_str(),
                "draining": after.draining,
                "labels": after.operator_labels,
            });
            Self::new(EventKind::ControllerChanged, "", "", data)
        })
    }

    /// An operator removed a controller.
    pub fn of_controller_deletion(id: &ControllerId) -> Self {
        Self::new(EventKind::ControllerDeleted, "", "", json!({ "controller_id": id.as_str() }))
    }

    /// A remote controller is called elsewhere, or for the first time.
    pub fn of_controller_move(id: &ControllerId, place: &Place) -> Self {
        let data = json!({
            "controller_id": id.as_str(),
            "instance": place.instance,
            "endpoint": place.endpoint,
        });
        Self::new(EventKind::ControllerMoved, "", "", data)
    }
}

/// A new message alone is no event: progress would be one every few seconds.
fn conditions(before: &Session, after: &Session) -> Vec<Happening> {
    let told = |condition: &Condition| (condition.status, condition.reason.clone());
    let mut all = Vec::new();
    for condition in after.conditions.as_slice() {
        let known = before.conditions.get(&condition.kind);
        if known.map(told) == Some(told(condition)) {
            continue;
        }
        let data = json!({
            "type": condition.kind,
            "status": condition.status,
            "previous": known.map(|known| known.status),
        });
        let Condition { reason, message, .. } = condition;
        all.push(Happening::new(EventKind::ConditionChanged, reason, message, data));
    }
    for gone in before.conditions.as_slice() {
        if after.conditions.get(&gone.kind).is_none() {
            let data = json!({ "type": gone.kind, "status": null, "previous": gone.status });
            all.push(Happening::new(EventKind::ConditionChanged, "NotReported", "", data));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::{ConditionStatus, WishedState, now, test_session};
    use super::*;

    fn running() -> Session {
        test_session(Wish::State(WishedState::Running), true, Phase::Pending)
    }

    fn kinds(all: &[Happening]) -> Vec<EventKind> {
        all.iter().map(|one| one.kind).collect()
    }

    fn ready(status: ConditionStatus, reason: &str, message: &str) -> Condition {
        let kind = condition_type::READY.to_owned();
        Condition { kind, status, reason: reason.into(), message: message.into(), since: now() }
    }

    #[test]
    fn nothing_changed_is_no_event() {
        let session = running();
        assert_eq!(Happening::of_change(&session, &session), []);
    }

    #[test]
    fn each_change_is_told_once() {
        let before = running();
        let mut after = before.clone();
        after.phase = Phase::Running;
        after.conditions.set(ready(ConditionStatus::True, "Running", ""));
        assert_eq!(
            kinds(&Happening::of_change(&before, &after)),
            [EventKind::PhaseChanged, EventKind::ConditionChanged]
        );
        // Another message is no news; another reason is.
        let mut later = after.clone();
        later.conditions.set(ready(ConditionStatus::True, "Running", "fine"));
        assert_eq!(Happening::of_change(&after, &later), []);
        later.conditions.set(ready(ConditionStatus::True, "Healthy", "fine"));
        assert_eq!(kinds(&Happening::of_change(&after, &later)), [EventKind::ConditionChanged]);
        let withdrawn = Happening::of_change(&later, &before);
        assert!(withdrawn.iter().any(|one| one.reason == "NotReported" && one.data["status"].is_null()));

        let mut wish = before.clone();
        wish.wish = Wish::Gone { purge_home: true };
        wish.generation = wish.generation.next();
        let told = Happening::of_change(&before, &wish);
        assert_eq!(kinds(&told), [EventKind::WishChanged]);
        assert_eq!((&told[0].data["deleting"], &told[0].data["purge_home"]), (&true.into(), &true.into()));
    }

    #[test]
    fn failures_are_told_ever_more_rarely() {
        let mut session = running();
        let mut before = Operation::first(session.id.clone(), now());
        let mut told = Vec::new();
        for failures in 1..=100 {
            let after = Operation { failures, ..before.clone() };
            if Happening::of_operation(&before, &after, Phase::Pending, &session).is_some() {
                told.push(failures);
            }
            before = after;
        }
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64]);
        session.phase = Phase::Failed;
        session.conditions.set(ready(ConditionStatus::False, "Invalid", "no such image"));
        let end = Happening::of_operation(&before, &before, Phase::Pending, &session).unwrap();
        assert_eq!((end.kind, end.message.as_str()), (EventKind::OperationFailed, "no such image"));
    }

    #[test]
    fn cursors_come_back_as_they_went() {
        let cursor = EventCursor::from_db(42);
        assert_eq!(EventCursor::parse(&cursor.to_string()), Some(cursor));
        for bad in ["", "-1", "+1", "x", "99999999999999999999", "1 "] {
            assert_eq!(EventCursor::parse(bad), None, "{bad:?}");
        }
    }
}
