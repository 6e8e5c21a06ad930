//! A Docker engine to run sessions on: the one that answers, or, where this program may, one it starts.

use crate::command::{self, find, tail};
use crate::http::{self, Response, query_value};
use crate::paths::Paths;
use crate::{debian, progress, signals};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::env;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
const PACKAGES: [&str; 3] = ["docker.io", "iptables", "ca-certificates"];

/// An engine that answers on a unix socket.
pub struct Engine {
    pub socket: PathBuf,
}

/// An engine that is there, and the process if this program started it.
pub struct Ready {
    pub engine: Engine,
    pub started: Option<Started>,
}

/// A `dockerd` that this program started.
pub struct Started {
    child: Child,
}

impl Started {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Ready {
    /// Ends an engine that this program started, unless somebody uses it meanwhile: its containers end with it.
    pub fn stop_if_started(self) -> Result<()> {
        let Some(Started { mut child }) = self.started else { return Ok(()) };
        let running = self.engine.list("containers/json", json!({ "status": ["running"] }));
        let running = running.ok().and_then(|list| list.as_array().map(Vec::len)).unwrap_or_default();
        if running > 0 {
            let stop = format!("`kill {}` ends it", child.id());
            progress(format_args!("dockerd keeps running: {running} containers run in it ({stop})"));
            return Ok(());
        }
        progress(format_args!("stopping dockerd ({})", child.id()));
        command::stop(&mut child, Duration::from_secs(30))
    }
}

/// Finds an engine or gets one. The error says why there is none and what the user can do.
pub fn ensure(paths: &Paths, may_install: bool) -> Result<Ready> {
    let obstacle = match existing() {
        Ok(engine) => {
            progress(format_args!("using the Docker engine at {}", engine.socket.display()));
            return Ok(Ready { engine, started: None });
        }
        Err(Absence::Unusable(error)) => return Err(error),
        Err(Absence::None) => "no Docker engine answers",
    };
    if !command::is_root() {
        bail!(
            "{obstacle} at {DEFAULT_SOCKET}, and only root may start one. As root: install Docker (on Debian \
             and Ubuntu `apt-get install docker.io`), start it, and add yourself to the group `docker` \
             (`usermod -aG docker $USER`, then log in again). Or set DOCKER_HOST=unix:///… to an engine of \
             your own"
        );
    }
    if find("dockerd").is_none() {
        if !may_install {
            bail!("{obstacle}, none is installed, and --no-install forbids to install it");
        }
        if !debian::is_here() {
            bail!(
                "{obstacle}, and this program installs Docker only on Debian and Ubuntu: install and start it, then try again"
            );
        }
        progress(format_args!("installing Debian packages: {}", PACKAGES.join(", ")));
        debian::install(&PACKAGES).context("cannot install Docker")?;
    }
    start(paths)
}

enum Absence {
    /// Nothing is there, so that one may be started.
    None,
    /// Something is there, or was asked for, that cannot be used.
    Unusable(anyhow::Error),
}

fn existing() -> Result<Engine, Absence> {
    if let Some(host) = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
        return asked_for(&host).map_err(Absence::Unusable);
    }
    let rootless = env::var_os("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("docker.sock"));
    let mut refused = None;
    for socket in std::iter::once(PathBuf::from(DEFAULT_SOCKET)).chain(rootless) {
        let engine = Engine { socket };
        match engine.ping() {
            Ok(()) => return Ok(engine),
            Err(error) if is_refusal(&error) => refused = Some(engine.socket),
            Err(_) => {}
        }
    }
    match refused {
        None => Err(Absence::None),
        Some(socket) => Err(Absence::Unusable(anyhow::anyhow!(
            "you may not use the Docker engine at {}: add yourself to the group `docker` \
             (`sudo usermod -aG docker $USER`, then log in again), or run this as root",
            socket.display()
        ))),
    }
}

fn asked_for(host: &str) -> Result<Engine> {
    let Some(socket) = host.strip_prefix("unix://") else {
        bail!("DOCKER_HOST={host} is not a unix socket; only unix:///… is supported here");
    };
    let engine = Engine { socket: socket.into() };
    engine.ping().with_context(|| format!("the engine that DOCKER_HOST={host} names does not answer"))?;
    Ok(engine)
}

fn is_refusal(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn start(paths: &Paths) -> Result<Ready> {
    let engine = Engine { socket: DEFAULT_SOCKET.into() };
    if Path::new("/run/systemd/system").is_dir() {
        progress("starting Docker (systemctl start docker)");
        command::output(Command::new("systemctl").args(["start", "docker"]))?;
        wait_until_ready(&engine, None).context("see `journalctl -u docker`")?;
        return Ok(Ready { engine, started: None });
    }
    // Installing may have started it.
    if engine.ping().is_ok() {
        return Ok(Ready { engine, started: None });
    }
    let log = paths.cache.join("dockerd.log");
    let dockerd = find("dockerd").context("there is no dockerd, though Docker is installed")?;
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    remove_stale_pid_files()?;
    progress(format_args!("starting dockerd (log: {})", log.display()));
    // In a session of its own: it outlives this program and its terminal.
    let mut child = Command::new("setsid")
        .arg(dockerd)
        .args(["-H", &format!("unix://{DEFAULT_SOCKET}")])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start dockerd")?;
    match wait_until_ready(&engine, Some(&mut child)) {
        Ok(()) => Ok(Ready { engine, started: Some(Started { child }) }),
        Err(error) => {
            command::stop(&mut child, Duration::from_secs(10))?;
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            Err(error.context(format!(
                "dockerd did not start; the end of {}:\n{}",
                log.display(),
                tail(&text, 15)
            )))
        }
    }
}

/// Files in which dockerd and its containerd note their process ids, and what those processes are called.
const PID_FILES: [(&str, &str); 2] =
    [("/var/run/docker.pid", "dockerd"), ("/var/run/docker/containerd/containerd.pid", "containerd")];

/// Removes notes of processes that were killed. dockerd takes any process that has such an id by now for the one that
/// left the note: it then refuses to start, or waits for a containerd that is not there.
fn remove_stale_pid_files() -> Result<()> {
    for (file, program) in PID_FILES {
        let Ok(pid) = std::fs::read_to_string(file) else { continue };
        let running = std::fs::read_to_string(format!("/proc/{}/comm", pid.trim()));
        if !running.is_ok_and(|name| name.trim() == program) {
            std::fs::remove_file(file).with_context(|| format!("cannot remove the stale {file}"))?;
        }
    }
    Ok(())
}

fn wait_until_ready(engine: &Engine, mut process: Option<&mut Child>) -> Result<()> {
    // Its first start on a slow disk takes a while.
    let mut end = Instant::now() + Duration::from_secs(180);
    loop {
        signals::check()?;
        let Err(error) = engine.ping() else { return Ok(()) };
        if let Some(child) = process.as_mut()
            && let Some(status) = child.try_wait()?
        {
            // It gives way to another one that is starting; that one gets a moment more.
            process = None;
            end = end.min(Instant::now() + Duration::from_secs(5));
            progress(format_args!("dockerd ended ({status})"));
        }
        if Instant::now() > end {
            return Err(error.context("the Docker engine does not answer"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Engine {
    fn ping(&self) -> Result<()> {
        self.request("GET", "/_ping", &[], &[], Duration::from_secs(5))?.successful("GET /_ping").map(drop)
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        patience: Duration,
    ) -> Result<Response> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        http::exchange(stream, method, path, headers, body)
    }

    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
        let shown = path.split('?').next().unwrap_or(path);
        let what = format!("Docker engine, {method} {shown}");
        self.request(method, path, headers, body, Duration::from_secs(120))
            .with_context(|| what.clone())?
            .successful(&what)
    }

    /// A list that the engine filters, such as `containers/json` by label.
    pub fn list(&self, path: &str, filters: Value) -> Result<Value> {
        let filters = query_value(&filters.to_string());
        Ok(self.call("GET", &format!("/{path}?all=1&filters={filters}"), &[], &[])?.json())
    }

    /// Removes an object; one that is gone already is fine.
    pub fn remove(&self, path: &str) -> Result<()> {
        let answer = self.request("DELETE", &format!("/{path}"), &[], &[], Duration::from_secs(60))?;
        if answer.status == 404 {
            return Ok(());
        }
        answer.successful(&format!("Docker engine, DELETE /{path}")).map(drop)
    }

    /// A label of an image, if the image is there and has it.
    pub fn image_label(&self, image: &str, label: &str) -> Result<Option<String>> {
        let path = format!("/images/{image}/json");
        let answer = self.request("GET", &path, &[], &[], Duration::from_secs(30))?;
        if answer.status == 404 {
            return Ok(None);
        }
        let image = answer.successful("Docker engine, image inspect")?.json();
        Ok(image["Config"]["Labels"][label].as_str().map(str::to_owned))
    }

    /// Makes an image of a root file system in a tar archive.
    pub fn import_image(&self, image: &str, changes: &[String], tar: &[u8]) -> Result<()> {
        let (repository, tag) = image.rsplit_once(':').context("an image needs a tag")?;
        let mut path =
            format!("/images/create?fromSrc=-&repo={}&tag={}", query_value(repository), query_value(tag));
        for change in changes {
            path.push_str(&format!("&changes={}", query_value(change)));
        }
        let answer = self.call("POST", &path, &[("Content-Type", "application/x-tar")], tar)?;
        check_stream(&answer.body).with_context(|| format!("cannot import the image {image}"))
    }

    /// Pushes an image to the registry that its name carries, without credentials.
    pub fn push_image(&self, image: &str) -> Result<()> {
        let (repository, tag) = image.rsplit_once(':').context("an image needs a tag")?;
        // The engine insists on the header; this is `{}` in base64.
        let headers = [("X-Registry-Auth", "e30=")];
        let path = format!("/images/{repository}/push?tag={}", query_value(tag));
        let answer = self.call("POST", &path, &headers, &[])?;
        check_stream(&answer.body).with_context(|| format!("cannot push the image {image}"))
    }

    /// The tags of all images.
    pub fn image_tags(&self) -> Result<Vec<String>> {
        let images = self.list("images/json", json!({}))?;
        let tags = images.as_array().into_iter().flatten().filter_map(|image| image["RepoTags"].as_array());
        Ok(tags.flatten().filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

/// A job's progress comes as one JSON object per line, under a status that was sent before the job failed.
fn check_stream(body: &[u8]) -> Result<()> {
    for line in body.split(|&byte| byte == b'\n') {
        let line: Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some(error) = line["error"].as_str() {
            bail!("{error}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_job_is_noticed_under_status_200() {
        assert!(check_stream(b"{\"status\":\"Pushing\"}\r\n{\"status\":\"done\"}\r\n").is_ok());
        let error = check_stream(b"{\"status\":\"Pushing\"}\r\n{\"error\":\"denied\"}\r\n").unwrap_err();
        assert_eq!(error.to_string(), "denied");
    }

    #[test]
    fn only_unix_sockets_are_taken_from_the_environment() {
        let error = asked_for("tcp://127.0.0.1:2375").err().unwrap().to_string();
        assert!(error.contains("not a unix socket"), "{error}");
        assert!(
            asked_for("unix:///nowhere/docker.sock").err().unwrap().to_string().contains("does not answer")
        );
    }
}
