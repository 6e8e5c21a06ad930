//! How long a server that was killed in the middle of many operations takes to bring all of them to their end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::load::{self, Target};
use super::stage::{Stage, request};
use crate::report::Report;

pub(super) async fn measure(report: &mut Report, database: &str, stage: Stage, count: usize) -> Result<()> {
    let server = stage.start().await;
    stage.simulated.rules(json!([{"verb": "box.*", "fault": "hang"}])).await;
    load::post(&Target::of(&server)?, count, 64, &request()).await?;
    server.kill();
    stage.simulated.rules(json!([])).await;

    let began = Instant::now();
    let server = stage.installation.start();
    let mut observer = Target::of(&server)?.connect().await?;
    report.figure(
        &format!("{database}: start with {count} operations under way"),
        began.elapsed().as_secs_f64() * 1e3,
        "ms",
        None,
    );
    while observer.some_are("Pending").await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report.figure("  until all of them have ended", began.elapsed().as_secs_f64() * 1e3, "ms", None);
    ensure!(!observer.some_are("Failed").await?, "some sessions failed");
    server.kill();
    Ok(())
}
