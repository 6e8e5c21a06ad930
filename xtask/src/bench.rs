//! `cargo xtask bench`: builds as released, provides what the measurements need, and runs them.

use crate::cargo::cargo;
use crate::dist::{self, Profile, knowing};
use crate::docker_engine::{self, Engine};
use crate::images::{self, TEST};
use crate::paths::Paths;
use crate::{command, plugins, postgres, progress, signals};
use anyhow::Result;
use std::process::Command;

/// Print medians and ratios: plugin calls, memory, the control plane, and what a session costs over the bare engine
///
/// Nothing passes or fails. A busy machine gives other figures: the load stands above them.
#[derive(clap::Args)]
pub struct Arguments {
    /// Do not install anything on this system
    #[arg(long)]
    no_install: bool,
    /// Arguments of the program that measures; `-- --help` shows them
    #[arg(last = true, value_name = "ARGUMENTS")]
    measure: Vec<String>,
}

pub fn bench(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let folder = paths.cache.join("plugins");
    let plugins = plugins::build(paths, &folder)?;
    let hostile = paths.testbed().join("plugins/hostile.wasm");
    plugins::build_one(paths, plugins::HOSTILE_PACKAGE, &hostile)?;
    let simulated = paths.testbed().join("plugins/simulated.wasm");
    plugins::build_one(paths, plugins::SIMULATED_PACKAGE, &simulated)?;
    let server = dist::server(paths, &plugins, Profile::Release)?;
    progress("building the measurements (release profile)");
    let mut build = cargo(paths);
    build.args(["build", "--release", "-p", "streamspace-bench", "-p", "streamspace-simulated"]);
    command::run(knowing(&mut build, &plugins))?;

    let mut measure = Command::new(paths.target.join("release/streamspace-bench"));
    measure
        .env("STREAMSPACE_TEST_BIN", server)
        .env("STREAMSPACE_TEST_PLUGINS", folder)
        .env("STREAMSPACE_TEST_HOSTILE", hostile)
        .env("STREAMSPACE_TEST_SIMULATED", paths.target.join("release/streamspace-simulated"))
        .env("STREAMSPACE_TEST_SIMULATED_PLUGIN", simulated)
        .args(&arguments.measure);
    // Ends with this value.
    let postgres = match postgres::start(paths, !arguments.no_install) {
        Ok(postgres) => Some(postgres),
        Err(error) => {
            signals::check()?;
            eprintln!("warning: measuring without PostgreSQL: {error:#}");
            None
        }
    };
    if let Some(postgres) = &postgres {
        measure.env("STREAMSPACE_TEST_POSTGRES", &postgres.url);
    }
    match docker_engine::ensure(paths, !arguments.no_install) {
        Ok(ready) => {
            let measured = with_docker(paths, &ready.engine, &mut measure);
            // Whatever came of it: an engine that was started here does not stay.
            let stopped = ready.stop_if_started();
            measured.and(stopped)
        }
        Err(error) => {
            signals::check()?;
            eprintln!("warning: measuring without Docker: {error:#}");
            progress("measuring");
            command::run(&mut measure)
        }
    }
}

fn with_docker(paths: &Paths, engine: &Engine, measure: &mut Command) -> Result<()> {
    images::ensure(engine, &paths.cache, &TEST)?;
    measure.env("STREAMSPACE_TEST_DOCKER", &engine.socket).env("STREAMSPACE_TEST_IMAGE", TEST.name);
    progress("measuring");
    command::run(measure)
}
