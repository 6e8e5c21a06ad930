//! Where the servers under test keep what they store: in a file, or each in a database of its own on PostgreSQL.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

/// `postgres` = on the server that `STREAMSPACE_TEST_POSTGRES` names; otherwise in files.
const WHERE: &str = "STREAMSPACE_TEST_DATABASE";

/// A database on the server; ends with this value.
pub struct Database {
    server: PgConnectOptions,
    name: String,
    /// How to reach it.
    pub url: String,
}

impl Database {
    /// A fresh one; none = the tests run on files.
    pub fn fresh() -> Option<Self> {
        match std::env::var(WHERE).as_deref() {
            Ok("postgres") => {}
            Ok(other) => panic!("{WHERE}={other}"),
            Err(_) => return None,
        }
        Some(Self::at(std::env::var("STREAMSPACE_TEST_POSTGRES").unwrap()))
    }

    /// A fresh one on the server, if there is one.
    pub fn on_server() -> Option<Self> {
        crate::provided("STREAMSPACE_TEST_POSTGRES").map(Self::at)
    }

    fn at(url: String) -> Self {
        let server = PgConnectOptions::from_str(&url).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let name = format!("ss_test_{}_{:x}", std::process::id(), now.as_nanos());
        execute(server.clone(), format!("CREATE DATABASE {name}"));
        let (place, _) = url.rsplit_once('/').unwrap();
        Self { server, url: format!("{place}/{name}"), name }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        execute(self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// In a thread of its own: a test's runtime may be the only one that there is.
fn execute(server: PgConnectOptions, sql: String) {
    let done = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connection = server.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        })
    });
    if let Err(error) = done.join().unwrap() {
        // Also said while a failing test unwinds.
        eprintln!("the database of a test: {error}");
    }
}
