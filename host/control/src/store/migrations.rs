//! The schema, embedded. A new file under `migrations/` is added to the list here; a test compares the two.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr as _, SqliteConnection};

use super::StoreError;

const SQLITE: &[(i64, &str, &str)] = &[
    (1, "start", include_str!("../../../../migrations/sqlite/0001_start.sql")),
    (2, "wishes", include_str!("../../../../migrations/sqlite/0002_wishes.sql")),
    (3, "events", include_str!("../../../../migrations/sqlite/0003_events.sql")),
    (4, "accounts", include_str!("../../../../migrations/sqlite/0004_accounts.sql")),
    (5, "access_grants", include_str!("../../../../migrations/sqlite/0005_access_grants.sql")),
    (6, "clean_up", include_str!("../../../../migrations/sqlite/0006_clean_up.sql")),
];

/// The highest schema version that this build knows.
fn known_version() -> i64 {
    SQLITE.iter().map(|(version, _, _)| *version).max().unwrap_or(0)
}

/// The versions of a database's schema before and after it was brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// What it was; none = there was no schema of ours.
    pub from: Option<i64>,
    /// What it is.
    pub to: i64,
}

/// Brings a database up to date; one of a later version is left as it is.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<Migrated, StoreError> {
    let known = known_version();
    let has_history: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')")
            .fetch_one(&mut *connection)
            .await?;
    let mut from = None;
    if has_history {
        from = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&mut *connection)
            .await?;
        if let Some(found) = from.filter(|found| *found > known) {
            return Err(StoreError::NewerSchema { found, known });
        }
    }
    let migrations = SQLITE
        .iter()
        .map(|(version, name, sql)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations).run_direct(None, connection, false).await?;
    Ok(Migrated { from, to: known })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sql"))
            .collect();
        files.sort();
        let embedded: Vec<String> =
            SQLITE.iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
        assert_eq!(files, embedded);
    }
}
