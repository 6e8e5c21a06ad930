//! What a check is.

use std::fmt;

use futures::future::LocalBoxFuture;
use tonic::Status;

use crate::context::Context;
use crate::fixture::{Ability, FixtureError};

/// What a check cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `supports_hibernation`.
    Hibernation,
    /// `supports_persistent_storage`.
    PersistentStorage,
    /// `supports_metrics`.
    Metrics,
    /// `supports_logs`.
    Logs,
    /// `supports_watch`.
    Watch,
    /// GetSessionAccess, for which there is no flag: anything but UNIMPLEMENTED.
    Access,
    /// ListSessions, for which there is none either.
    Listing,
    /// A fixture that can do this.
    Fixture(Ability),
    /// The controller runs in this process.
    Process,
    /// A recipe for a session that fails.
    FailingRecipe,
    /// A recipe for an image that does not exist.
    MissingImage,
    /// A recipe for an image that can be none.
    MalformedImage,
    /// Sessions that write to their logs.
    TalkingRecipe,
    /// Handles that other versions of the plugin gave.
    RecordedHandles,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hibernation => "hibernation",
            Self::PersistentStorage => "persistent storage",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Watch => "watch",
            Self::Access => "access",
            Self::Listing => "listing",
            Self::Fixture(ability) => return write!(f, "fixture: {ability}"),
            Self::Process => "in-process",
            Self::FailingRecipe => "recipe: a failing session",
            Self::MissingImage => "recipe: a missing image",
            Self::MalformedImage => "recipe: a malformed image",
            Self::TalkingRecipe => "recipe: a session that logs",
            Self::RecordedHandles => "recipe: recorded handles",
        })
    }
}

/// What may run beside a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Other checks: it has sessions of its own.
    Shared,
    /// Nothing: it changes the weather for all.
    Alone,
    /// Nothing, after all others: it judges them too.
    Last,
}

/// Why a check ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The controller does not do what it should.
    Failed(String),
    /// It shows only now that the check has no meaning here.
    NotApplicable(String),
}

impl Stop {
    /// What should be, and what is.
    pub fn expected(what: impl fmt::Display, seen: impl fmt::Display) -> Self {
        Self::Failed(format!("expected {what}; seen: {seen}"))
    }

    /// The same for a call.
    pub fn expected_of<T: fmt::Debug>(what: impl fmt::Display, answer: &Result<T, Status>) -> Self {
        Self::expected(what, show(answer))
    }
}

impl From<FixtureError> for Stop {
    fn from(error: FixtureError) -> Self {
        match error {
            FixtureError::NotOffered(ability) => {
                Self::NotApplicable(format!("the fixture cannot do this: {ability}"))
            }
            FixtureError::Failed(reason) => Self::Failed(format!("the fixture failed: {reason}")),
        }
    }
}

/// An answer in a failure's message.
pub(crate) fn show<T: fmt::Debug>(answer: &Result<T, Status>) -> String {
    let text = match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    };
    match text.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

type Run = fn(Context) -> LocalBoxFuture<'static, Result<(), Stop>>;

/// One thing that every controller has to do right.
#[derive(Clone, Copy)]
pub struct Check {
    /// Stable name: the letter of its group, a number, and words.
    pub id: &'static str,
    /// What is right.
    pub title: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    /// What may run beside it.
    pub isolation: Isolation,
    pub(crate) run: Run,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The checks of a module: `id "title" [needs] isolation = function`.
macro_rules! checks {
    ($($id:literal $title:literal [$($need:expr),*] $isolation:ident = $run:ident;)*) => {
        /// The checks of this group.
        pub(super) const CHECKS: &[$crate::Check] = &[$(
            $crate::Check {
                id: $id,
                title: $title,
                needs: {
                    #[allow(unused_imports)]
                    use $crate::{Ability::*, Need::*};
                    &[$($need),*]
                },
                isolation: $crate::Isolation::$isolation,
                run: |context| Box::pin($run(context)),
            },
        )*];
    };
}
pub(crate) use checks;
