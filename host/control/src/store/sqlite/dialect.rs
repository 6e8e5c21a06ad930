//! What only SQLite does its way.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions as _, Sqlite, SqliteConnection, SqlitePool};

use crate::domain::{EventCursor, now};
use crate::store::{Outage, StoreError};

pub(super) type Connection = SqliteConnection;
pub(super) type Database = Sqlite;
pub(super) type Options = SqliteConnectOptions;
pub(super) type Pool = SqlitePool;
pub(super) type Row = SqliteRow;

/// A transaction on this machine's disk ends by itself: nothing is gained by giving up on it.
pub(super) const TRANSACTION_LIMIT: Option<Duration> = None;
/// What a commit that failed because the file could not be used has come to: it was rolled back.
pub(super) const COMMIT_LOST: Outage = Outage::Unreachable;

/// Before a column: no index is chosen for its sake. SQLite knows nothing of how many rows a value has.
pub(super) const NOT_BY_INDEX: &str = "+";

/// Opens the writing connection.
pub(super) async fn connect(options: &Options) -> Result<Connection, sqlx::Error> {
    options.connect().await
}

/// Begins a transaction that nobody else can write beside, and the savepoint of its first job.
pub(super) async fn begin(db: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("BEGIN IMMEDIATE; SAVEPOINT job").execute(db).await?;
    Ok(())
}

/// Rolls back, unless the database has done so already: it does, if the disk is full for example.
pub(super) async fn roll_back(db: &mut Connection) -> Result<(), sqlx::Error> {
    match sqlx::raw_sql("ROLLBACK").execute(db).await {
        Err(sqlx::Error::Database(error)) if error.message().contains("no transaction is active") => Ok(()),
        done => done.map(drop),
    }
}

/// The last thing that is done before a commit: how far the events go with this transaction. One process uses the
/// database, and its writer tells whoever listens.
pub(super) async fn announce(db: &mut Connection, _known: EventCursor) -> Result<EventCursor, sqlx::Error> {
    latest_event(db).await
}

/// The last event that was ever stored.
pub(super) async fn latest_event(db: &mut Connection) -> Result<EventCursor, sqlx::Error> {
    let id: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        .fetch_optional(db)
        .await?;
    Ok(EventCursor::from_db(id.unwrap_or(0)))
}

/// The present, as all who use the database see it: there is one process, and it has a clock.
pub(super) async fn present(_db: &mut Connection) -> Result<DateTime<Utc>, StoreError> {
    Ok(now())
}
