//! How many sessions a second get from the request to `Running`, all of it on this machine.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::load::{self, Target};
use super::stage::{Stage, request};
use crate::report::Report;

/// Requests under way at once.
const IN_FLIGHT: usize = 64;
/// Sessions that should get there in a second.
const AIM: f64 = 1500.0;

pub(super) async fn measure(report: &mut Report, database: &str, stage: Stage, count: usize) -> Result<()> {
    let server = stage.start().await;
    let target = Target::of(&server)?;
    let mut observer = target.connect().await?;
    load::post(&target, IN_FLIGHT, IN_FLIGHT, &request()).await?;
    while observer.some_are("Pending").await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    let posted = load::post(&target, count, IN_FLIGHT, &request()).await?;
    while observer.some_are("Pending").await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let a_second = count as f64 / began.elapsed().as_secs_f64();
    ensure!(!observer.some_are("Failed").await?, "some sessions failed");
    report.samples(&format!("{database}: POST /sessions while sessions are made"), &posted);
    report.at_least("  from the request to Running in a second", a_second, "sessions", AIM);
    server.kill();
    Ok(())
}
