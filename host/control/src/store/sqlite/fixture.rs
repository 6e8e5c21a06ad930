//! A database for one test.

use tempfile::TempDir;

use super::SqliteStore;
use crate::store::StoreError;

pub(super) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    pub(super) async fn fresh() -> Option<Self> {
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    /// Opens the store, as the only process or after the last one.
    pub(super) async fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.folder.path().join("test.db")).await
    }
}
