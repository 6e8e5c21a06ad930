//! The API server on a PostgreSQL server that goes away and comes back.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::own_postgres::{End, OwnPostgres};
use common::{Backend, Server, config, eventually, register, simple};
use http::StatusCode;
use serde_json::Value;
use streamspace_control::{Control, ControlConfig, ControlError};

/// Only keeps a broken test from hanging.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than a request waits for a connection.
const AWAY: Duration = Duration::from_secs(6);

fn on(postgres: &OwnPostgres, data: &std::path::Path, parameters: &str) -> ControlConfig {
    ControlConfig { database: postgres.url(parameters).parse().unwrap(), ..config(data) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_restarted_under_load_loses_nothing() {
    let Some(mut postgres) = OwnPostgres::start(&[]) else { return };
    postgres.run();
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::default();
    let server = Arc::new(Server::start_with(on(&postgres, folder.path(), ""), Some(&backend)).await);

    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (server, over) = (Arc::clone(&server), Arc::clone(&over));
            tokio::spawn(async move {
                let (mut made, mut refused) = (Vec::new(), Vec::new());
                while !over.load(Ordering::Relaxed) {
                    let answer = server.post("/api/v1/sessions", &simple()).await;
                    match answer.status {
                        StatusCode::CREATED => made.push(answer.id()),
                        StatusCode::SERVICE_UNAVAILABLE => {
                            refused.push(answer.json()["type"].as_str().unwrap().to_owned());
                        }
                        other => panic!("{other}: {}", answer.text),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (made, refused)
            })
        })
        .collect();
    let under_load = async || {
        let before = backend.with(|state| state.made);
        eventually("load", async || backend.with(|state| state.made) > before + 15).await;
    };
    under_load().await;
    for how in [End::Fast, End::Crash] {
        postgres.end(how);
        let ready = server.get("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(AWAY).await;
        postgres.run();
        eventually("ready again", async || server.get("/readyz").await.status == StatusCode::OK).await;
        under_load().await;
    }
    over.store(true, Ordering::Relaxed);

    let (mut made, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for client in clients {
        let (ids, kinds) = client.await.unwrap();
        made.extend(ids);
        refused.extend(kinds);
    }
    assert!(refused.contains("urn:streamspace:problem:database-unreachable"), "{refused:?}");
    assert!(refused.iter().all(|kind| kind.starts_with("urn:streamspace:problem:database-")), "{refused:?}");
    let sessions = async || {
        let (mut all, mut cursor) = (Vec::<Value>::new(), String::new());
        loop {
            let page = server.get(&format!("/api/v1/sessions?limit=100{cursor}")).await.json();
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    };
    let runs = |one: &Value| one["phase"] == "Running";
    let end = Instant::now() + PATIENCE;
    while let Some(one) = sessions().await.iter().find(|one| !runs(one)) {
        assert!(Instant::now() < end, "it never ran: {one}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let known: BTreeSet<String> =
        sessions().await.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert!(made.len() > 20 && made.is_subset(&known), "{:?}", made.difference(&known));
    backend.with(|state| {
        assert_eq!(state.objects.keys().cloned().collect::<BTreeSet<_>>(), known);
        assert_eq!(state.made as usize, known.len(), "nothing was made twice");
    });
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_waits_for_its_database() {
    let Some(mut postgres) = OwnPostgres::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let opening = tokio::spawn(Control::open(on(&postgres, folder.path(), "")));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!opening.is_finished());
    postgres.run();
    let control = opening.await.unwrap().unwrap();
    register(&control, "one", &Backend::default()).await;
    control.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_as_private_as_its_url_says() {
    let Some(mut postgres) = OwnPostgres::start(&["ssl = on"]) else { return };
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    postgres.write("server.crt", &made.pem());
    postgres.write("server.key", &key.serialize_pem());
    postgres.write("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust\n");
    postgres.run();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, made.pem()).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&other).unwrap();
    let strange = folder.path().join("strange.pem");
    std::fs::write(&strange, other.pem()).unwrap();

    for (parameters, opens) in [
        ("?sslmode=require".to_owned(), true),
        (format!("?sslmode=verify-full&sslrootcert={}", trusted.display()), true),
        (format!("?sslmode=verify-full&sslrootcert={}", strange.display()), false),
        ("?sslmode=verify-full".to_owned(), false),
        ("?sslmode=disable".to_owned(), false),
    ] {
        let data = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        match Control::open(on(&postgres, data.path(), &parameters)).await {
            Ok(control) => {
                assert!(opens, "{parameters}");
                control.close().await;
            }
            Err(ControlError::Store(error)) => {
                assert!(!opens, "{parameters}: {error}");
                assert!(begun.elapsed() < Duration::from_secs(20), "{parameters}: waiting does not help");
            }
            Err(other) => panic!("{parameters}: {other}"),
        }
    }
}
