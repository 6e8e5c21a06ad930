//! A PostgreSQL server of a test's own, which may be stopped and killed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::live::PATIENCE;

const PROGRAMS: &str = "STREAMSPACE_TEST_POSTGRES_PROGRAMS";

/// How a server is ended.
#[derive(Clone, Copy)]
pub enum End {
    /// It ends all connections and writes everything down.
    Fast,
    /// As if it had crashed.
    Crash,
}

pub struct OwnPostgres {
    child: Option<Child>,
    pub port: u16,
    /// Keeps the port from being given to anybody else while the server is not there.
    _reserved: TcpSocket,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    // Last, so that the files go after the process.
    folder: TempDir,
}

impl OwnPostgres {
    /// Makes and starts a server; none = its programs are not here.
    pub fn start(settings: &[&str]) -> Option<Self> {
        let Some(programs) = std::env::var_os(PROGRAMS) else {
            println!("skipped: {PROGRAMS} is not set (cargo xtask test sets it where it can)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("ss-test-postgres-").tempdir().unwrap();
        let reserved = TcpSocket::new_v4().unwrap();
        // The server does the same; so it can bind beside a socket that does not listen.
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let own = Self {
            child: None,
            port: reserved.local_addr().unwrap().port(),
            _reserved: reserved,
            programs: programs.into(),
            user: unprivileged(folder.path()),
            folder,
        };
        own.give_away(own.folder.path());
        let made = own
            .program("initdb")
            .args(["--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"])
            .args(["--no-sync", "-D", "data"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut configuration = fs::read_to_string(own.data().join("postgresql.conf")).unwrap();
        for setting in settings {
            configuration.push_str(&format!("{setting}\n"));
        }
        fs::write(own.data().join("postgresql.conf"), configuration).unwrap();
        Some(own)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a file that only the server can read.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.data().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.give_away(&path);
    }

    pub fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        let child = self
            .program("postgres")
            .args([
                "-D",
                "data",
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                &sockets,
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < end, "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn end(&mut self, how: End) {
        let Some(mut child) = self.child.take() else { return };
        let signal = match how {
            End::Fast => "-INT",
            End::Crash => "-QUIT",
        };
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
    }

    pub fn url(&self, parameters: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres{parameters}", self.port)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn give_away(&self, path: &Path) {
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        self.end(End::Crash);
    }
}

/// The server refuses to be root's.
fn unprivileged(folder: &Path) -> Option<(u32, u32)> {
    if folder.metadata().unwrap().uid() != 0 {
        return None;
    }
    let id = |which| {
        let id = Command::new("id").args([which, "postgres"]).output().unwrap();
        String::from_utf8(id.stdout).unwrap().trim().parse().unwrap()
    };
    Some((id("-u"), id("-g")))
}
