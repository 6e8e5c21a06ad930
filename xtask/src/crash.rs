//! `cargo xtask crash`: kills the server at every named point under load, and judges what became of its sessions.

use crate::cargo::cargo;
use crate::dist::{Profile, knowing};
use crate::paths::Paths;
use crate::plugins::{self, SIMULATED_PACKAGE};
use crate::postgres::{self, Postgres};
use crate::test::FEATURES;
use crate::{command, progress};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Kill the server at every named point under load, and judge what became of its sessions
///
/// The server runs over the simulated backend, whose own log of effects is the judge. Ends with an error as soon as
/// something that was acknowledged is lost, something happened twice, or something is left over.
#[derive(clap::Args)]
pub struct Arguments {
    /// What the server keeps its sessions in; a PostgreSQL is provided as for the tests
    #[arg(long, value_enum, default_value_t = Database::Sqlite)]
    database: Database,
    /// Servers over one database, all under load, of which one is killed or stopped every few seconds; needs PostgreSQL
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    servers: u8,
    /// Build as released: more kills a minute, but it takes a while the first time
    #[arg(long)]
    release: bool,
    /// Do not install anything on this system
    #[arg(long)]
    no_install: bool,
    /// Arguments of the program that kills; `-- --help` shows them
    #[arg(last = true, value_name = "ARGUMENTS")]
    drive: Vec<String>,
}

/// The program that kills.
const DRIVER: &str = "streamspace-crash";
/// The infrastructure of the sessions.
const SIMULATED: &str = "streamspace-simulated";

/// What the server keeps its sessions in.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Database {
    Sqlite,
    Postgres,
}

pub fn crash(paths: &Paths, arguments: &Arguments) -> Result<()> {
    if arguments.servers > 1 && arguments.database == Database::Sqlite {
        bail!("a file is for one server: --servers needs --database postgres");
    }
    let plugins = plugins::build(paths, &paths.cache.join("plugins"))?;
    plugins::build_one(paths, SIMULATED_PACKAGE, &simulated_plugin(paths))?;
    progress("building the server with its failpoints");
    let profile = if arguments.release { Profile::Release } else { Profile::Dev };
    let mut build = cargo(paths);
    build.arg("build").args(FEATURES);
    for program in ["streamspace", DRIVER, SIMULATED] {
        build.args(["--bin", program]);
    }
    if arguments.release {
        build.arg("--release");
    }
    command::run(knowing(&mut build, &plugins))?;
    let postgres = match arguments.database {
        Database::Sqlite => None,
        Database::Postgres => Some(postgres::start(paths, !arguments.no_install)?),
    };
    let mut driver = driver(paths, profile);
    if let Some(postgres) = &postgres {
        on_postgres(&mut driver, postgres);
    }
    progress("killing");
    driver.args(["--servers", &arguments.servers.to_string()]);
    command::run(driver.args(&arguments.drive))
}

/// Has the servers keep their sessions in databases of a server.
pub fn on_postgres<'a>(driver: &'a mut Command, postgres: &Postgres) -> &'a mut Command {
    driver.env("STREAMSPACE_TEST_POSTGRES", &postgres.url).env("STREAMSPACE_TEST_DATABASE", "postgres")
}

/// The program that kills, told where everything is.
pub fn driver(paths: &Paths, profile: Profile) -> Command {
    let built = paths.target.join(profile.directory());
    let mut driver = Command::new(built.join(DRIVER));
    driver
        .env("STREAMSPACE_TEST_BIN", built.join("streamspace"))
        .env("STREAMSPACE_TEST_PLUGINS", paths.cache.join("plugins"))
        .env("STREAMSPACE_TEST_SIMULATED", built.join(SIMULATED))
        .env("STREAMSPACE_TEST_SIMULATED_PLUGIN", simulated_plugin(paths));
    driver
}

fn simulated_plugin(paths: &Paths) -> PathBuf {
    paths.testbed().join("plugins/simulated.wasm")
}
