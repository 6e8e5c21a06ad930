//! The server as a process: how fast it is there, and how much it takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use streamspace_tests::provided;
use streamspace_tests::server::Installation;

use crate::report::Report;
use crate::statistics::Samples;

/// How long a server does nothing before its memory is read.
const IDLE: Duration = Duration::from_secs(5);

/// Start to ready, memory at rest, size of the file.
pub async fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let Some(program) = provided("STREAMSPACE_TEST_BIN") else { return Ok(()) };
    let size = std::fs::metadata(&program).with_context(|| program.clone())?.len();
    report.figure("size of the program", size as f64 / 1e6, "MB", None);

    let Some(installation) = Installation::with_docker() else { return Ok(()) };
    let began = Instant::now();
    installation.start().stop().await;
    report.figure(
        "first start and stop (schema, token, compilation)",
        began.elapsed().as_secs_f64() * 1e3,
        "ms",
        None,
    );
    let mut starts = Samples::default();
    for _ in 0..rounds {
        let began = Instant::now();
        let server = installation.start();
        anyhow::ensure!(server.api().get("/readyz").await.status == 200, "the server is not ready");
        starts.add(began.elapsed());
        server.stop().await;
    }
    report.samples("start of `serve` to ready", &starts);

    let server = installation.start();
    tokio::time::sleep(IDLE).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = resident.trim().trim_end_matches(" kB").parse()?;
    report.figure("resident memory at rest", kib / 1024.0, "MiB", Some(60.0));
    server.stop().await;
    Ok(())
}
