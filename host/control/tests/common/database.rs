//! Where the servers under test keep what they store: in a file, or each in a fresh database of a PostgreSQL server.
//! `cargo xtask test` runs these tests once on each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{LazyLock, Mutex};

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use streamspace_control::DatabaseUrl;

use super::live::PATIENCE;

/// `postgres` = on the server that `STREAMSPACE_TEST_POSTGRES` names; otherwise in files.
const WHERE: &str = "STREAMSPACE_TEST_DATABASE";

/// Databases that this process made, with the data directories that they belong to.
static MADE: LazyLock<Mutex<HashMap<String, PathBuf>>> = LazyLock::new(Mutex::default);

/// The server to make databases on, if they are not to be files.
fn server() -> Option<String> {
    match std::env::var(WHERE).as_deref() {
        Ok("postgres") => Some(std::env::var("STREAMSPACE_TEST_POSTGRES").unwrap()),
        Ok(other) => panic!("{WHERE}={other}"),
        Err(_) => None,
    }
}

/// Whether the tests run on PostgreSQL.
pub fn is_postgres() -> bool {
    server().is_some()
}

fn name(data: &Path) -> String {
    let hash = hex::encode(Sha256::digest(data.as_os_str().as_encoded_bytes()));
    format!("ss_test_{}", &hash[..24])
}

/// The database that belongs to a data directory; none = the one that is in it.
pub fn url(data: &Path) -> Option<DatabaseUrl> {
    let server = server()?;
    let name = name(data);
    let mut made = MADE.lock().unwrap();
    if !made.contains_key(&name) {
        let mut statements = Vec::new();
        // What tests that have ended left.
        made.retain(|name, data| {
            let ended = !data.exists();
            if ended {
                statements.push(format!("DROP DATABASE {name} WITH (FORCE)"));
            }
            !ended
        });
        statements.push(format!("CREATE DATABASE {name}"));
        let options = PgConnectOptions::from_str(&server).unwrap();
        // Not within the test's runtime: it may be the only thread there is.
        std::thread::spawn(|| administrate(options, statements)).join().unwrap();
        made.insert(name.clone(), data.to_owned());
    }
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    Some(url.as_str().parse().unwrap())
}

fn administrate(options: PgConnectOptions, statements: Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    });
}

/// Runs a statement on the database of a server, which may be running.
pub async fn sql(data: &Path, statement: &str) -> u64 {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    match server() {
        Some(server) => {
            let options = PgConnectOptions::from_str(&server).unwrap().database(&name(data));
            let mut connection = options.connect().await.unwrap();
            let done = statement.execute(&mut connection).await.unwrap().rows_affected();
            connection.close().await.unwrap();
            done
        }
        None => {
            let options =
                SqliteConnectOptions::new().filename(data.join("streamspace.db")).busy_timeout(PATIENCE);
            let mut connection = options.connect().await.unwrap();
            let done = statement.execute(&mut connection).await.unwrap().rows_affected();
            connection.close().await.unwrap();
            done
        }
    }
}
