//! Many sessions at once: at the backend by its own API, in the database behind the server's back.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::stage::{Stage, request};

/// Requests to the backend under way at once.
const AT_ONCE: usize = 32;
/// Sessions of one user.
const OF_A_USER: usize = 100;
/// Rows in one statement.
const CHUNK: usize = 500;

/// Makes sessions that run, all on the one controller, and as they would be left by a server that made them.
pub(super) async fn fill(stage: &Stage, count: usize) -> Result<()> {
    let server = stage.start().await;
    let first = server.api().create_running(&request()).await;
    server.stop().await;
    let id = first["id"].as_str().context("no id")?;
    let controller = first["controller_id"].as_str().context("no controller")?;
    let boxes = boxes(stage, controller, count).await?;
    let mut database = Sql::open(stage).await?;
    database.execute("BEGIN".to_owned()).await?;
    database.count_holds(false).await?;
    let mut number = 0;
    for chunk in boxes.chunks(CHUNK) {
        let rows: Vec<String> = chunk
            .iter()
            .map(|(session, node)| {
                number += 1;
                format!("('{session}', '{node}', 'user-{}', {number})", number / OF_A_USER)
            })
            .collect();
        let rows = rows.join(", ");
        for statement in database.copies(id, &rows) {
            database.execute(statement).await?;
        }
    }
    database.execute(format!("UPDATE controllers SET current_sessions = {count} + 1")).await?;
    database.count_holds(true).await?;
    database.execute("COMMIT".to_owned()).await?;
    database.close().await
}

/// Spreads what was filled in over phases, wishes, templates, controllers and their types. What is rare in one is
/// spread over all the others.
pub(super) async fn spread(stage: &Stage) -> Result<()> {
    let mut database = Sql::open(stage).await?;
    for number in 0..20 {
        let kind = ["docker", "kubernetes", "kvm"][number % 3];
        database
            .execute(format!(
                "INSERT INTO controllers (id, type, name, created_at, updated_at) \
                 SELECT 'ctrl-bench-{number}', '{kind}', 'bench-{number}', created_at, updated_at \
                 FROM controllers WHERE name = 'simulated-local'"
            ))
            .await?;
    }
    database.count_holds(false).await?;
    let number = database.number();
    let type_of = |controller: &str| {
        format!("CASE {controller} % 3 WHEN 0 THEN 'docker' WHEN 1 THEN 'kubernetes' ELSE 'kvm' END")
    };
    database
        .execute(format!(
            "UPDATE sessions SET template_id = 'template-' || ({number} % 50), \
             controller_id = 'ctrl-bench-' || ({number} % 20), controller_type = {}, \
             phase = CASE WHEN {number} % 1000 < 3 THEN 'Failed' WHEN {number} % 1000 < 10 THEN 'Pending' \
                          WHEN {number} % 1000 < 200 THEN 'Hibernated' ELSE 'Running' END, \
             state = CASE WHEN {number} % 1000 < 200 AND {number} % 1000 >= 8 THEN 'hibernated' ELSE 'running' END \
             WHERE user_id LIKE 'user-%'",
            type_of(&format!("({number} % 20)"))
        ))
        .await?;
    database.count_holds(true).await?;
    database.close().await
}

/// Boxes that run, one for each session; the sessions' ids and the names of their nodes.
async fn boxes(stage: &Stage, controller: &str, count: usize) -> Result<Vec<(String, String)>> {
    let lanes = (0..AT_ONCE).map(|lane| async move {
        let mut made = Vec::new();
        for number in (lane..count).step_by(AT_ONCE) {
            // Of version 7, as all ids are.
            let session = format!("01900000-0000-7000-8000-{number:012x}");
            let labels = json!({
                "streamspace.controller": controller,
                "streamspace.session_id": session,
                "streamspace.user_id": format!("user-{}", number / OF_A_USER),
                "streamspace.spec_hash": "h",
            });
            let name = format!("ss-{session}");
            let new = json!({"name": name, "labels": labels, "services": ["web"]});
            let made_box = send(stage, "/boxes", Some(&new)).await?;
            send(stage, &format!("/boxes/{name}/start"), None).await?;
            made.push((session, format!("{name}/{}", made_box["uid"])));
        }
        Ok::<_, anyhow::Error>(made)
    });
    let mut all: Vec<_> = futures::future::try_join_all(lanes).await?.into_iter().flatten().collect();
    all.sort();
    Ok(all)
}

