//! The database, past all servers: time does not pass faster for a test, but what is written down can be made older.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use chrono::{DateTime, Duration, Utc};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

const SET: &str = "UPDATE access_grants SET expires_at = $1 WHERE session_id = $2 AND kind = 'cookie'";
const GET: &str = "SELECT expires_at FROM access_grants WHERE session_id = $1 AND kind = 'cookie'";

/// Where the servers keep what they know.
#[derive(Debug, Clone)]
pub(crate) enum Vault {
    /// In a file.
    File(PathBuf),
    /// At a PostgreSQL server.
    Server(String),
}

impl Vault {
    async fn open_file(file: &PathBuf) -> Result<SqliteConnection> {
        let options = SqliteConnectOptions::new().filename(file);
        Ok(SqliteConnection::connect_with(&options.busy_timeout(std::time::Duration::from_secs(60))).await?)
    }

    /// Has the cookies of a session expire so much later than now.
    pub(crate) async fn let_expire_in(&self, session: &str, left: Duration) -> Result<()> {
        let at = Utc::now() + left;
        let changed = match self {
            Self::File(file) => {
                let mut db = Self::open_file(file).await?;
                let done = sqlx::query(SET).bind(at).bind(session).execute(&mut db).await?;
                db.close().await?;
                done.rows_affected()
            }
            Self::Server(url) => {
                let mut db = PgConnection::connect(url).await?;
                let done = sqlx::query(SET).bind(at).bind(session).execute(&mut db).await?;
                db.close().await?;
                done.rows_affected()
            }
        };
        ensure!(changed > 0, "the cookie of {session} is not there");
        Ok(())
    }

    /// When the cookies of a session expire.
    pub(crate) async fn expire(&self, session: &str) -> Result<Vec<DateTime<Utc>>> {
        let found = match self {
            Self::File(file) => {
                let mut db = Self::open_file(file).await?;
                let found = sqlx::query_scalar(GET).bind(session).fetch_all(&mut db).await?;
                db.close().await?;
                found
            }
            Self::Server(url) => {
                let mut db = PgConnection::connect(url).await?;
                let found = sqlx::query_scalar(GET).bind(session).fetch_all(&mut db).await?;
                db.close().await?;
                found
            }
        };
        Ok(found)
    }
}
