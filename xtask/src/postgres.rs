//! A PostgreSQL server on this machine, for as long as the tests run.

use crate::paths::Paths;
use crate::{command, debian, progress, signals};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PACKAGE: &str = "postgresql";
/// Where Debian puts the programs of the server, one folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// How long the server may take to start, where the disk is slow.
const PATIENCE: Duration = Duration::from_secs(120);
/// The line in the server's note of its process that says how it is, counted from 0.
const STATUS_LINE: usize = 7;
/// Who runs the server when this program is root's: it refuses to be.
const USER: &str = "postgres";

/// A running server; ends with this value.
pub struct Postgres {
    child: Child,
    /// How to reach it, as its administrator.
    pub url: String,
    /// Where its programs are: some tests start servers of their own.
    pub programs: PathBuf,
    // Last, so that the files go after the process.
    _storage: tempfile::TempDir,
}

/// Finds or installs the programs, makes an empty server and starts it.
pub fn start(paths: &Paths, may_install: bool) -> Result<Postgres> {
    let programs = programs(may_install)?;
    let user = if command::is_root() { Some(user_ids()?) } else { None };
    let testbed = paths.testbed();
    fs::create_dir_all(&testbed)?;
    // The cache of root is closed to the user that the server runs as.
    let place = if user.is_some() { std::env::temp_dir() } else { testbed.clone() };
    let storage = tempfile::Builder::new().prefix("ss-test-postgres-").tempdir_in(place)?;
    let folder = storage.path();
    let password = password()?;
    let password_file = folder.join("password");
    fs::write(&password_file, &password)?;
    if let Some((uid, gid)) = user {
        for path in [folder, &password_file] {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} away", path.display()))?;
        }
    }
    let data = folder.join("data");
    let mut initdb = program(&programs, "initdb", folder, user);
    initdb.args(["--username", "postgres", "--auth", "scram-sha-256", "--encoding", "UTF8"]);
    initdb.args(["--locale", "C.UTF-8", "--no-sync", "--pwfile"]).arg(&password_file).arg("-D").arg(&data);
    command::output(&mut initdb)?;

    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let log = testbed.join("postgres.log");
    let output = File::create(&log)?;
    progress(format_args!("starting PostgreSQL on 127.0.0.1:{port} (log: {})", log.display()));
    let mut server = program(&programs, "postgres", folder, user);
    server.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    for setting in ["listen_addresses=127.0.0.1", "fsync=on", "max_connections=400"] {
        server.args(["-c", setting]);
    }
    let child = server
        .arg("-c")
        .arg(format!("unix_socket_directories={}", folder.display()))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // A signal for this program must not end it before the tests that use it.
        .process_group(0)
        .spawn()
        .context("cannot start PostgreSQL")?;
    let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
    let mut postgres = Postgres { child, url, programs, _storage: storage };
    postgres.wait_until_ready(&data, &log)?;
    Ok(postgres)
}

impl Postgres {
    fn wait_until_ready(&mut self, data: &Path, log: &Path) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_ready(data) {
            signals::check()?;
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let text = fs::read_to_string(log).unwrap_or_default();
                bail!(
                    "PostgreSQL did not start; the end of {}:\n{}",
                    log.display(),
                    command::tail(&text, 10)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Ends it without waiting for whoever is connected.
    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (None, Some(pid)) = (self.child.try_wait()?, pid) {
            kill_process(pid, Signal::INT)?;
            if command::wait_within(&mut self.child, Duration::from_secs(20))?.is_none() {
                self.child.kill()?;
                self.child.wait()?;
            }
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("warning: cannot stop PostgreSQL ({}): {error}", self.child.id());
        }
    }
}

/// Whether a server takes connections: it notes that in its folder. One that is still starting listens as well, and refuses.
fn is_ready(data: &Path) -> bool {
    let noted = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    noted.lines().nth(STATUS_LINE).is_some_and(|status| status.trim() == "ready")
}

fn program(programs: &Path, name: &str, folder: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir(folder).env("LC_ALL", "C");
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn programs(may_install: bool) -> Result<PathBuf> {
    if let Some(found) = installed() {
        return Ok(found);
    }
    if !may_install {
        bail!("no PostgreSQL server is installed, and --no-install forbids to install it");
    }
    if !command::is_root() || !debian::is_here() {
        bail!(
            "no PostgreSQL server is installed, and this program installs one only as root on Debian and Ubuntu \
             (there: `apt-get install {PACKAGE}`; its own service need not run)"
        );
    }
    progress(format_args!("installing the Debian package {PACKAGE}"));
    debian::install(&[PACKAGE]).context("cannot install PostgreSQL")?;
    installed().with_context(|| format!("the package {PACKAGE} has no server in {VERSIONS}"))
}

fn installed() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, programs)| has_server(programs))
        .max();
    let in_path = || Some(command::find("postgres")?.parent()?.to_owned()).filter(|found| has_server(found));
    newest.map(|(_, programs)| programs).or_else(in_path)
}

fn has_server(programs: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| programs.join(name).is_file())
}

fn user_ids() -> Result<(u32, u32)> {
    let id = |which: &str| -> Result<u32> {
        let text = command::text(Command::new("id").args([which, USER]));
        Ok(text.with_context(|| format!("there is no user {USER} to run PostgreSQL as"))?.parse()?)
    };
    Ok((id("-u")?, id("-g")?))
}

/// Others on this machine can reach the port.
fn password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_server_starts_and_leaves_nothing() {
        if installed().is_none() {
            println!("skipped: there is no PostgreSQL server on this machine");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let paths =
            Paths { root: folder.path().into(), cache: folder.path().into(), target: folder.path().into() };
        let postgres = start(&paths, false).unwrap();
        let address = postgres.url.split(['@', '/']).nth(3).unwrap().to_owned();
        assert!(TcpStream::connect(&address).is_ok());
        let storage = postgres._storage.path().to_owned();
        assert!(storage.join("data/PG_VERSION").is_file());
        drop(postgres);
        assert!(TcpStream::connect(&address).is_err());
        assert!(!storage.exists());
    }
}
