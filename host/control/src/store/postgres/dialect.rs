//! What only PostgreSQL does its way.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions as _, PgConnection, PgPool, Postgres};

use crate::domain::EventCursor;
use crate::store::{Outage, StoreError};

pub(super) type Connection = PgConnection;
pub(super) type Database = Postgres;
pub(super) type Options = PgConnectOptions;
pub(super) type Pool = PgPool;
pub(super) type Row = PgRow;

/// A server that does not end a transaction within this is gone, with or without a word: it ends statements sooner
/// by itself.
pub(super) const TRANSACTION_LIMIT: Option<Duration> = Some(Duration::from_secs(40));
/// What a commit has come to during which the connection was lost: nobody on this side can tell.
pub(super) const COMMIT_LOST: Outage = Outage::Uncertain;

/// Where the last event's id is said after each commit that brought events.
pub(super) const CHANNEL: &str = "streamspace_events";

/// One statement, so that the answer belongs to one moment. What was removed counts too: a place is never given
/// twice. The sequence itself would tell of what is not committed.
macro_rules! latest_event {
    () => {
        "SELECT greatest((SELECT max(id) FROM events), (SELECT max(last_id) FROM swept_events), 0) AS latest"
    };
}

/// Before a column for whose sake no index should be chosen: the planner knows better, from its statistics.
pub(super) const NOT_BY_INDEX: &str = "";

/// Opens the writing connection.
pub(super) async fn connect(options: &Options) -> Result<Connection, sqlx::Error> {
    let mut db = options.connect().await?;
    // What is answered as stored is on the disk, whatever the server does for others.
    sqlx::query(
        "SELECT set_config('synchronous_commit', 'on', FALSE) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local')",
    )
    .execute(&mut db)
    .await?;
    Ok(db)
}

/// Begins a transaction, and the savepoint of its first job, once no other server writes.
///
/// All writing transactions of all servers stand in one line, as they do on SQLite. So what a job reads stays true
/// until its commit without any further lock, nothing can deadlock, and the ids of events come in the order of
/// commits, without which a reader that goes on from an id would miss some. It costs that only one server commits at
/// a time; since each commits for all its callers at once, that is a matter of latency more than of throughput.
///
/// The lock belongs to the transaction: it ends with it, and with the connection. Whoever holds it and is not heard of
/// is cut off by the server (`idle_in_transaction_session_timeout`); who waits too long is told (`lock_timeout`).
pub(super) async fn begin(db: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        // The key is "streamsp" in ASCII: advisory locks are known by a number that all users of a database share.
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock(8319400191411975024); \
         SAVEPOINT job",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Rolls back. Without a transaction that is only warned of.
pub(super) async fn roll_back(db: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("ROLLBACK").execute(db).await?;
    Ok(())
}

/// The last thing that is done before a commit: how far the events go with this transaction, and the word to all
/// servers if that is further than was known. It goes out with the commit.
pub(super) async fn announce(db: &mut Connection, known: EventCursor) -> Result<EventCursor, sqlx::Error> {
    let sql = concat!(
        "SELECT latest, CASE WHEN latest > $1 THEN pg_notify($2, latest::text) END::text FROM (",
        latest_event!(),
        ") AS events"
    );
    let (latest, _): (i64, Option<String>) =
        sqlx::query_as(sql).bind(known.to_db()).bind(CHANNEL).fetch_one(db).await?;
    Ok(EventCursor::from_db(latest))
}

/// The last event that was ever stored.
pub(super) async fn latest_event(db: &mut Connection) -> Result<EventCursor, sqlx::Error> {
    Ok(EventCursor::from_db(sqlx::query_scalar(latest_event!()).fetch_one(db).await?))
}

/// The present, as all who use the database see it: the servers' own clocks may differ.
pub(super) async fn present(db: &mut Connection) -> Result<DateTime<Utc>, StoreError> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(db).await?)
}
