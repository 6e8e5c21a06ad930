//! How soon it is noticed, and mended, that somebody removed a session's container.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bollard::query_parameters::RemoveContainerOptions;
use serde_json::json;
use streamspace_tests::docker::Engine;
use streamspace_tests::provided;
use streamspace_tests::server::Installation;

use crate::report::Report;
use crate::statistics::Samples;

/// `docker rm -f` until the session says so, and until it runs again.
pub async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let (Some(installation), Some(image)) = (Installation::with_docker(), provided("STREAMSPACE_TEST_IMAGE"))
    else {
        return Ok(());
    };
    let Some(engine) = Engine::connect().await else { return Ok(()) };
    let (mut noticed, mut mended) = (Samples::default(), Samples::default());
    let server = installation.start();
    let api = server.api();
    let mut controller = String::new();
    // Each with a session of its own: one that is removed again and again is made again ever more slowly.
    for _ in 0..rounds {
        let session =
            api.create_running(&json!({ "user_id": "bench", "spec": { "base_image": image } })).await;
        let id = session["id"].as_str().context("a session without id")?;
        controller = session["controller_id"].as_str().context("a session without controller")?.to_owned();
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        engine.0.remove_container(&format!("ss-{id}"), Some(options)).await?;
        let began = Instant::now();
        let path = format!("/api/v1/sessions/{id}");
        while api.get(&path).await.body["phase"] == "Running" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        noticed.add(began.elapsed());
        api.wait_for_phase(id, "Running").await;
        mended.add(began.elapsed());
        api.delete(&format!("{path}?wait=60s")).await;
    }
    report.samples("container removed by hand: noticed", &noticed);
    report.samples("container removed by hand: running again", &mended);
    server.stop().await;
    engine.clean(&controller).await;
    Ok(())
}
