//! The schemas, embedded. A new file under `migrations/` is added to the list here; a test compares the two. Both
//! databases have the same version when they have the same tables, so a change of one is a change of the other.

use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr as _, SqliteConnection};

use super::StoreError;

type Files = &'static [(i64, &'static str, &'static str)];

const SQLITE: Files = &[
    (1, "start", include_str!("../../../../migrations/sqlite/0001_start.sql")),
    (2, "wishes", include_str!("../../../../migrations/sqlite/0002_wishes.sql")),
    (3, "events", include_str!("../../../../migrations/sqlite/0003_events.sql")),
    (4, "accounts", include_str!("../../../../migrations/sqlite/0004_accounts.sql")),
    (5, "access_grants", include_str!("../../../../migrations/sqlite/0005_access_grants.sql")),
    (6, "clean_up", include_str!("../../../../migrations/sqlite/0006_clean_up.sql")),
    (7, "audit", include_str!("../../../../migrations/sqlite/0007_audit.sql")),
    (8, "policies", include_str!("../../../../migrations/sqlite/0008_policies.sql")),
    (9, "drift", include_str!("../../../../migrations/sqlite/0009_drift.sql")),
    (11, "servers", include_str!("../../../../migrations/sqlite/0011_servers.sql")),
    (12, "lanes", include_str!("../../../../migrations/sqlite/0012_lanes.sql")),
    (13, "registry", include_str!("../../../../migrations/sqlite/0013_registry.sql")),
    (14, "in_between", include_str!("../../../../migrations/sqlite/0014_in_between.sql")),
    (15, "reservations", include_str!("../../../../migrations/sqlite/0015_reservations.sql")),
    (17, "instances", include_str!("../../../../migrations/sqlite/0017_instances.sql")),
    (18, "event_tickets", include_str!("../../../../migrations/sqlite/0018_event_tickets.sql")),
];

const POSTGRES: Files = &[
    (5, "start", include_str!("../../../../migrations/postgres/0005_start.sql")),
    (6, "clean_up", include_str!("../../../../migrations/postgres/0006_clean_up.sql")),
    (7, "audit", include_str!("../../../../migrations/postgres/0007_audit.sql")),
    (8, "policies", include_str!("../../../../migrations/postgres/0008_policies.sql")),
    (9, "drift", include_str!("../../../../migrations/postgres/0009_drift.sql")),
    (11, "servers", include_str!("../../../../migrations/postgres/0011_servers.sql")),
    (12, "lanes", include_str!("../../../../migrations/postgres/0012_lanes.sql")),
    (13, "registry", include_str!("../../../../migrations/postgres/0013_registry.sql")),
    (14, "in_between", include_str!("../../../../migrations/postgres/0014_in_between.sql")),
    (15, "reservations", include_str!("../../../../migrations/postgres/0015_reservations.sql")),
    (17, "instances", include_str!("../../../../migrations/postgres/0017_instances.sql")),
    (18, "event_tickets", include_str!("../../../../migrations/postgres/0018_event_tickets.sql")),
];

/// Held while a database is brought up to date: "streammg" in ASCII.
const MIGRATION_LOCK: i64 = 0x7374_7265_616d_6d67;

/// The versions of a database's schema before and after it was brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// What it was; none = there was no schema of ours.
    pub from: Option<i64>,
    /// What it is.
    pub to: i64,
}

/// Brings a database up to date; one of a later version is left as it is.
pub(super) async fn migrate_sqlite(db: &mut SqliteConnection) -> Result<Migrated, StoreError> {
    let has_history: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')")
            .fetch_one(&mut *db)
            .await?;
    let mut from = None;
    if has_history {
        from = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut *db).await?;
    }
    run(db, SQLITE, from).await
}

/// Brings a database up to date; one of a later version is left as it is. Several processes may do it at once.
pub(super) async fn migrate_postgres(db: &mut PgConnection) -> Result<Migrated, StoreError> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *db).await?;
    if encoding != "UTF8" {
        let message = format!("its encoding is {encoding}, and has to be UTF8");
        return Err(StoreError::Unsuitable(message));
    }
    let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(MIGRATION_LOCK)
        .fetch_one(&mut *db)
        .await?;
    if !free {
        tracing::info!("another process is bringing the database up to date; waiting for it");
        sqlx::query("SELECT pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut *db).await?;
    }
    let migrated = migrate_locked(db).await;
    let released = sqlx::query("SELECT pg_advisory_unlock($1)").bind(MIGRATION_LOCK).execute(db).await;
    let migrated = migrated?;
    released?;
    Ok(migrated)
}

async fn migrate_locked(db: &mut PgConnection) -> Result<Migrated, StoreError> {
    let has_history: bool =
        sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL").fetch_one(&mut *db).await?;
    let mut from = None;
    if has_history {
        from = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut *db).await?;
    }
    run(db, POSTGRES, from).await
}

async fn run<C: Migrate>(db: &mut C, files: Files, from: Option<i64>) -> Result<Migrated, StoreError> {
    let known = files.iter().map(|(version, _, _)| *version).max().unwrap_or(0);
    if let Some(found) = from.filter(|found| *found > known) {
        return Err(StoreError::NewerSchema { found, known });
    }
    if from == Some(known) {
        // Whoever only serves needs no right to change the schema.
        return Ok(Migrated { from, to: known });
    }
    let migrations = files
        .iter()
        .map(|(version, name, sql)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    // There is a lock around this one that also covers the look at the version.
    migrator.set_locking(false);
    migrator.run_direct(None, db, false).await?;
    Ok(Migrated { from, to: known })
}

/// The versions up to that one.
#[cfg(test)]
fn until(files: Files, version: i64) -> Files {
    &files[..files.iter().take_while(|file| file.0 <= version).count()]
}

/// Makes a database as an earlier version did.
#[cfg(test)]
pub(super) async fn migrate_sqlite_until(db: &mut SqliteConnection, version: i64) -> Result<(), StoreError> {
    run(db, until(SQLITE, version), None).await.map(drop)
}

/// Makes a database as an earlier version did.
#[cfg(test)]
pub(super) async fn migrate_postgres_until(db: &mut PgConnection, version: i64) -> Result<(), StoreError> {
    run(db, until(POSTGRES, version), None).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_embedded() {
        for (folder, files) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let folder = format!("{}/../../migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let mut found: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".sql"))
                .collect();
            found.sort();
            let embedded: Vec<String> =
                files.iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
            assert_eq!(found, embedded);
        }
    }

    #[test]
    fn both_databases_have_the_same_version() {
        assert_eq!(SQLITE.last().map(|file| file.0), POSTGRES.last().map(|file| file.0));
    }
}
