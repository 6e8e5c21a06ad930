//! `streamspace serve` as a process that can be killed.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use serde_json::Value;
use tempfile::TempDir;

use crate::api::Api;
use crate::database::Database;
use crate::network::{Machine, Network};
use crate::{PATIENCE, provided};

/// What a server is started with. Its data outlives it, so that it can be started again.
pub struct Installation {
    program: String,
    data: TempDir,
    plugins: PathBuf,
    environment: Vec<(String, String)>,
    config: Option<PathBuf>,
    database: Option<Arc<Database>>,
    /// The machine, if it is another one, and where the test reaches it.
    machine: Option<(Machine, Ipv4Addr)>,
}

impl Installation {
    /// A new, empty installation with the built plugins and the Docker engine of the tests; none where there is
    /// no engine.
    pub fn with_docker() -> Option<Self> {
        Self::with_engine(&provided("STREAMSPACE_TEST_DOCKER")?)
    }

    /// A new, empty installation with the built plugins and the Docker engine behind this socket.
    pub fn with_engine(socket: &str) -> Option<Self> {
        Some(Self::new()?.environment("DOCKER_HOST", &format!("unix://{socket}")))
    }

    /// A new, empty installation with the built plugins.
    pub fn new() -> Option<Self> {
        Some(Self {
            program: provided("STREAMSPACE_TEST_BIN")?,
            data: TempDir::new().unwrap(),
            plugins: provided("STREAMSPACE_TEST_PLUGINS")?.into(),
            environment: vec![("DOCKER_HOST".to_owned(), "unix:///nowhere".to_owned())],
            config: None,
            database: Database::fresh().map(Arc::new),
            machine: None,
        })
    }

    /// Another server with the same settings and over the same database, which has to be on a server.
    pub fn beside(&self) -> Self {
        Self {
            program: self.program.clone(),
            data: TempDir::new().unwrap(),
            plugins: self.plugins.clone(),
            environment: self.environment.clone(),
            config: self.config.clone(),
            database: Some(Arc::clone(self.database.as_ref().expect("files are for one server"))),
            machine: self.machine.clone(),
        }
    }

    /// The directory with everything the server keeps.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Another directory of plugins.
    pub fn plugins(mut self, dir: &Path) -> Self {
        self.plugins = dir.to_owned();
        self
    }

    /// A configuration file with this content.
    pub fn config(mut self, toml: &str) -> Self {
        let path = self.data.path().join("streamspace.toml");
        std::fs::write(&path, toml).unwrap();
        self.config = Some(path);
        if toml.contains("database") {
            // The test is about that one.
            self.database = None;
        }
        self
    }

    /// Another database; none = a file.
    pub fn database(mut self, database: Option<Database>) -> Self {
        self.database = database.map(Arc::new);
        self
    }

    /// On the API server's machine in a network of the test's own, whose addresses it serves on.
    pub fn on(mut self, network: &Network) -> Self {
        self.machine = Some((network.api().clone(), network.control()));
        self
    }

    /// How to reach the database, if it is on a server.
    pub fn database_url(&self) -> Option<&str> {
        self.database.as_ref().map(|database| database.url.as_str())
    }

    /// Another value for a variable of its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server and waits until it serves.
    pub fn start(&self) -> Server {
        self.try_start(None).unwrap_or_else(|ended| panic!("the server did not start:\n{}", ended.log))
    }

    /// Starts a server that kills itself at a failpoint.
    pub fn start_to_die_at(&self, failpoint: &str) -> Server {
        self.try_start(Some(failpoint))
            .unwrap_or_else(|ended| panic!("the server did not start:\n{}", ended.log))
    }

    /// Starts a server that should refuse to serve; gives what it said.
    pub fn start_refused(&self) -> String {
        match self.try_start(None) {
            Ok(_) => panic!("the server serves, although it should not"),
            Err(ended) => ended.log,
        }
    }

    /// Starts a server that kills itself at a failpoint, if one is given. It may have ended before it serves.
    pub fn try_start(&self, failpoint: Option<&str>) -> Result<Server, Ended> {
        let (mut command, listen) = match &self.machine {
            Some((machine, _)) => (machine.command(&self.program), "0.0.0.0:0"),
            None => (Command::new(&self.program), "127.0.0.1:0"),
        };
        command.args(["serve", "--listen", listen, "--data"]).arg(self.data.path());
        command.arg("--plugins").arg(&self.plugins);
        if let Some(database) = &self.database {
            command.env("STREAMSPACE_DATABASE", &database.url);
        }
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        match failpoint {
            Some(name) => command.env("STREAMSPACE_KILL_AT", name),
            None => command.env_remove("STREAMSPACE_KILL_AT"),
        };
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();

        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    if let Some(address) = served_address(&line) {
                        // The receiver is gone once the address is known.
                        let _ = found.send(address);
                    }
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(mut address) => {
                if let Some((_, reached)) = &self.machine {
                    address = address.replace("0.0.0.0", &reached.to_string());
                }
                Ok(Server { child, address, log, data: self.data.path().to_owned() })
            }
            // The pipe was closed: the process has ended.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait().unwrap();
                reader.join().unwrap();
                let log = log.lock().unwrap().clone();
                Err(Ended { status, log })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let log = log.lock().unwrap().clone();
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it neither serves nor ends:\n{log}")
            }
        }
    }
}

/// The address in the log line that says that the server is ready.
fn served_address(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    fields["message"]
        .as_str()?
        .starts_with("serving on")
        .then(|| fields["address"].as_str().unwrap().to_owned())
}

/// A server that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it logged.
    pub log: String,
}

impl Ended {
    /// Whether it was killed (SIGKILL), and did not end by itself.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

/// A server that runs, or has died.
pub struct Server {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    data: PathBuf,
}

impl Server {
    /// Its API, as the administrator.
    pub fn api(&self) -> Api {
        let token = std::fs::read_to_string(self.data.join("admin.token")).unwrap();
        Api::new(&self.address, Some(token.trim()))
    }

    /// Its API, as somebody with this token or with none.
    pub fn api_as(&self, token: Option<&str>) -> Api {
        Api::new(&self.address, token)
    }

    /// The port that it serves on.
    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory with everything it keeps.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has killed itself at its failpoint.
    pub async fn died(mut self) {
        let status = crate::until("the kill at the failpoint", async || self.child.try_wait().unwrap()).await;
        assert_eq!(status.signal(), Some(9), "it ended otherwise ({status}):\n{}", self.log());
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<Ended> {
        self.child.try_wait().unwrap().map(|status| Ended { status, log: self.log() })
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop (SIGTERM) and waits for that.
    pub async fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        crate::until("the end after SIGTERM", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Has ended already in most tests; otherwise nothing may outlive the test.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.log());
        }
    }
}
