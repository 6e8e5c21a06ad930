//! A Docker engine of a test's own, which may be stopped and killed.
//!
//! It lives in a network namespace of its own: a second dockerd would take the first one's bridge and rules away.
//! Whatever an earlier run left (it was killed) is removed first.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};

use crate::docker::Engine;
use crate::{holds, provided};

/// Start of the names of namespaces and directories; the process that made them follows.
const PREFIX: &str = "ss-test-engine-";
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// How long dockerd may take to start or to stop, on a machine with more to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// A dockerd and its containers. They end with this value.
pub struct OwnEngine {
    name: String,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl OwnEngine {
    /// Starts one with the image of the tests; none where that is not possible, and a line says why.
    pub async fn start() -> Option<Self> {
        let shared = Engine::connect().await?;
        let image = provided("STREAMSPACE_TEST_IMAGE")?;
        // A process belongs to whom it runs as.
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            println!("skipped: only root can start a Docker engine");
            return None;
        }
        for program in ["dockerd", "containerd", "ip", "nsenter"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("skipped: there is no {program} for a Docker engine of the test's own");
                return None;
            }
        }
        remove_abandoned();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        let mut engine = Self { name, dir, daemon: None };
        run("ip", &["netns", "add", &engine.name]);
        let inside = format!("--net={NAMESPACES}/{}", engine.name);
        run("nsenter", &[&inside, "ip", "link", "set", "lo", "up"]);
        engine.resume().await;
        engine.load(&shared, &image).await;
        Some(engine)
    }

    /// The path of its socket.
    pub fn socket(&self) -> String {
        self.dir.join("docker.sock").to_str().unwrap().to_owned()
    }

    /// Starts it again with everything it had, and waits until it answers.
    pub async fn resume(&mut self) {
        assert!(self.daemon.is_none(), "it runs");
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let path = |name: &str| self.dir.join(name);
        // Replaced by dockerd: its process is the one that is stopped and killed.
        let daemon = Command::new("nsenter")
            .arg(format!("--net={NAMESPACES}/{}", self.name))
            .arg("dockerd")
            .arg("--config-file")
            .arg(path("daemon.json"))
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("docker.pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // A signal for the tests is not for it: what they leave, the next run removes.
            .process_group(0)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        let socket = self.socket();
        holds("an answer of the test's own engine", PATIENCE, async || {
            if let Some(status) = self.daemon.as_mut().unwrap().try_wait().unwrap() {
                panic!("dockerd ended ({status}):\n{}", fs::read_to_string(self.log()).unwrap());
            }
            let engine = Engine::at(&socket).await.map_err(|error| error.to_string())?;
            engine.0.ping().await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Asks it to stop (SIGTERM) and waits for that: its containers are stopped, too.
    pub async fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        signal("-TERM", daemon.id());
        holds("the end of dockerd", PATIENCE, async || {
            daemon.try_wait().unwrap().ok_or_else(|| "it still runs".to_owned())
        })
        .await;
    }

    /// Kills it together with its containerd. The containers go on.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        end_containerd(&self.dir);
    }

    fn log(&self) -> PathBuf {
        self.dir.join("dockerd.log")
    }

    async fn load(&self, from: &Engine, image: &str) {
        let parts: Vec<_> = from.0.export_image(image).try_collect().await.unwrap();
        let archive = bollard::body_full(parts.concat().into());
        let engine = Engine::at(&self.socket()).await.unwrap();
        let options = bollard::query_parameters::ImportImageOptions::default();
        let mut loading = std::pin::pin!(engine.0.import_image(options, archive, None));
        while let Some(progress) = loading.next().await {
            progress.unwrap();
        }
        engine.0.inspect_image(image).await.unwrap();
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            eprintln!("--- log of dockerd ---\n{log}");
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        remove(&self.name, &self.dir);
    }
}

/// Removes the engines of test processes that are there no more.
fn remove_abandoned() {
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let mut found = names(Path::new(NAMESPACES));
    found.extend(names(&std::env::temp_dir()));
    for name in found {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name, &std::env::temp_dir().join(&name));
        }
    }
}

/// Ends whatever runs from this directory, and removes it with its mounts and its namespace.
fn remove(name: &str, dir: &Path) {
    let pid = fs::read_to_string(dir.join("docker.pid")).ok().and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid
        && belongs(pid, dir)
    {
        signal("-KILL", pid);
    }
    end_containerd(dir);
    // The shims, and then the containers, which are known by their control groups.
    let containers = fs::read_dir(dir.join("data/containers")).into_iter().flatten().flatten();
    let ids: Vec<String> = containers.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let is_of_container = |pid: u32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        ids.iter().any(|id| groups.contains(id))
    };
    for pid in processes().filter(|&pid| belongs(pid, dir) || is_of_container(pid)) {
        signal("-KILL", pid);
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for mount in below.filter(|mount| Path::new(mount).starts_with(dir)) {
        let _ = Command::new("umount").args(["--lazy", mount]).output();
    }
    if let Err(error) = fs::remove_dir_all(dir) {
        eprintln!("warning: {} cannot be removed: {error}", dir.display());
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).output();
}

/// dockerd's containerd dies with it, but as long as nobody has reaped it dockerd would wait for it.
fn end_containerd(dir: &Path) {
    let file = dir.join("exec/containerd/containerd.pid");
    let Ok(pid) = fs::read_to_string(&file) else { return };
    if let Ok(pid) = pid.trim().parse()
        && belongs(pid, dir)
    {
        signal("-KILL", pid);
    }
    let _ = fs::remove_file(file);
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process was started for this directory: it stands in its command line.
fn belongs(pid: u32, dir: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let dir = format!("{}/", dir.display());
    String::from_utf8_lossy(&line).contains(&dir)
}

fn signal(signal: &str, pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args([signal, &pid.to_string()]).output();
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
