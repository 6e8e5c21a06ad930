//! A database for one test.

use std::path::PathBuf;

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

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    /// Opens the store, as the only process or after the last one.
    pub(super) async fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.path()).await
    }

    /// Opens the store after a process that claimed under this name: here any process that there was is no more.
    pub(super) async fn open_as(&self, _instance: &str) -> Result<SqliteStore, StoreError> {
        self.open().await
    }
}