async fn send(stage: &Stage, path: &str, body: Option<&Value>) -> Result<Value> {
    let (status, answer) = stage.simulated.try_send(Method::POST, path, body).await?;
    ensure!(status == 200 || status == 201, "{path}: {status} {answer}");
    Ok(answer)
}

/// Columns of a session that its copies share.
const SESSION: &str = "template_id, controller_id, controller_type, state, deleting, purge_home, generation, phase, \
                       observed_generation, conditions, spec, spec_hash, controller_config, placement, updated_at";
/// The same of an operation.
const OPERATION: &str = "queue, id, kind, generation, attempt, failures, internal_failures, next_attempt_at, deadline, \
                         lease_owner, lease_expires_at, epoch, handle, accepted, message, last_error, updated_at, \
                         established, repairs, repaired_at, lane";

/// The server's database, behind its back.
enum Sql {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

impl Sql {
    async fn open(stage: &Stage) -> Result<Self> {
        let database = stage.installation.database_url().map(str::to_owned);
        Ok(match database {
            Some(url) => Self::Postgres(url.parse::<PgConnectOptions>()?.connect().await?),
            None => {
                let file = stage.installation.data().join("streamspace.db");
                Self::Sqlite(SqliteConnectOptions::new().filename(file).connect().await?)
            }
        })
    }

    async fn execute(&mut self, sql: String) -> Result<()> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(db) => sqlx::raw_sql(sql).execute(db).await.map(|_| ())?,
            Self::Postgres(db) => sqlx::raw_sql(sql).execute(db).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Whether what sessions hold is added up with each that changes: on PostgreSQL every sum of a statement leaves a row
    /// behind, and the next one has to pass them all.
    async fn count_holds(&mut self, wanted: bool) -> Result<()> {
        if matches!(self, Self::Sqlite(_)) {
            return Ok(());
        }
        if !wanted {
            return self.execute("ALTER TABLE sessions DISABLE TRIGGER USER".to_owned()).await;
        }
        let count = "UPDATE controllers c SET reserved_sessions = \
             (SELECT count(*) FROM sessions s WHERE s.controller_id = c.id)";
        self.execute(format!("{count}; ALTER TABLE sessions ENABLE TRIGGER USER")).await
    }

    /// Copies of a session and its operation, for rows of id, node, user and number.
    fn copies(&self, of: &str, rows: &str) -> [String; 2] {
        let created = match self {
            // The texts that times are kept as.
            Self::Sqlite(_) => {
                "strftime('%Y-%m-%dT%H:%M:%f', s.created_at, '-' || (n.number / 100.0) || ' seconds') || '000+00:00'"
            }
            Self::Postgres(_) => "s.created_at - n.number * interval '10 milliseconds'",
        };
        let columns = |table: &str, columns: &str| {
            columns
                .split(", ")
                .map(|column| format!("{table}.{}", column.trim()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        [
            format!(
                "WITH n(id, node, user_id, number) AS (VALUES {rows}) \
                 INSERT INTO sessions (id, user_id, node_id, url, created_at, {SESSION}) \
                 SELECT n.id, n.user_id, n.node, '/s/' || n.id || '/', {created}, {} \
                 FROM n CROSS JOIN sessions s WHERE s.id = '{of}'",
                columns("s", SESSION)
            ),
            format!(
                "WITH n(id, node, user_id, number) AS (VALUES {rows}) \
                 INSERT INTO operations (session_id, {OPERATION}) SELECT n.id, {} \
                 FROM n CROSS JOIN operations o WHERE o.session_id = '{of}'",
                columns("o", OPERATION)
            ),
        ]
    }

    /// A number that is another one for each session.
    fn number(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "(rowid * 7919)",
            Self::Postgres(_) => "(('x' || right(id, 7))::bit(28)::int::bigint * 7919)",
        }
    }

    async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(db) => Ok(db.close().await?),
            Self::Postgres(mut db) => {
                sqlx::raw_sql("ANALYZE").execute(&mut db).await?;
                Ok(db.close().await?)
            }
        }
    }
}
