//! A controller elsewhere whose process is killed while another one stands by: how long until what is wished of its
//! session happens again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use streamspace_tests::controller::ControllerProcess;
use streamspace_tests::provided;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;

use super::Kind;
use super::load::{Connection, Target};
use crate::report::Report;
use crate::statistics::Samples;

/// How long the API server waits for a process before another one is called.
const LEASE: &str = "3s";
/// From the death of one to a wish that the other fulfilled, in milliseconds.
const AIM: f64 = 5_000.0;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn measure(report: &mut Report, kind: Kind, rounds: u8) -> Result<()> {
    let database = kind.name();
    let plugins = tempfile::tempdir()?;
    let (Some(plugin), Some(database_of_its_own)) =
        (provided("STREAMSPACE_TEST_SIMULATED_PLUGIN"), kind.fresh())
    else {
        return Ok(());
    };
    let (Some(simulated), Some(installation)) = (Simulated::start(), Installation::new()) else {
        return Ok(());
    };
    let installation = installation
        .plugins(plugins.path())
        .config(&format!("[health]\nlease = \"{LEASE}\"\n"))
        .database(database_of_its_own);
    let server = installation.start();
    // Only a token that names the controller lets in another process of it.
    let named = json!({"name": "bench", "controller_type": "simulated", "controller_name": "lab"});
    let token = server.api().post("/api/v1/admin/join-tokens", &named).await.body;
    let token = token["secret"].as_str().context("no join token")?.to_owned();
    let process = || start(&server, &simulated, &plugin, &token);

    let mut observer = Target::of(&server)?.connect().await?;
    let mut active = process()?;
    heard_of(&mut observer, 1).await?;
    let body = json!({"user_id": "bench", "spec": {"base_image": "any"}});
    let made = observer.send(Method::POST, "/api/v1/sessions?wait=30s", Some(&body), 201).await?;
    let made: Value = serde_json::from_slice(&made)?;
    let session = format!("/api/v1/sessions/{}", made["id"].as_str().context("no session")?);

    let mut samples = Samples::default();
    for round in 0..usize::from(rounds) {
        let standby = process()?;
        // Those that died are remembered.
        heard_of(&mut observer, round + 2).await?;
        // SIGKILL.
        drop(std::mem::replace(&mut active, standby));
        let began = Instant::now();
        let wish = json!({"state": if round % 2 == 0 { "hibernated" } else { "running" }});
        observer.send(Method::PATCH, &format!("{session}?wait=60s"), Some(&wish), 200).await?;
        samples.add(began.elapsed());
    }
    report.samples(&format!("{database}: another process of a controller fulfils wishes"), &samples);
    report.figure("  after the death of one, with a lease of 3 s", samples.median(), "ms", Some(AIM));
    // Who is left without a server would complain.
    drop(active);
    server.kill();
    Ok(())
}

fn start(server: &Server, simulated: &Simulated, plugin: &str, token: &str) -> Result<ControllerProcess> {
    let endpoint = format!("api=unix://{}", simulated.socket().display());
    let arguments = ["--plugin", plugin, "--name", "lab", "--listen", "127.0.0.1:0", "--endpoint", &endpoint];
    let url = server.url();
    let variables = [("API_SERVER_URL", url.as_str()), ("STREAMSPACE_JOIN_TOKEN", token)];
    let process = ControllerProcess::start(&arguments, &variables).context("no program to start")?;
    process.says("registered as", 1);
    Ok(process)
}

/// Waits until the controller is well and so many of its processes were heard of.
async fn heard_of(observer: &mut Connection, count: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let all = observer.send(Method::GET, "/api/v1/admin/controllers", None, 200).await?;
        let all: Vec<Value> = serde_json::from_slice(&all)?;
        let found = all.first().context("no controller")?;
        let instances = found["instances"].as_array().map_or(0, Vec::len);
        if found["status"] == "healthy" && instances == count {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "not {count} processes: {found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
