//! `streamspace controller serve` as a process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use serde_json::Value;

use crate::network::Machine;
use crate::{PATIENCE, provided};

/// A controller as a process. It ends with this value.
pub struct ControllerProcess {
    child: Child,
    log: Arc<Log>,
}

/// What it has logged so far.
#[derive(Default)]
struct Log {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl ControllerProcess {
    /// Starts `controller serve` with these arguments and variables; none where there is no program.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Self> {
        let program = provided("STREAMSPACE_TEST_BIN")?;
        Some(Self::run(Command::new(program), arguments, variables))
    }

    /// The same on a machine of the test's own.
    pub fn start_on(machine: &Machine, arguments: &[&str], variables: &[(&str, &str)]) -> Option<Self> {
        let program = provided("STREAMSPACE_TEST_BIN")?;
        Some(Self::run(machine.command(&program), arguments, variables))
    }

    fn run(mut program: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = program
            .args(["controller", "serve"])
            .args(arguments)
            .env_remove("API_SERVER_URL")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let written = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                written.text.lock().unwrap().0.push_str(&format!("{line}\n"));
                written.grown.notify_all();
            }
            written.text.lock().unwrap().1 = true;
            written.grown.notify_all();
        });
        Self { child, log }
    }

    /// Waits until it logs something that begins like this, for the so-manieth time, and gives the line's fields.
    pub fn says(&self, beginning: &str, times: usize) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut log = self.log.text.lock().unwrap();
        loop {
            let (text, ended) = &*log;
            let fields = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap_or_default()["fields"].clone());
            let mut found = fields.filter(|fields| {
                fields["message"].as_str().is_some_and(|message| message.starts_with(beginning))
            });
            if let Some(fields) = found.nth(times - 1) {
                return fields;
            }
            assert!(!ended, "it ended without saying `{beginning}`:\n{text}");
            assert!(Instant::now() < deadline, "it does not say `{beginning}`:\n{text}");
            log = self.log.grown.wait_timeout(log, PATIENCE).unwrap().0;
        }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.log.text.lock().unwrap().0.clone()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal();
        self.end()
    }

    /// Sends SIGTERM.
    pub fn signal(&self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits until it ends by itself, and until all that it said is there.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap()
                && self.log.text.lock().unwrap().1
            {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for ControllerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A controller of the Docker plugin, without an API server. It ends with this value.
pub struct StandaloneController {
    process: ControllerProcess,
    address: String,
    id: String,
}

impl StandaloneController {
    /// Starts it over an engine and waits until it serves; none where there is no program or no plugin.
    pub fn start(engine: &str) -> Option<Self> {
        let plugin = Path::new(&provided("STREAMSPACE_TEST_PLUGINS")?).join("docker.wasm");
        let name = format!("test-{}", std::process::id());
        let endpoint = format!("engine={engine}");
        let plugin = plugin.to_str().unwrap();
        let arguments =
            ["--name", &name, "--listen", "127.0.0.1:0", "--endpoint", &endpoint, "--plugin", plugin];
        let process = ControllerProcess::start(&arguments, &[])?;
        let serving = process.says("serving on", 1);
        let text = |key: &str| serving[key].as_str().unwrap().to_owned();
        Some(Self { address: text("address"), id: text("controller"), process })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The mark on all that it makes.
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.terminate()
    }
}
