//! `cargo xtask bench`: builds as released, provides what the measurements need, and runs them.

use crate::cargo::cargo;
use crate::dist::{self, Profile, knowing};
use crate::images::{self, TEST};
use crate::paths::Paths;
use crate::{command, docker_engine, plugins, progress};
use anyhow::Result;

/// Print medians and ratios: plugin calls, memory, and what a session costs over the bare engine
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

    let docker = docker_engine::ensure(paths, !arguments.no_install);
    let mut measure = std::process::Command::new(paths.target.join("release/streamspace-bench"));
    match &docker {
        Ok(ready) => {
            images::ensure(&ready.engine, &paths.cache, &TEST)?;
            measure.env("STREAMSPACE_TEST_DOCKER", &ready.engine.socket);
            measure.env("STREAMSPACE_TEST_IMAGE", TEST.name);
        }
        Err(error) => eprintln!("warning: measuring without Docker: {error:#}"),
    }
    measure
        .env("STREAMSPACE_TEST_BIN", server)
        .env("STREAMSPACE_TEST_PLUGINS", folder)
        .env("STREAMSPACE_TEST_HOSTILE", hostile)
        .env("STREAMSPACE_TEST_SIMULATED", paths.target.join("release/streamspace-simulated"))
        .env("STREAMSPACE_TEST_SIMULATED_PLUGIN", simulated)
        .args(&arguments.measure);
    progress("measuring");
    let measured = command::run(&mut measure);
    match docker.ok().and_then(|ready| ready.started) {
        Some(started) => measured.and(started.stop()),
        None => measured,
    }
}
