//! The store on PostgreSQL: many readers and one writer in each process, and any number of processes.

mod dialect;
#[cfg(test)]
mod fixture;
mod listener;
#[path = "../sql/mod.rs"]
// Compiled against the types of each database: see there.
#[allow(clippy::duplicate_mod)]
mod sql;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{Migrated, Outage, StoreError, migrations};
use sql::writer::Writer;

pub use sql::SqlStore as PostgresStore;

/// Readers at once. Each server takes four connections more: one that writes, one that listens, and those for places.
const READERS: u32 = 8;
/// Connections for the leases of places: one to hold on to the own, one to look at the others.
const PLACES: u32 = 2;
/// What takes longer there is of no use: the lease is over by then.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// How long a reader waits for a connection: with a server that is away, this is how long a request waits for its 503.
const READER_WAIT: Duration = Duration::from_secs(3);
/// Between two attempts to reach the server at the start, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

impl PostgresStore {
    /// Brings the schema of the database up to date and opens it. A server that does not answer yet is waited for, up
    /// to `patience`; one that refuses is not. What earlier processes of this instance have claimed is void.
    pub async fn open(
        options: PgConnectOptions,
        patience: Duration,
        instance: &str,
    ) -> Result<Self, StoreError> {
        let mut first = reach(&options, patience).await?;
        migrations::migrate_postgres(&mut first).await?;
        first.close().await?;

        let writing = writing(options.clone());
        let mut connection = dialect::connect(&writing).await?;
        forget_earlier_process(&mut connection, instance).await?;
        let latest = dialect::latest_event(&mut connection).await?;
        let readers = PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(READER_WAIT)
            .connect_with(reading(options.clone()))
            .await?;
        let places = PgPoolOptions::new()
            .max_connections(PLACES)
            .acquire_timeout(PLACE_WAIT)
            .connect_lazy_with(of_places(options.clone()));
        let (news, _) = watch::channel(latest);
        let listening = tokio::spawn(listener::listen(reading(options), readers.clone(), news.clone()));
        let writer = Writer::start(writing, connection, news);
        let store = Self::new(readers, writer, places, Some(AbortOnDropHandle::new(listening)));
        store.make_up().await?;
        Ok(store)
    }
}

/// Whatever this instance has claimed belongs to a process that is no more; the claims of others hold until they run
/// out. It is due since it was claimed: that nobody was there to end it is made up for by the next claim.
async fn forget_earlier_process(db: &mut PgConnection, instance: &str) -> Result<(), StoreError> {
    dialect::begin(db).await?;
    sqlx::query(
        "UPDATE operations SET lease_owner = NULL, lease_expires_at = NULL \
         WHERE lease_owner IS NOT NULL AND split_part(lease_owner, '/', 1) = $1",
    )
    .bind(instance)
    .execute(&mut *db)
    .await?;
    sqlx::raw_sql("COMMIT").execute(db).await?;
    Ok(())
}

/// Brings the schema of a database up to date and does nothing else.
pub(super) async fn migrate(options: PgConnectOptions, patience: Duration) -> Result<Migrated, StoreError> {
    let mut connection = reach(&options, patience).await?;
    let migrated = migrations::migrate_postgres(&mut connection).await?;
    connection.close().await?;
    Ok(migrated)
}

/// A server that is not heard of any more is given up after about half a minute.
fn patient(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "25000"),
    ])
}

fn writing(options: PgConnectOptions) -> PgConnectOptions {
    patient(options).options([
        // A process that was stopped in the middle of a transaction must not stop the others: see `dialect::begin`.
        ("idle_in_transaction_session_timeout", "2000"),
        ("lock_timeout", "10000"),
        ("statement_timeout", "20000"),
    ])
}

fn reading(options: PgConnectOptions) -> PgConnectOptions {
    patient(options).options([("default_transaction_read_only", "on"), ("statement_timeout", "20000")])
}

/// A renewal that was answered has to outlive the database server's crash, like anything else that is answered.
fn of_places(options: PgConnectOptions) -> PgConnectOptions {
    patient(options).options([
        ("synchronous_commit", "on"),
        ("lock_timeout", "1000"),
        ("statement_timeout", "1000"),
    ])
}

/// Connects, and waits for a server that does not answer yet.
async fn reach(options: &PgConnectOptions, patience: Duration) -> Result<PgConnection, StoreError> {
    let end = Instant::now() + patience;
    let (mut pause, longest) = PAUSES;
    loop {
        let error = match options.connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_temporary(&error) && Instant::now() + pause < end => error,
            Err(error) => return Err(error.into()),
        };
        let server = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        tracing::warn!(%error, server, "the database does not answer yet; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Whether a server may be reached later that cannot be reached now. A wrong password, say, does not get right.
fn is_temporary(error: &sqlx::Error) -> bool {
    match error {
        // The other kinds are a broken file or a broken protocol, such as a certificate that is not trusted.
        sqlx::Error::Io(error) => {
            !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied)
        }
        sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("53"))
        }
        _ => false,
    }
}

/// Whether a text had the one character that PostgreSQL has no room for.
pub(super) fn is_nul(error: &(dyn DatabaseError + 'static)) -> bool {
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| matches!(error.code(), "22021" | "22P05"))
}

/// What an error means, if it is not the fault of a statement.
pub(super) fn outage(error: &(dyn DatabaseError + 'static)) -> Option<Outage> {
    let code = error.try_downcast_ref::<PgDatabaseError>()?.code();
    match code {
        "53100" => Some(Outage::Full),
        "25006" => Some(Outage::ReadOnly),
        // Waited too long for a lock, took too long, or was in somebody's way.
        "55P03" | "57014" | "40001" | "40P01" => Some(Outage::Busy),
        // Ended by the server because the transaction did nothing for too long.
        "25P03" | "25P04" => Some(Outage::Unreachable),
        _ => match code.get(..2) {
            Some("53") => Some(Outage::Busy),
            // The connection failed, nobody may connect as things stand, or the server goes down or comes up.
            Some("08" | "28" | "57") => Some(Outage::Unreachable),
            _ => None,
        },
    }
}
