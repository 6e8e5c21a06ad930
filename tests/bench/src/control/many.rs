//! What many sessions cost: starting with them, comparing all of them with the backend, and reading pages of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use streamspace_tests::server::Server;

use super::load::{Connection, Target};
use super::stage::Stage;
use super::{Sizes, fill, pages};
use crate::report::Report;
use crate::statistics::Samples;

/// Starts and comparisons.
const ROUNDS: usize = 5;
/// Milliseconds that a start should take.
const START_AIM: f64 = 3000.0;
/// Milliseconds that a comparison should take.
const RESYNC_AIM: f64 = 1500.0;

pub(super) async fn measure(report: &mut Report, database: &str, stage: Stage, sizes: Sizes) -> Result<()> {
    let Sizes { sessions, .. } = sizes;
    fill::fill(&stage, sessions).await?;
    let (mut starts, mut passes, mut peak, mut rest) = (Samples::default(), Samples::default(), 0.0_f64, 0.0);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let server = stage.installation.start();
        let mut observer = Target::of(&server)?.connect().await?;
        observer.send(Method::GET, "/readyz", None, 200).await?;
        starts.add(began.elapsed());
        passes.add(compared(&mut observer).await?);
        peak = peak.max(memory(&server, "VmHWM:")?);
        rest = memory(&server, "VmRSS:")?;
        for phase in ["Pending", "Failed"] {
            ensure!(!observer.some_are(phase).await?, "the backend and the database differ: {phase}");
        }
        // Killed: the next start finds everything as it was left.
        server.kill();
    }
    report.samples(&format!("{database}: start to ready with {sessions} sessions"), &starts);
    report.figure("  median", starts.median(), "ms", Some(START_AIM));
    report.samples(&format!("{database}: {sessions} sessions compared with the backend"), &passes);
    report.figure("  median", passes.median(), "ms", Some(RESYNC_AIM));
    report.figure("  memory at its peak", peak, "MiB", None);
    report.figure("  memory after it", rest, "MiB", None);

    fill::spread(&stage).await?;
    pages::measure(report, database, &stage, sizes.pages).await
}

/// Waits for the first complete comparison, and gives how long it took.
async fn compared(observer: &mut Connection) -> Result<Duration> {
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let text = observer.send(Method::GET, "/metrics", None, 200).await?;
        let text = String::from_utf8_lossy(&text);
        let value = |name: &str| {
            let name = format!("streamspace_observation_duration_seconds_{name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|value| value.parse::<f64>().ok())
        };
        let (count, sum) = (value("count").context("no such metric")?, value("sum").unwrap_or_default());
        if count >= 1.0 {
            return Ok(Duration::from_secs_f64(sum / count));
        }
        ensure!(Instant::now() < patience, "nothing was compared");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A line of the process's status, in MiB.
fn memory(server: &Server, line: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let value = status.lines().find_map(|found| found.strip_prefix(line)).context("no such line")?;
    let kib: f64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
