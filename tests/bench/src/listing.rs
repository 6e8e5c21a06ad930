//! Thousands of sessions on the simulated backend: how fast that answers, and what a whole listing takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use streamspace_runtime::{
    Backend, BackendConfig, CallOptions, EndpointConfig, EndpointKind, Runtime, RuntimeConfig,
};
use streamspace_tests::provided;
use streamspace_tests::simulated::Simulated;

use crate::report::Report;
use crate::statistics::Samples;

/// Sessions that are there.
const SESSIONS: usize = 10_000;
/// Requests under way at once while they are made.
const AT_ONCE: usize = 16;
/// Entries of a page, which is also the most that the backend gives.
const PAGE: u32 = 1000;
/// Milliseconds that a whole listing should take.
const AIM: f64 = 2000.0;

/// Boxes made per second, and the listing of all of them through the plugin.
pub async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let Some(plugin) = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN") else { return Ok(()) };
    let Some(simulated) = Simulated::start() else { return Ok(()) };
    let api = format!("unix://{}", simulated.socket().display());
    let endpoint = EndpointConfig::of_kind(EndpointKind::Http, &api).context("no such kind")?;
    let plugin = Runtime::new(RuntimeConfig::default())?.load_file(plugin.as_ref()).await?;
    let config = BackendConfig {
        controller_id: "bench".to_owned(),
        endpoints: [("api".to_owned(), endpoint)].into(),
        ..Default::default()
    };
    let backend = Backend::bind(plugin, config).await?;

    let began = Instant::now();
    let mut lanes = Vec::new();
    for lane in 0..AT_ONCE {
        let simulated = &simulated;
        lanes.push(async move {
            for number in (lane..SESSIONS).step_by(AT_ONCE) {
                let labels = json!({
                    "streamspace.controller": "bench",
                    "streamspace.session_id": format!("{number:05}"),
                    "streamspace.user_id": "bench",
                });
                let new = json!({"name": format!("ss-{number:05}"), "labels": labels, "services": ["web"]});
                let (status, body) = simulated.try_send(Method::POST, "/boxes", Some(&new)).await?;
                ensure!(status == 201, "a box was not made: {status} {body}");
            }
            Ok(())
        });
    }
    futures::future::try_join_all(lanes).await?;
    let a_second = SESSIONS as f64 / began.elapsed().as_secs_f64();
    report.figure("simulated backend: boxes made in a second", a_second, "boxes", None);

    let mut listings = Samples::default();
    for _ in 0..rounds {
        let began = Instant::now();
        let (mut seen, mut cursor) = (0, None);
        loop {
            let page = backend.list(CallOptions::read(Duration::from_secs(60)), cursor, PAGE).await?;
            seen += page.entries.len();
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        listings.add(began.elapsed());
        ensure!(seen == SESSIONS, "{seen} sessions in the listing of {SESSIONS}");
    }
    report.samples("listing of 10,000 sessions, in pages of 1000", &listings);
    report.figure("  median", listings.median(), "ms", Some(AIM));
    Ok(())
}
