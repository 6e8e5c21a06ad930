//! `cargo xtask run`: everything a first session needs, then the server in place of this program.

use crate::dist::{self, Profile};
use crate::docker_engine::{self, Ready};
use crate::images::{self, SAMPLE};
use crate::paths::Paths;
use crate::{plugins, progress, signals};
use anyhow::{Context, Result};
use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Build everything, make sure of a Docker engine and a sample image, and serve
///
/// Uses the Docker engine that DOCKER_HOST (unix:///…) or /var/run/docker.sock leads to. If there is none,
/// and this runs as root on Debian or Ubuntu, installs and starts one; it keeps running afterwards. Without
/// one it serves all the same, and sessions wait for a backend.
#[derive(clap::Args)]
pub struct Arguments {
    /// Build the server with optimisation
    #[arg(long)]
    release: bool,
    /// Do not install anything on this system
    #[arg(long)]
    no_install: bool,
    /// Where to serve
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: String,
    /// Where the server keeps its data [default: <cache>/data]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Further arguments of `streamspace serve`
    #[arg(last = true, value_name = "SERVE ARGUMENTS")]
    serve: Vec<String>,
}

pub fn run(paths: &Paths, arguments: &Arguments) -> Result<Infallible> {
    let profile = if arguments.release { Profile::Release } else { Profile::Dev };
    let folder = paths.cache.join("plugins");
    let plugins = plugins::build(paths, &folder)?;
    let server = dist::server(paths, &plugins, profile)?;
    if profile == Profile::Dev {
        println!("    (a development build; `cargo xtask run --release` is faster at run time)");
    }

    let mut serve = Command::new(&server);
    let image = match docker_engine::ensure(paths, !arguments.no_install) {
        Ok(ready) => {
            // For an engine that is not at the default place.
            serve.env("DOCKER_HOST", format!("unix://{}", ready.engine.socket.display()));
            prepare(paths, &ready)
        }
        Err(error) => {
            signals::check()?;
            eprintln!("warning: serving without Docker: {error:#}.");
            None
        }
    };

    let data = match &arguments.data {
        Some(directory) => std::path::absolute(directory)?,
        None => paths.cache.join("data"),
    };
    std::fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    progress(format_args!(
        "serving on http://{} (Ctrl-C ends the server, not the sessions)",
        arguments.listen
    ));
    let token = data.join("admin.token");
    println!("    the administrator's token is in {}", token.display());
    if let Some(image) = image {
        println!("    a session, from another terminal:");
        println!("      curl -X POST -H \"Authorization: Bearer $(cat '{}')\" \\", token.display());
        println!("        -H 'Content-Type: application/json' \\");
        println!("        -d '{{\"user_id\":\"me\",\"spec\":{{\"base_image\":\"{image}\"}}}}' \\");
        println!("        http://{}/api/v1/sessions", arguments.listen);
    }
    serve.args(["serve", "--listen", &arguments.listen, "--data"]).arg(&data).arg("--plugins").arg(&folder);
    serve.args(&arguments.serve);
    signals::check()?;
    // In our place: Ctrl-C and the exit code are then the server's own.
    Err(serve.exec()).with_context(|| format!("cannot start {}", server.display()))
}

/// Puts the sample image into the engine and names it.
fn prepare(paths: &Paths, ready: &Ready) -> Option<&'static str> {
    if let Some(started) = &ready.started {
        println!("    dockerd keeps running after this; `kill {}` ends it", started.pid());
    }
    match images::ensure(&ready.engine, &paths.cache, &SAMPLE) {
        Ok(()) => Some(SAMPLE.name),
        Err(error) => {
            eprintln!("warning: no sample image: {error:#}. Sessions can use any other image.");
            None
        }
    }
}
