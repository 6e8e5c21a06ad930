//! `cargo xtask build`: plugins first, then the server that knows their digests.

use crate::cargo::cargo;
use crate::paths::{Paths, place};
use crate::plugins::{self, Plugin};
use crate::{command, progress};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// The variable the server is compiled with; it grants default endpoints only to these plugins.
pub const DIGESTS_VARIABLE: &str = "STREAMSPACE_PLUGIN_DIGESTS";

/// Build the plugins and the server into dist/
#[derive(clap::Args)]
pub struct Arguments {
    /// Build the server without optimisation: faster to build, slower to run
    #[arg(long, conflicts_with = "release")]
    dev: bool,
    /// Build the server with optimisation (the default)
    #[arg(long)]
    release: bool,
}

/// How the server is compiled. Plugins are always small and fast.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run.
    Release,
}

impl Profile {
    /// Where cargo puts what it builds.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

pub fn build(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let profile = if arguments.dev { Profile::Dev } else { Profile::Release };
    let dist = paths.dist();
    let plugins = plugins::build(paths, &dist.join("plugins"))?;
    let server = server(paths, &plugins, profile)?;
    place(&server, &dist.join("streamspace"))?;
    progress("done");
    for file in std::iter::once("streamspace".to_owned())
        .chain(plugins.iter().map(|plugin| format!("plugins/{}.wasm", plugin.name)))
    {
        let file = dist.join(file);
        println!("    {} ({:.1} MB)", file.display(), file.metadata()?.len() as f64 / 1e6);
    }
    Ok(())
}

/// Builds the server and says where it is.
pub fn server(paths: &Paths, plugins: &[Plugin], profile: Profile) -> Result<PathBuf> {
    let mut build = cargo(paths);
    match profile {
        Profile::Dev => {
            progress("building the server (dev profile)");
            // Without `-p`: features are then those of the whole workspace, the same as in the tests, and
            // going back and forth between `run` and `test` does not rebuild the dependencies.
            build.args(["build", "--bin", "streamspace"]);
        }
        Profile::Release => {
            progress("building the server (release profile; takes a while the first time)");
            build.args(["build", "-p", "streamspace", "--release"]);
        }
    }
    knowing(&mut build, plugins);
    command::run(&mut build)?;
    Ok(paths.target.join(profile.directory()).join("streamspace"))
}

/// Tells the compiler the digests of the plugins.
pub fn knowing<'a>(command: &'a mut Command, plugins: &[Plugin]) -> &'a mut Command {
    command.env(DIGESTS_VARIABLE, plugins::digests(plugins))
}
