//! What is under way for a session: one row for each, the write-ahead log of every call to a controller.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Epoch, Generation, OperationId, Session, SessionId, Step};

/// Pauses before repairs grow up to so many times the first one.
const LONGEST_PAUSE: u32 = 64;
/// What has to be repaired no sooner than after so many of the longest pauses is repaired for the first time.
const MEMORY: u32 = 3;

/// What is done to a session at its controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// Make the session's objects.
    Create,
    /// Remove them.
    Delete,
    /// Stop the session.
    Hibernate,
    /// Start it again.
    Wake,
    /// Remove what a creation that failed may have left. Nobody wished it, and the session stays, and stays failed.
    CleanUp,
}

impl OperationKind {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Hibernate => "hibernate",
            Self::Wake => "wake",
            Self::CleanUp => "clean_up",
        }
    }

    /// Whether it removes the session's objects. Such an operation never gives up: what was made is not forgotten.
    pub fn is_removal(self) -> bool {
        matches!(self, Self::Delete | Self::CleanUp)
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Create, Self::Delete, Self::Hibernate, Self::Wake, Self::CleanUp]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// The one operation of a session. It stays in the store when it is done, so that epochs never start over.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Whose operation it is.
    pub session_id: SessionId,
    /// Stable over all retries.
    pub id: OperationId,
    /// What is being done.
    pub kind: OperationKind,
    /// The wish it serves.
    pub generation: Generation,
    /// How many steps with a call have been begun, mutations and looks, and not brought to an end: back to zero
    /// once it is known what became of them. Looks back off by it.
    pub attempt: u32,
    /// How many calls failed since the controller last said how the session stands. Progress does not count: a
    /// failure that alternates with it would never be one too many.
    pub failures: u32,
    /// How many of those were the controller's own faults, which are not retried for ever.
    pub internal_failures: u32,
    /// When the next step is due; absent = nothing to do.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When to give up; absent = not begun, or never.
    pub deadline: Option<DateTime<Utc>>,
    /// Fences the work: an outcome counts only under the epoch it was claimed with.
    pub epoch: Epoch,
    /// What the controller wants back with the next step.
    pub handle: Vec<u8>,
    /// The controller took the wish and works on its own: look, do not ask again.
    pub accepted: bool,
    /// The last word of the controller.
    pub message: String,
    /// The last failure since the controller last said how the session stands. Kept apart from `message`, because
    /// it tells more about why time ran out than the progress that followed.
    pub last_error: String,
    /// The session's object has been there as wished. A creation that fails afterwards does not remove it.
    pub established: bool,
    /// How often in a short time the session was not as it had been left.
    pub repairs: u32,
    /// When that was last seen.
    pub repaired_at: Option<DateTime<Utc>>,
    /// When its work last changed. That something is due sooner alone does not count.
    pub updated_at: DateTime<Utc>,
}

