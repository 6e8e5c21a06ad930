//! Builds, runs and tests StreamSpace: `cargo xtask build`, `cargo xtask run`, `cargo xtask test`.
//!
//! Everything that is not plain `cargo` lives here: the WebAssembly target, the plugins, a Docker engine to
//! run sessions on, images that need no registry, and what the end-to-end tests expect around them.

// Before the others: they print with its macros.
#[macro_use]
mod output;

mod bench;
mod cargo;
mod command;
mod crash;
mod debian;
mod desktop;
mod dist;
mod docker_engine;
mod excerpt;
mod http;
mod images;
mod paths;
mod plugins;
mod postgres;
mod python;
mod registry;
mod run;
mod signals;
mod simulated;
mod test;
mod wasm_target;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Build, run and test StreamSpace
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Environment:\n  \
    STREAMSPACE_CACHE             where builds, downloads and data go (default: ~/.cache/streamspace)\n  \
    CARGO_TARGET_DIR              where cargo builds (default: <cache>/target)\n  \
    STREAMSPACE_WASI_SYSROOT_SRC  directory with the sources of the wasm32-wasip2 standard library, for a\n                                \
    machine that reaches neither rustup's servers nor a Debian archive\n  \
    DOCKER_HOST                   unix socket of the Docker engine to use (unix:///…)"
)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the plugins and the server into dist/
    Build(dist::Arguments),
    /// Build everything, make sure of a Docker engine and a sample image, and serve
    Run(run::Arguments),
    /// Print medians and ratios: plugin calls, memory, and what a session costs over the bare engine
    Bench(bench::Arguments),
    /// Kill the server at every named point under load, and judge what became of its sessions
    Crash(crash::Arguments),
    /// Format check, lints, unit tests and end-to-end tests
    Test(test::Arguments),
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            signals::exit_code().unwrap_or(ExitCode::FAILURE)
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    signals::install()?;
    let paths = paths::Paths::find()?;
    match task {
        Task::Build(arguments) => dist::build(&paths, &arguments).map(|()| ExitCode::SUCCESS),
        Task::Run(arguments) => run::run(&paths, &arguments).map(|never| match never {}),
        Task::Bench(arguments) => bench::bench(&paths, &arguments).map(|()| ExitCode::SUCCESS),
        Task::Crash(arguments) => crash::crash(&paths, &arguments).map(|()| ExitCode::SUCCESS),
        Task::Test(arguments) => test::test(&paths, &arguments),
    }
}

/// One line of progress.
fn progress(what: impl std::fmt::Display) {
    println!("==> {what}");
}
