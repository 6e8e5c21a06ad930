//! Databases of earlier versions, dumped while a server was killed in the middle of its work, are taken up with all that
//! is in them. A folder of `upgrade/` is a version of the schema, with a dump of each database and what was in it.
//!
//! They were made with `sqlite3 streamspace.db .dump` and `pg_dump --inserts --no-owner --no-privileges`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::database::{is_postgres, sql};
use common::{Backend, Server, config, register};
use serde_json::{Value, json};
use streamspace_control::{Control, migrate};

/// What no session explains, and an operator said is to be ignored.
const IGNORED: &str = "01900000-0000-7000-8000-000000000001";

/// A database of one version, taken up in a data directory.
struct Dump {
    data: tempfile::TempDir,
    held: Value,
}

impl Dump {
    async fn of(version: &Path) -> Self {
        let kind = if is_postgres() { "postgres" } else { "sqlite" };
        let read = |extension: &str| {
            let file = version.join(kind).with_extension(extension);
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        };
        let data = tempfile::tempdir().unwrap();
        let held: Value = serde_json::from_str(&read("json")).unwrap();
        if is_postgres() {
            // Made for this directory.
            common::database::url(data.path()).unwrap();
        } else {
            std::fs::File::create_new(data.path().join("streamspace.db")).unwrap();
        }
        sql(data.path(), &read("sql")).await;
        std::fs::write(data.path().join("admin.token"), held["token"].as_str().unwrap()).unwrap();
        Self { data, held }
    }

    /// The backend as it was.
    fn backend(&self) -> Backend {
        let backend = Backend::default();
        backend.with(|state| {
            state.controller_type = Some("simulated");
            state.persistent = true;
            state.objects.insert(IGNORED.to_owned(), "Running".to_owned());
            for session in self.sessions() {
                let phase = session["phase"].as_str().unwrap();
                if matches!(phase, "Running" | "Hibernated") {
                    state.objects.insert(id(session).to_owned(), phase.to_owned());
                }
            }
        });
        backend
    }

    fn sessions(&self) -> &[Value] {
        self.held["sessions"].as_array().unwrap()
    }
}

fn id(session: &Value) -> &str {
    session["id"].as_str().unwrap()
}

fn versions() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    let versions: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!versions.is_empty());
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_an_earlier_version_is_taken_up_with_all_that_is_in_it() {
    for version in versions() {
        let dump = Dump::of(&version).await;
        // Twice in a row without harm.
        migrate(&config(dump.data.path())).await.unwrap();
        migrate(&config(dump.data.path())).await.unwrap();
        let backend = dump.backend();
        let server = Server::start_with(config(dump.data.path()), None).await;
        assert_eq!(server.token, dump.held["token"], "the administrator's token is the same");
        attach(server.control(), &dump, &backend).await;

        for session in dump.sessions() {
            // What was under way is finished, and what nobody has used since is hibernated.
            let phase = match session["becomes"].as_str() {
                Some(phase) => phase,
                None => {
                    let now = server.session(id(session)).await;
                    assert_eq!(now["state"], session["state"], "{now}");
                    session["phase"].as_str().unwrap()
                }
            };
            server.phase(id(session), phase).await;
        }
        let waits = server.session(dump.held["waits"].as_str().unwrap()).await;
        assert_eq!(common::condition(&waits, "Scheduled")["reason"], "Unschedulable", "{waits}");
        server.gone(dump.held["deleted"].as_str().unwrap()).await;
        backend.with(|state| assert_eq!(state.made, 1, "only what was under way is made"));

        let first = format!("/api/v1/sessions/{}", id(&dump.sessions()[0]));
        let events = server.get(&format!("{first}/events")).await.json();
        assert!(!events["items"].as_array().unwrap().is_empty(), "{events}");
        assert_eq!(server.session(id(&dump.sessions()[0])).await["user_id"], "alice");
        let quota = server.get("/api/v1/admin/quotas/alice").await.json();
        assert_eq!(quota["limits"]["sessions"], 10, "{quota}");
        let template = server.get("/api/v1/templates/desk").await.json();
        assert_eq!(template["display_name"], "Desk", "{template}");
        let users = server.get("/api/v1/admin/users").await.text;
        assert!(users.contains("otto"), "{users}");
        let drift = dump.held["ignored_drift"].as_str().unwrap();
        let drift = server.get(&format!("/api/v1/admin/drift/{drift}")).await.json();
        assert_eq!(drift["state"], "ignored", "{drift}");
        let audit = server.get("/api/v1/admin/audit?limit=500").await.text;
        assert!(audit.contains("session.create") && audit.contains("alice"), "{audit}");

        // It goes on from there.
        let place = json!({"user_id": "alice", "controller_id": dump.held["controllers"]["first"],
            "spec": {"base_image": "any", "resources": {"memory": "1Gi"}}});
        let made = server.post("/api/v1/sessions?wait=20s", &place).await;
        assert_eq!(made.json()["phase"], "Running", "{}", made.text);
        server.stop().await;
    }
}

/// Both controllers, under the ids that they have had.
async fn attach(control: &Control, dump: &Dump, backend: &Backend) {
    for (name, known) in dump.held["controllers"].as_object().unwrap() {
        let other = Backend::default();
        other.with(|state| state.controller_type = Some("simulated"));
        let id = register(control, name, if name == "first" { backend } else { &other }).await;
        assert_eq!(id.to_string(), known.as_str().unwrap());
    }
}