impl Operation {
    /// The first operation of a new session, due at once.
    pub fn first(session_id: SessionId, now: DateTime<Utc>) -> Self {
        Self {
            session_id,
            id: OperationId::generate(),
            kind: OperationKind::Create,
            generation: Generation::FIRST,
            attempt: 0,
            failures: 0,
            internal_failures: 0,
            next_attempt_at: Some(now),
            deadline: None,
            epoch: Epoch::NONE,
            handle: Vec::new(),
            accepted: false,
            message: String::new(),
            last_error: String::new(),
            established: false,
            repairs: 0,
            repaired_at: None,
            updated_at: now,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_settled(&self) -> bool {
        self.next_attempt_at.is_none()
    }

    /// Whether a call was begun and nobody knows what became of it: whatever was observed may change yet.
    pub fn is_open(&self) -> bool {
        self.attempt > 0
    }

    /// Whether the next step is to see how far the controller is with what it took.
    pub fn waits_for_a_look(&self) -> bool {
        !self.is_settled() && self.accepted && self.handle.is_empty() && self.failures == 0
    }

    /// Time passed in which nobody could do anything for it: it may take so much longer.
    pub fn excuse(&mut self, idle: chrono::Duration) {
        self.deadline = self.deadline.map(|deadline| deadline.checked_add_signed(idle).unwrap_or(deadline));
    }

    /// Starts over as a new operation of the same kind, due at once.
    pub fn renew(&mut self, now: DateTime<Utc>) {
        *self = Self {
            kind: self.kind,
            generation: self.generation,
            epoch: self.epoch,
            established: self.established,
            repairs: self.repairs,
            repaired_at: self.repaired_at,
            ..Self::first(self.session_id.clone(), now)
        };
    }

    /// The session was not as it had been left: when it may be set right, which is later and later if that happens
    /// again and again. `pause` comes before the second time in a row.
    pub fn count_repair(&mut self, pause: Duration, at: DateTime<Utc>) -> DateTime<Utc> {
        let longest = pause.saturating_mul(LONGEST_PAUSE);
        let memory = delta(longest.saturating_mul(MEMORY));
        let again = self.repaired_at.is_some_and(|last| at - last < memory);
        self.repairs = if again { self.repairs.saturating_add(1) } else { 1 };
        self.repaired_at = Some(at);
        let Some(doublings) = self.repairs.checked_sub(2) else { return at };
        at + delta(pause.saturating_mul(2u32.saturating_pow(doublings.min(31))).min(longest))
    }

    /// Starts to remove what a failed creation may have left.
    pub fn begin_clean_up(&mut self, now: DateTime<Utc>) {
        self.renew(now);
        self.kind = OperationKind::CleanUp;
    }

    /// It is removed. The operation is a creation again, which failed and is over.
    pub fn end_clean_up(&mut self) {
        self.kind = OperationKind::Create;
    }

    /// Nothing is left to do.
    pub fn settle(&mut self) {
        self.next_attempt_at = None;
        self.deadline = None;
        self.attempt = 0;
        self.handle.clear();
    }

    /// Nothing is left to do for the present wish, and nobody had to do anything. `there` says whether the session's
    /// object is there as wished: then it stands as if it had just been made so.
    pub fn rest(&mut self, generation: Generation, there: bool, now: DateTime<Utc>) {
        self.generation = generation;
        self.settle();
        self.updated_at = now;
        if there {
            (self.accepted, self.established) = (true, true);
            if self.kind.is_removal() {
                self.kind = OperationKind::Create;
            }
        }
    }

    /// Makes the row say what is about to be called, before it is called: a new operation where the step is
    /// another one than before, and a deadline where the kind has one. A look belongs to the operation whose end it
    /// waits for.
    pub fn prepare(&mut self, step: &Step, session: &Session, limit: Duration, now: DateTime<Utc>) {
        let kind = match *step {
            Step::Call(kind) => kind,
            Step::Look => self.kind,
            Step::Rest | Step::Place | Step::Forget | Step::GiveUp => return,
        };
        if session.generation != self.generation {
            self.renew(now);
            // Whoever wishes anew wants it tried at once again.
            (self.repairs, self.repaired_at) = (0, None);
            self.generation = session.generation;
        } else if kind != self.kind {
            // Another step on the way to the same end: without a common limit two of them could alternate for ever.
            let Self { deadline, failures, internal_failures, .. } = *self;
            let last_error = std::mem::take(&mut self.last_error);
            self.renew(now);
            *self = Self { deadline, failures, internal_failures, last_error, ..self.clone() };
        }
        self.kind = kind;
        if self.deadline.is_none() && !kind.is_removal() {
            self.deadline =
                chrono::Duration::from_std(limit).ok().and_then(|limit| now.checked_add_signed(limit));
        }
        self.attempt = self.attempt.saturating_add(1);
    }
}

fn delta(pause: Duration) -> chrono::Duration {
    chrono::Duration::from_std(pause).unwrap_or(chrono::Duration::days(1))
}
