//! What can go wrong with the store.

use super::Outage;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused what it was asked.
    #[error("database: {0}")]
    Database(#[source] sqlx::Error),
    /// The database cannot do anything at the moment.
    #[error("{}: {message}", outage.explanation())]
    Unavailable {
        /// Why.
        outage: Outage,
        /// What it said.
        message: String,
    },
    /// The schema could not be brought up to date.
    #[error("migration of the database: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A later version of StreamSpace wrote this database.
    #[error(
        "the database has schema version {found}, this StreamSpace knows versions up to {known}: run the version \
         that wrote it, or a later one"
    )]
    NewerSchema {
        /// What the database has.
        found: i64,
        /// What this build knows.
        known: i64,
    },
    /// The database is not one that the store can live in.
    #[error("the database cannot be used: {0}")]
    Unsuitable(String),
    /// The transaction did not commit: nothing of it is stored.
    #[error("the transaction was not stored: {0}")]
    NotCommitted(String),
    /// A row that this program cannot have written.
    #[error("unreadable row in {table}: {message}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A controller is not to be had here.
    #[error("the controller `{0}` runs in a process of its own, which gives signs of life")]
    RunsElsewhere(String),
    /// A text with U+0000 in it, which this database cannot hold.
    #[error("a text with the character U+0000 cannot be stored")]
    NulCharacter,
    /// A value that JSON cannot hold.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The store has been closed.
    #[error("the database is closed")]
    Closed,
}

impl StoreError {
    /// Whether one row is at fault, and not the database.
    pub fn is_unreadable_row(&self) -> bool {
        use sqlx::Error::{ColumnDecode, Decode};
        matches!(self, Self::Corrupt { .. } | Self::Database(ColumnDecode { .. } | Decode(_)))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match (Outage::of(&error), &error) {
            (_, sqlx::Error::PoolClosed) => Self::Closed,
            (_, sqlx::Error::Database(error)) if super::postgres::is_nul(error.as_ref()) => {
                Self::NulCharacter
            }
            (Some(outage), _) => Self::Unavailable { outage, message: error.to_string() },
            (None, _) => Self::Database(error),
        }
    }
}
