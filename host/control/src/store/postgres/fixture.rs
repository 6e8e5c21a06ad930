//! A database for one test, on the server that `cargo xtask test` provides.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use uuid::Uuid;

use super::PostgresStore;
use crate::store::StoreError;

const SERVER: &str = "STREAMSPACE_TEST_POSTGRES";

/// Removes its database with itself.
pub(super) struct Fixture {
    server: PgConnectOptions,
    name: String,
}

impl Fixture {
    pub(super) async fn fresh() -> Option<Self> {
        let Ok(url) = std::env::var(SERVER) else {
            println!("skipped: {SERVER} is not set (cargo xtask test sets it where it can)");
            return None;
        };
        let server = PgConnectOptions::from_str(&url).unwrap();
        let name = format!("ss_test_{}", Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE {name}")).await;
        Some(Self { server, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.name)
    }

    /// Opens the store: one more process on this database.
    pub(super) async fn open(&self) -> Result<PostgresStore, StoreError> {
        self.open_as(&Uuid::new_v4().to_string()).await
    }

    /// Opens the store as an instance that there may have been before.
    pub(super) async fn open_as(&self, instance: &str) -> Result<PostgresStore, StoreError> {
        PostgresStore::open(self.options(), Duration::ZERO, instance).await
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Not waited for: the server drops nothing while a connection is being made to it, and one that the test's own
        // runtime began gets no further before this returns.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(execute(&server, format!("DROP DATABASE {name} WITH (FORCE)")));
        });
    }
}

async fn execute(server: &PgConnectOptions, sql: String) {
    let mut db = server.connect().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}
