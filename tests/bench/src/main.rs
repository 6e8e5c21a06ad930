//! Prints medians and ratios; passes and fails nothing. `cargo xtask bench` provides what it needs.

mod control;
mod drift;
mod listing;
mod overhead;
mod process;
mod report;
mod runtime;
mod statistics;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::report::Report;

/// Measures what stands between a request and the backend
#[derive(Parser)]
struct Arguments {
    /// Pairs of the comparison with the bare engine
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Rounds of the shorter measurements
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    #[command(flatten)]
    sizes: control::Sizes,
    /// Only measurements with this in their name
    filter: Option<String>,
    /// Also write the raw figures there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let mut report = Report::new();
    if wanted("runtime") {
        runtime::measure(&mut report, arguments.rounds).await?;
    }
    if wanted("process") {
        process::measure(&mut report, arguments.rounds).await?;
    }
    if wanted("overhead") {
        overhead::measure(&mut report, arguments.pairs).await?;
    }
    if wanted("drift") {
        drift::measure(&mut report, arguments.rounds).await?;
    }
    if wanted("listing") {
        listing::measure(&mut report, arguments.rounds).await?;
    }
    control::measure(&mut report, arguments.sizes, wanted).await?;
    report.print();
    match arguments.json {
        Some(file) => report.write(&file),
        None => Ok(()),
    }
}
