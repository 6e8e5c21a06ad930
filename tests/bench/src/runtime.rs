//! Plugins without a server around them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use streamspace_runtime::contract::types::SessionRef;
use streamspace_runtime::{
    Backend, BackendConfig, CallOptions, EndpointConfig, EndpointKind, Runtime, RuntimeConfig,
};
use streamspace_tests::provided;

use crate::report::Report;
use crate::statistics::Samples;

/// Calls that the first ones need not pay for.
const WARM_UP: usize = 200;
/// Calls in one sample: a single one is too short for the clock.
const BATCH: u32 = 50;

/// A call into a fresh instance, and loading a compiled plugin.
pub async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let Some(hostile) = provided("STREAMSPACE_TEST_HOSTILE") else { return Ok(()) };
    let Some(plugins) = provided("STREAMSPACE_TEST_PLUGINS") else { return Ok(()) };

    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime.load_file(hostile.as_ref()).await?;
    let engine = EndpointConfig::of_kind(EndpointKind::Docker, "unix:///nowhere").context("no such kind")?;
    let config = BackendConfig {
        controller_id: "bench".to_owned(),
        config: serde_json::Value::Null,
        endpoints: [("engine".to_owned(), engine)].into(),
        secrets: Default::default(),
        limits: Default::default(),
        fence: Default::default(),
    };
    let backend = Backend::bind(plugin, config).await?;
    let session = || SessionRef { session_id: "good".to_owned(), node_id: None, external_ref: None };
    let mut calls = Samples::default();
    for round in 0..(WARM_UP + rounds * 10) {
        let began = Instant::now();
        for _ in 0..BATCH {
            backend.get(CallOptions::read(Duration::from_secs(10)), session()).await?;
        }
        if round >= WARM_UP {
            calls.add(began.elapsed() / BATCH);
        }
    }
    report.samples("plugin call into a fresh pooled instance", &calls);
    report.figure("  median", calls.median() * 1e3, "µs", Some(50.0));

    let cache = tempfile::tempdir()?;
    let docker = std::path::Path::new(&plugins).join("docker.wasm");
    let config = || RuntimeConfig { cache_dir: Some(cache.path().to_owned()), ..Default::default() };
    let began = Instant::now();
    Runtime::new(config())?.load_file(&docker).await.context("docker.wasm")?;
    report.figure("loading docker.wasm for the first time", began.elapsed().as_secs_f64() * 1e3, "ms", None);
    let mut loads = Samples::default();
    for _ in 0..rounds {
        // A runtime of its own: nothing is left of the load before but the cache on the disk.
        let runtime = Runtime::new(config())?;
        let began = Instant::now();
        runtime.load_file(&docker).await?;
        loads.add(began.elapsed());
    }
    report.samples("loading docker.wasm from the cache", &loads);
    report.figure("  median", loads.median(), "ms", Some(20.0));
    Ok(())
}
