//! Why a database cannot be used at the moment.

/// What keeps the database from doing its work. None of these is a fault of a request: it can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It does not answer, or it cut the connection.
    Unreachable,
    /// Somebody else holds it, or it has too much to do.
    Busy,
    /// It has no room left.
    Full,
    /// It takes no writes.
    ReadOnly,
    /// The connection was lost while a transaction was being committed: it may be stored or not.
    Uncertain,
}

impl Outage {
    /// What it means for whoever asked for something.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Unreachable => "the database does not answer; nothing was changed",
            Self::Busy => "the database is busy; nothing was changed",
            Self::Full => "the database has no room left; nothing was changed",
            Self::ReadOnly => "the database takes no writes; nothing was changed",
            Self::Uncertain => {
                "the database went away while the change was being stored: it may be there or not"
            }
        }
    }

    /// What an error of a database means, if it is not the fault of what was asked of it.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => Some(Self::Unreachable),
            sqlx::Error::Database(error) => {
                super::sqlite::outage(error.as_ref()).or_else(|| super::postgres::outage(error.as_ref()))
            }
            _ => None,
        }
    }
}
