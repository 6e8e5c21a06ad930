//! POST to Running recorded, against create and start made directly at the engine, with the same body.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, NetworkingConfig};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use serde_json::{Value, json};
use streamspace_tests::api::Api;
use streamspace_tests::docker::Engine;
use streamspace_tests::provided;
use streamspace_tests::server::Installation;

use crate::report::Report;
use crate::statistics::Samples;

/// Pairs whose figures are thrown away.
const WARM_UP: usize = 5;

/// The pairs, interleaved, and then what the host calls of some more sessions took.
pub async fn measure(report: &mut Report, pairs: usize) -> Result<()> {
    let (Some(installation), Some(image)) = (Installation::with_docker(), provided("STREAMSPACE_TEST_IMAGE"))
    else {
        return Ok(());
    };
    let Some(engine) = Engine::connect().await else { return Ok(()) };
    let body = json!({
        "user_id": "bench",
        "spec": { "base_image": image, "persistent_home": true,
                  "ports": [{ "name": "web", "container_port": 3000 }],
                  "resources": { "memory": "256Mi", "cpu": "500m" } },
    });

    let server = installation.start();
    let api = server.api();
    // Makes the network and the home, and shows what the plugin asks the engine for.
    let first = api.create_running(&body).await;
    let name = format!("ss-{}", first["id"].as_str().context("a session without id")?);
    let controller = controller_of(&first)?;
    let direct = create_body(engine.inspect(&name).await)?;
    remove(&api, &first).await?;

    let (mut ours, mut theirs, mut difference) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..(WARM_UP + pairs) {
        // Taking turns in going first.
        let (through_us, at_the_engine) = if round % 2 == 0 {
            let through_us = session(&api, &body).await?;
            (through_us, container(&engine, &direct).await?)
        } else {
            let at_the_engine = container(&engine, &direct).await?;
            (session(&api, &body).await?, at_the_engine)
        };
        if round >= WARM_UP {
            ours.add(through_us);
            theirs.add(at_the_engine);
            difference.add(through_us.saturating_sub(at_the_engine));
        }
    }
    report.samples("POST to Running recorded", &ours);
    report.samples("create + start at the engine, same body", &theirs);
    report.samples("  difference of the pairs", &difference);
    report.figure("  difference of the medians", ours.median() - theirs.median(), "ms", Some(10.0));
    report.figure("  ratio of the medians", ours.median() / theirs.median(), "", None);
    server.stop().await;

    shares(report, installation, &body).await?;
    engine.clean(&controller).await;
    Ok(())
}

/// Where the time goes: every host call of a creation, as the server logs it.
async fn shares(report: &mut Report, installation: Installation, body: &Value) -> Result<()> {
    let installation = installation.environment("STREAMSPACE_LOG", "info,streamspace_runtime=debug");
    let server = installation.start();
    let api = server.api();
    let mut totals = Samples::default();
    for _ in 0..10 {
        totals.add(session(&api, body).await?);
    }
    let mut calls: BTreeMap<String, Samples> = BTreeMap::new();
    for line in server.log().lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let fields = &line["fields"];
        if fields["message"] == "host call"
            && let (Some(operation), Some(us)) = (fields["operation"].as_str(), fields["elapsed_us"].as_u64())
        {
            calls.entry(operation.to_owned()).or_default().add(Duration::from_micros(us));
        }
    }
    report.samples("POST to Running recorded, with every host call logged", &totals);
    for (operation, samples) in &calls {
        report.samples(&format!("  {operation}"), samples);
    }
    server.stop().await;
    Ok(())
}

/// One session, made and removed; how long the making took.
async fn session(api: &Api, body: &Value) -> Result<Duration> {
    let began = Instant::now();
    let session = api.create_running(body).await;
    let took = began.elapsed();
    remove(api, &session).await?;
    Ok(took)
}

async fn remove(api: &Api, session: &Value) -> Result<()> {
    let id = session["id"].as_str().context("a session without id")?;
    let answer = api.delete(&format!("/api/v1/sessions/{id}?wait=60s")).await;
    ensure!(answer.status == 204, "{}", answer.body);
    Ok(())
}

/// One container, made, started and removed; how long the first two took.
async fn container(engine: &Engine, body: &ContainerCreateBody) -> Result<Duration> {
    const NAME: &str = "ss-bench-direct";
    let began = Instant::now();
    let options = CreateContainerOptions { name: Some(NAME.to_owned()), ..Default::default() };
    engine.0.create_container(Some(options), body.clone()).await?;
    engine.0.start_container(NAME, None).await?;
    let took = began.elapsed();
    let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
    engine.0.remove_container(NAME, Some(options)).await?;
    Ok(took)
}

/// What would make the same container again.
fn create_body(made: ContainerInspectResponse) -> Result<ContainerCreateBody> {
    let config = serde_json::to_value(made.config.context("a container without configuration")?)?;
    let mut body: ContainerCreateBody = serde_json::from_value(config)?;
    // Chosen by the engine.
    body.hostname = None;
    let networks = made.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let names = networks.into_keys().map(|name| (name, Default::default())).collect();
    body.networking_config = Some(NetworkingConfig { endpoints_config: Some(names) });
    body.host_config = made.host_config;
    Ok(body)
}

fn controller_of(session: &Value) -> Result<String> {
    session["controller_id"].as_str().map(str::to_owned).context("a session without controller")
}
