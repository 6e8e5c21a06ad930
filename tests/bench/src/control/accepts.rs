//! How many sessions a second are stored before they are answered, when the backend takes no part of the machine.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::load::{self, Target};
use super::stage::{Stage, request};
use crate::report::Report;

/// Requests under way at once.
const IN_FLIGHT: usize = 256;
/// Sessions that should be accepted in a second.
const AIM: f64 = 3000.0;

pub(super) async fn measure(report: &mut Report, database: &str, stage: Stage, count: usize) -> Result<()> {
    let server = stage.start().await;
    let target = Target::of(&server)?;
    load::post(&target, IN_FLIGHT, IN_FLIGHT, &request()).await?;
    stage.simulated.rules(json!([{"verb": "box.*", "fault": "hang"}])).await;
    let began = Instant::now();
    let samples = load::post(&target, count, IN_FLIGHT, &request()).await?;
    let a_second = count as f64 / began.elapsed().as_secs_f64();
    report.samples(&format!("{database}: POST /sessions, {IN_FLIGHT} at once"), &samples);
    report.figure("  p99", samples.quantile(0.99), "ms", None);
    report.at_least("  accepted in a second", a_second, "sessions", AIM);
    server.kill();
    Ok(())
}
