//! `cargo xtask run`: everything a first session needs, then the server in place of this program.

use crate::dist::{self, Profile};
use crate::docker_engine::{self, Ready};
use crate::images::{self, SAMPLE};
use crate::paths::Paths;
use crate::{plugins, progress, signals, simulated};
use anyhow::{Context, Result};
use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the commands look for a server.
const LISTEN: &str = "127.0.0.1:8000";

/// Build everything, make sure of a Docker engine and a sample image, and serve
///
/// Uses the Docker engine that DOCKER_HOST (unix:///…) or /var/run/docker.sock leads to. If there is none,
/// and this runs as root on Debian or Ubuntu, installs and starts one; it keeps running afterwards. Where
/// none can be had, sessions run on a simulated backend: everything can be tried but the desktops themselves.
#[derive(clap::Args)]
pub struct Arguments {
    /// Build the server with optimisation
    #[arg(long)]
    release: bool,
    /// Do not install anything on this system
    #[arg(long)]
    no_install: bool,
    /// Where to serve
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: String,
    /// Where the server keeps its data [default: <cache>/data; with simulated sessions <cache>/data-simulated]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Further arguments of `streamspace serve`
    #[arg(last = true, value_name = "SERVE ARGUMENTS")]
    serve: Vec<String>,
}

pub fn run(paths: &Paths, arguments: &Arguments) -> Result<Infallible> {
    let profile = if arguments.release { Profile::Release } else { Profile::Dev };
    // Of its own: what tests and measurements build meanwhile is nothing to the server.
    let folder = paths.cache.join("run/plugins");
    let plugins = plugins::build(paths, &folder)?;
    let server = dist::server(paths, &plugins, profile)?;
    if profile == Profile::Dev {
        println!("    (a development build; `cargo xtask run --release` is faster at run time)");
    }

    let mut serve = Command::new(&server);
    serve.arg("serve");
    let mut usual_data = "data";
    let image = match docker_engine::ensure(paths, !arguments.no_install) {
        Ok(ready) => {
            // For an engine that is not at the default place.
            serve.env("DOCKER_HOST", format!("unix://{}", ready.engine.socket.display()));
            prepare(paths, &ready)
        }
        Err(error) => {
            signals::check()?;
            eprintln!("warning: serving without Docker: {error:#}.");
            let image = instead_of_docker(paths, arguments, &folder, &mut serve);
            if image.is_some() {
                // Sessions of one backend would only wait there for the other.
                usual_data = "data-simulated";
            }
            image
        }
    };

    let data = match &arguments.data {
        Some(directory) => std::path::absolute(directory)?,
        None => paths.cache.join(usual_data),
    };
    std::fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    progress(format_args!(
        "serving on http://{} (Ctrl-C ends the server, not the sessions)",
        arguments.listen
    ));
    println!("    the administrator's token is in {}", data.join("admin.token").display());
    println!("    what to type in another terminal:");
    println!("      {}", environment(&server, &data, &arguments.listen)?);
    if let Some(image) = image {
        // Without the web application there would be nothing to see under the session's URL.
        println!("      streamspace session create --image {image} --web 3000");
    }
    serve.args(["--listen", &arguments.listen, "--data"]).arg(&data).arg("--plugins").arg(&folder);
    serve.args(&arguments.serve);
    signals::check()?;
    // In our place: Ctrl-C and the exit code are then the server's own.
    Err(serve.exec()).with_context(|| format!("cannot start {}", server.display()))
}

/// The line with which the commands find this server.
fn environment(server: &Path, data: &Path, listen: &str) -> Result<String> {
    let programs = server.parent().context("the server is in no directory")?;
    let mut line = format!("export PATH={}:\"$PATH\" STREAMSPACE_DATA={}", quoted(programs), quoted(data));
    if listen != LISTEN {
        // An address that stands for all is none to call.
        let reached = listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:");
        line.push_str(&format!(" STREAMSPACE_URL=http://{reached}"));
    }
    Ok(line)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// Serves a simulated backend and names an image for it. A configuration of the user's own is left alone.
fn instead_of_docker(
    paths: &Paths,
    arguments: &Arguments,
    plugins: &Path,
    serve: &mut Command,
) -> Option<&'static str> {
    if has_configuration(&arguments.serve, env::var_os("STREAMSPACE_CONFIG")) {
        return None;
    }
    match simulated::ensure(paths, plugins) {
        Ok(ready) => {
            serve.arg("--config").arg(&ready.config);
            println!("    sessions are simulated: boxes with a small page, made at once and of nothing");
            println!("    for real ones make Docker answer (see the warning) and start this again");
            if let Some(pid) = ready.started {
                println!("    the simulated backend keeps running after this; `kill {pid}` ends it");
            }
            Some("simulated")
        }
        Err(error) => {
            eprintln!(
                "warning: there is no simulated backend either: {error:#}. Sessions wait for a backend."
            );
            None
        }
    }
}

fn has_configuration(serve: &[String], variable: Option<OsString>) -> bool {
    serve.iter().any(|argument| argument == "--config" || argument.starts_with("--config="))
        || variable.is_some_and(|file| !file.is_empty())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_typed_finds_the_server() {
        let line = |listen: &str| environment(Path::new("/t/debug/streamspace"), Path::new("/a 'b'"), listen);
        let usual = "export PATH='/t/debug':\"$PATH\" STREAMSPACE_DATA='/a '\\''b'\\'''";
        assert_eq!(line(LISTEN).unwrap(), usual);
        assert_eq!(line("0.0.0.0:9000").unwrap(), format!("{usual} STREAMSPACE_URL=http://127.0.0.1:9000"));
        assert_eq!(line("[::]:9000").unwrap(), format!("{usual} STREAMSPACE_URL=http://[::1]:9000"));
    }

    #[test]
    fn a_configuration_of_the_user_is_seen() {
        let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert!(has_configuration(&line(&["--config", "a.toml"]), None));
        assert!(has_configuration(&line(&["--config=a.toml"]), None));
        assert!(has_configuration(&[], Some("a.toml".into())));
        assert!(!has_configuration(&line(&["--log", "debug"]), Some("".into())));
    }
}
