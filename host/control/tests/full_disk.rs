//! The API server on a file when the disk is full, and when somebody else holds the file.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::database::is_postgres;
use common::{Answer, Backend, Server, eventually, simple};
use http::StatusCode;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

/// A disk of its own, in memory.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None = this process may not mount.
    fn of_mebibytes(size: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={size}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => {
                println!("skipped: it needs the right to mount");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.path().join("ballast");
        let block = [0u8; 4096];
        let mut file = std::fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        ballast
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open on it keeps only that.
        Command::new("umount").arg("--lazy").arg(self.path()).status().unwrap();
    }
}

fn assert_refused(answer: &Answer, problem: &str) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    assert_eq!(answer.json()["type"], format!("urn:streamspace:problem:{problem}"), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
}

async fn ids(server: &Server) -> Vec<String> {
    let page = server.get("/api/v1/sessions?limit=100").await.json();
    page["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_changes_and_loses_nothing() {
    if is_postgres() {
        return;
    }
    let Some(disk) = Disk::of_mebibytes(16) else { return };
    let backend = Backend::default();
    let server = Server::start(disk.path(), &backend).await;
    let before = server.running().await;

    let ballast = disk.fill();
    let mut made = Vec::new();
    let refused = loop {
        let answer = server.post("/api/v1/sessions", &simple()).await;
        match answer.status {
            StatusCode::CREATED => made.push(answer.id()),
            _ => break answer,
        }
        assert!(made.len() < 2000, "the disk never was full");
    };
    assert_refused(&refused, "database-full");
    assert_eq!(server.session(&before).await["phase"], "Running", "what is stored can be read");
    assert_refused(&server.delete(&format!("/api/v1/sessions/{before}")).await, "database-full");

    std::fs::remove_file(ballast).unwrap();
    eventually("room again", async || {
        let answer = server.post("/api/v1/sessions", &simple()).await;
        let stored = answer.status == StatusCode::CREATED;
        if stored {
            made.push(answer.id());
        }
        stored
    })
    .await;
    for id in &made {
        server.phase(id, "Running").await;
    }
    assert_eq!(server.delete(&format!("/api/v1/sessions/{before}")).await.status, StatusCode::ACCEPTED);
    server.gone(&before).await;
    let known = ids(&server).await;
    assert!(made.iter().all(|id| known.contains(id)));
    backend.with(|state| assert_eq!(state.made as usize, known.len() + 1, "nothing was made twice"));
    assert_eq!(integrity(disk.path()).await, "ok");
    server.stop().await;
}

async fn integrity(data: &Path) -> String {
    let file = data.join("streamspace.db");
    let mut db = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let said: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut db).await.unwrap();
    db.close().await.unwrap();
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_somebody_else_holds_refuses_changes_until_it_is_free() {
    if is_postgres() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Server::start(folder.path(), &backend).await;
    let before = server.running().await;

    let file = folder.path().join("streamspace.db");
    let mut holder = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut holder).await.unwrap();
    assert_refused(&server.post("/api/v1/sessions", &simple()).await, "database-busy");
    assert_eq!(server.session(&before).await["phase"], "Running", "what is stored can be read");
    sqlx::query("ROLLBACK").execute(&mut holder).await.unwrap();

    let id = server.running().await;
    let mut known = ids(&server).await;
    known.sort();
    let mut right = vec![before, id];
    right.sort();
    assert_eq!(known, right, "what was refused is not there");
    server.stop().await;
}
