//! The store on SQLite: many readers, one writer, one process.

mod dialect;
#[cfg(test)]
mod fixture;
#[path = "../sql/mod.rs"]
// Compiled against the types of each database: see there.
#[allow(clippy::duplicate_mod)]
mod sql;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteError, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::watch;

use super::{Migrated, Outage, StoreError, migrations};
use sql::writer::Writer;

pub use sql::SqlStore as SqliteStore;

/// How long a statement waits for a lock. Only a foreign program on the same file can hold one for long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers at once; each is a thread.
const READERS: u32 = 4;

impl SqliteStore {
    /// Opens or makes the database, brings its schema up to date, and makes void what an earlier process was
    /// doing. The caller has made sure that no other process uses the database.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = options(path);
        let mut connection = options.connect().await?;
        migrations::migrate_sqlite(&mut connection).await?;
        forget_earlier_process(&mut connection).await?;
        let latest = dialect::latest_event(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.clone().create_if_missing(false).read_only(true))
            .await?;
        let (news, _) = watch::channel(latest);
        let writer = Writer::start(options.create_if_missing(false), connection, news);
        // Nobody writes to it there: see `dialect::renew`.
        let store = Self::new(readers.clone(), writer, readers, None);
        store.make_up().await?;
        Ok(store)
    }
}

/// One process uses the database at a time, so whatever was claimed belongs to one that is no more. It is due since it
/// was claimed: that nobody was there to end it is made up for by the next claim.
async fn forget_earlier_process(db: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE operations SET lease_owner = NULL, lease_expires_at = NULL WHERE lease_owner IS NOT NULL",
    )
    .execute(&mut *db)
    .await?;
    // Nobody has been probed yet by this process; and the counts are made exact while nothing else runs.
    sqlx::query(
        "UPDATE controllers SET status = 'offline', message = 'not probed yet', current_sessions = \
         (SELECT count(*) FROM sessions WHERE sessions.controller_id = controllers.id)",
    )
    .execute(db)
    .await?;
    Ok(())
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL, because "committed" is what the API promises: it survives the loss of power.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// Brings the schema of a database up to date, or makes the database, and does nothing else. The caller has made sure
/// that no other process uses it.
pub(super) async fn migrate(path: &Path) -> Result<Migrated, StoreError> {
    let mut connection = options(path).connect().await?;
    let migrated = migrations::migrate_sqlite(&mut connection).await?;
    connection.close().await?;
    Ok(migrated)
}

/// What an error means, if it is not the fault of a statement.
pub(super) fn outage(error: &(dyn DatabaseError + 'static)) -> Option<Outage> {
    error.try_downcast_ref::<SqliteError>()?;
    let code: i32 = error.code()?.parse().ok()?;
    // The primary code is in the lowest byte.
    match code & 0xff {
        5 | 6 => Some(Outage::Busy),
        8 => Some(Outage::ReadOnly),
        10 | 14 => Some(Outage::Unreachable),
        13 => Some(Outage::Full),
        _ => None,
    }
}
