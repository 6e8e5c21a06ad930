//! What can go wrong with the store.

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or did not answer.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
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
