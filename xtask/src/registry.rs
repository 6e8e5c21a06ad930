//! A registry on this machine, for as long as the tests run, with one image to pull.

use crate::docker_engine::Engine;
use crate::http;
use crate::images::{self, TEST};
use crate::paths::Paths;
use crate::{command, debian, progress, signals};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const REPOSITORY: &str = "ss-test/pulled:1";

/// A running registry; ends with this value.
pub struct Registry {
    child: Child,
    /// The image to pull, with the registry's address.
    pub image: String,
    // Last, so that the files go after the process.
    _storage: tempfile::TempDir,
}

/// Starts a registry and pushes an image into it that the engine then no longer has.
pub fn start(paths: &Paths, engine: &Engine) -> Result<Registry> {
    let testbed = paths.testbed();
    fs::create_dir_all(&testbed)?;
    let program = program(&testbed).context("no registry (Debian's docker-registry)")?;
    let storage = tempfile::Builder::new().prefix("registry-").tempdir_in(&testbed)?;
    // The engine trusts all of 127.0.0.0/8 without TLS.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let config = storage.path().join("config.yml");
    // JSON is YAML, and quotes any path.
    let settings = serde_json::json!({
        "version": "0.1",
        "log": { "level": "warn", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": storage.path().join("data") } },
        "http": { "addr": format!("127.0.0.1:{port}") },
    });
    fs::write(&config, settings.to_string())?;
    let log = testbed.join("registry.log");
    let output = File::create(&log)?;
    progress(format_args!("starting a registry on 127.0.0.1:{port} (log: {})", log.display()));
    let child = Command::new(program)
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // A signal for this program must not end it before the tests that use it.
        .process_group(0)
        .spawn()
        .context("cannot start the registry")?;
    let mut registry = Registry { child, image: format!("127.0.0.1:{port}/{REPOSITORY}"), _storage: storage };
    registry.wait_until_ready(port, &log)?;
    images::import(engine, &paths.cache, &TEST, &registry.image, &registry.image)?;
    engine.push_image(&registry.image)?;
    engine.remove(&format!("images/{}", registry.image))?;
    Ok(registry)
}

fn program(testbed: &Path) -> Result<PathBuf> {
    const NAME: &str = "docker-registry";
    let fetched = testbed.join(NAME);
    let file = fetched.join("usr/bin").join(NAME);
    if let Some(installed) = command::find(NAME) {
        return Ok(installed);
    }
    if !file.is_file() {
        progress("downloading Debian's docker-registry (nothing is installed)");
        debian::unpack_own(NAME, &fetched)?;
    }
    Ok(file)
}

impl Registry {
    fn wait_until_ready(&mut self, port: u16, log: &Path) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        while answers(port).is_err() {
            signals::check()?;
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let text = fs::read_to_string(log).unwrap_or_default();
                bail!(
                    "the registry did not start; the end of {}:\n{}",
                    log.display(),
                    command::tail(&text, 10)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Err(error) = command::stop(&mut self.child, Duration::from_secs(5)) {
            eprintln!("warning: cannot stop the registry ({}): {error}", self.child.id());
        }
    }
}

fn answers(port: u16) -> Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    http::exchange(stream, "GET", "/v2/", &[], &[])?.successful("GET /v2/").map(drop)
}

/// Whether an image was pulled from such a registry, in this run or one that was killed.
pub fn is_ours(image: &str) -> bool {
    image.starts_with("127.0.0.1:") && image.ends_with(&format!("/{REPOSITORY}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulled_images_are_known_by_name() {
        assert!(is_ours("127.0.0.1:40001/ss-test/pulled:1"));
        assert!(!is_ours("ss-test/pulled:1"));
        assert!(!is_ours("registry.example/ss-test/pulled:1"));
    }
}
