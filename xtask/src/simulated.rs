//! The simulated backend, for a machine on which no real one can be had.

use crate::cargo::cargo;
use crate::command;
use crate::paths::Paths;
use crate::plugins::{self, SIMULATED_PACKAGE};
use crate::progress;
use anyhow::{Context, Result, bail};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the process may take to serve.
const PATIENCE: Duration = Duration::from_secs(10);

/// A simulated backend that serves.
pub struct Ready {
    /// The server's configuration for it.
    pub config: PathBuf,
    /// The process, if this program started it.
    pub started: Option<u32>,
}

/// Builds plugin and process, and starts the process unless it runs already. Its boxes outlive it.
pub fn ensure(paths: &Paths, plugin_folder: &Path) -> Result<Ready> {
    plugins::build_one(paths, SIMULATED_PACKAGE, &plugin_folder.join("simulated.wasm"))?;
    let folder = paths.cache.join("simulated");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let socket = folder.join("socket");
    let config = folder.join("streamspace.toml");
    fs::write(&config, configuration(&socket))
        .with_context(|| format!("cannot write {}", config.display()))?;
    command::run(cargo(paths).args(["build", "--bin", "streamspace-simulated"]))?;
    let program = paths.target.join("debug/streamspace-simulated");
    if let Some(serving) = serving(&socket)? {
        if is_running(serving, &program)? {
            progress(format_args!("using the simulated backend at {}", socket.display()));
            return Ok(Ready { config, started: None });
        }
        // Plugin and process are of one build.
        progress(format_args!("stopping the simulated backend of another build ({})", serving.as_raw_pid()));
        end(serving, &socket)?;
    }
    progress("starting a simulated backend");
    let started = start(&program, &folder, &socket)?;
    Ok(Ready { config, started: Some(started) })
}

/// The process behind a socket, if there is one.
fn serving(socket: &Path) -> Result<Option<Pid>> {
    match UnixStream::connect(socket) {
        Ok(connection) => Ok(Some(socket_peercred(connection)?.pid)),
        Err(_) => Ok(None),
    }
}

/// Whether a process runs this very program, also if the file was replaced since.
fn is_running(process: Pid, program: &Path) -> Result<bool> {
    let running = format!("/proc/{}/exe", process.as_raw_pid());
    let running = fs::read(&running).with_context(|| format!("cannot read {running}"))?;
    Ok(running == fs::read(program).with_context(|| format!("cannot read {}", program.display()))?)
}

/// Ends a process that is not our child. Its boxes are kept.
fn end(process: Pid, socket: &Path) -> Result<()> {
    kill_process(process, Signal::TERM).context("it cannot be stopped")?;
    let deadline = Instant::now() + PATIENCE;
    while serving(socket)? == Some(process) {
        if Instant::now() > deadline {
            bail!("process {} does not stop", process.as_raw_pid());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn configuration(socket: &Path) -> String {
    let target = format!("unix://{}", socket.display());
    format!(
        "# Written by `cargo xtask run`, which found no real backend.\n\
         [[controller]]\nname = \"simulated-local\"\nplugin = \"simulated\"\n\
         [controller.endpoints.api]\nhttp = {target:?}\n"
    )
}

fn start(program: &Path, folder: &Path, socket: &Path) -> Result<u32> {
    let log = folder.join("log");
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    // In a session of its own: Ctrl-C ends the server only.
    let mut child = Command::new("setsid")
        .arg(program)
        .arg("--socket")
        .arg(socket)
        .arg("--state")
        .arg(folder.join("state.jsonl"))
        .arg("--pages")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start the simulated backend")?;
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(socket).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("it ended ({status}); see {}", log.display());
        }
        if Instant::now() > deadline {
            command::stop(&mut child, Duration::from_secs(5))?;
            bail!("it does not serve within {} s; see {}", PATIENCE.as_secs(), log.display());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(child.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_socket() {
        let text = configuration(Path::new("/a \"b\"/socket"));
        assert!(text.contains("http = \"unix:///a \\\"b\\\"/socket\"\n"), "{text}");
    }
    #[test]
    fn the_process_behind_a_socket_is_known_by_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        assert_eq!(serving(&socket).unwrap(), None);
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let process = serving(&socket).unwrap().unwrap();
        assert_eq!(process, rustix::process::getpid());
        assert!(is_running(process, &std::env::current_exe().unwrap()).unwrap());
        assert!(!is_running(process, Path::new("/bin/sh")).unwrap());
        assert!(is_running(process, Path::new("/nowhere")).is_err());
    }
}
