//! Kills the server at every named point while many sessions are made, changed and removed, starts it again, and
//! judges: nothing that was acknowledged is lost, nothing happens twice, nothing is left over.
//!
//! The judge is the simulated infrastructure's own log of effects. `cargo xtask crash` provides what it needs.

mod desk;
mod driver;
mod effects;
mod judge;
mod known;
mod operator;
mod points;
mod report;
mod several;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::desk::Manners;
use crate::driver::Driver;
use crate::effects::Ledger;
use crate::points::{Moment, Points};
use crate::report::Report;
use crate::stage::Stage;

/// How long the load runs undisturbed, so that every point it passes is known.
const REHEARSAL: Duration = Duration::from_secs(12);
/// Between two judgements.
const KILLS_A_ROUND: u32 = 25;

/// The one server does not stand still: what it takes it answers in time.
const MANNERS: Manners = Manners { wait: "10s", patience: Duration::from_secs(60) };

/// Kills the server under load and judges what became of its sessions
#[derive(Parser)]
struct Arguments {
    /// Ends after so many kills
    #[arg(long, default_value_t = 3000)]
    kills: u32,
    /// Ends after so many minutes, even if there were fewer kills; after twice as many, if points are missing until then
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Sessions that are being worked on at any time
    #[arg(long, default_value_t = 64)]
    sessions: usize,
    /// Servers over one database; with more than one they are killed, stopped and let go on at any instant
    #[arg(long, default_value_t = 1)]
    servers: usize,
    /// How many seconds it may take until everything is as it is wished, once nobody disturbs it any more; the pause after
    /// failures is up to 30
    #[arg(long, default_value_t = 90)]
    settle: u64,
    /// What is left to chance derives from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only points with this in their name
    #[arg(long)]
    at: Option<String>,
    /// Fail unless every point was killed at so often
    #[arg(long, default_value_t = 0)]
    each: u32,
    /// Write a report there, as Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.servers > 1 {
        return several::run(&arguments).await;
    }
    let settle = Duration::from_secs(arguments.settle);
    let began = Instant::now();
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let mut stage = Stage::new().await.context("what it needs is not provided: use `cargo xtask crash`")?;
    let driver = Driver::start(arguments.sessions, arguments.seed, MANNERS);
    let mut ledger = Ledger::default();

    println!("rehearsal: {} s without a kill", REHEARSAL.as_secs());
    stage.weather(arguments.seed, false).await;
    let server = stage.start()?;
    driver.serve(Some(server.api()));
    operator::employ(&driver, &stage.simulated, &stage.vault(), arguments.seed);
    tokio::time::sleep(REHEARSAL).await;
    judge::whole(&stage, &driver, &mut ledger, settle).await?;
    driver.serve(None);
    let ended = server.stop().await;
    ensure!(ended.success(), "the server did not stop as it was asked to: {ended}");
    let mut points = Points::read(&stage.seen(), arguments.at.as_deref())?;
    ensure!(!points.is_empty(), "no point was passed: is the server built with its failpoints?");
    println!("{} points", points.len());
    let known = known::all()?;
    let due: Vec<_> = known.iter().filter(|name| known::exempted(name).is_none()).collect();
    // Whatever the load did not come to by chance is sought as well.
    due.iter().for_each(|name| points.expect(name));
    let never = |points: &Points| -> Vec<&str> {
        let never = due.iter().filter(|name| arguments.at.is_none() && !points.has(name));
        never.map(|name| name.as_str()).collect()
    };

    let limit = Duration::from_secs(arguments.minutes * 60);
    let mut report = Report::new(arguments.seed, arguments.sessions);
    let time_is_up = |points: &Points| {
        let missing = !points.below(arguments.each).is_empty() || !never(points).is_empty();
        began.elapsed() >= if missing { limit * 2 } else { limit }
    };
    let enough = |points: &Points, kills| kills >= arguments.kills && points.below(arguments.each).is_empty();
    while !enough(&points, report.kills) && !time_is_up(&points) {
        // Every other round the infrastructure misbehaves as well.
        stage.weather(random.random(), report.kills / KILLS_A_ROUND % 2 == 1).await;
        for _ in 0..KILLS_A_ROUND {
            if time_is_up(&points) {
                break;
            }
            let moment = points.next(&mut random, arguments.each);
            let started = Instant::now();
            let hit = stage.kill_at(&driver, &moment).await?;
            report.kills += 1;
            points.note(&moment, hit, started.elapsed());
            points.learn(&stage.seen())?;
        }
        // Now nothing disturbs it, and everything has to become as it is wished.
        stage.weather(random.random(), false).await;
        let server = stage.start()?;
        driver.serve(Some(server.api()));
        let took = judge::whole(&stage, &driver, &mut ledger, settle).await?;
        report.judged(took);
        println!(
            "{:>6.1} min, {:>5} kills, {:>6} verbs acknowledged, whole again in {:.1} s",
            began.elapsed().as_secs_f64() / 60.0,
            report.kills,
            driver.acknowledged(),
            took.as_secs_f64()
        );
        driver.serve(None);
        // Somewhere in the middle of the next verbs.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..20))).await;
        server.kill();
    }

    points.learn(&stage.seen())?;
    report.finish(began.elapsed(), driver.acknowledged(), &ledger, &points);
    println!("{}", report.text());
    if let Some(file) = &arguments.report {
        std::fs::write(file, report.text())
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let mut right = true;
    let missed = points.below(arguments.each);
    if !missed.is_empty() {
        eprintln!("error: killed fewer than {} times at: {}", arguments.each, missed.join(", "));
        right = false;
    }
    let never = never(&points);
    if !never.is_empty() {
        eprintln!("error: never passed: {}", never.join(", "));
        right = false;
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Moment {
    /// How it is named in the server's environment.
    fn wish(&self) -> Option<String> {
        match self {
            Self::At { point, nth } => Some(format!("{point}:{nth}")),
            Self::After(_) => None,
        }
    }
}
