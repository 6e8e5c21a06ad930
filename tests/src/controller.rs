//! `streamspace controller serve` as a process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::{PATIENCE, provided};

/// A controller of the Docker plugin, without an API server. It ends with this value.
pub struct StandaloneController {
    child: Child,
    address: String,
    id: String,
}

impl StandaloneController {
    /// Starts it over an engine and waits until it serves; none where there is no program or no plugin.
    pub fn start(engine: &str) -> Option<Self> {
        let program = provided("STREAMSPACE_TEST_BIN")?;
        let plugin = Path::new(&provided("STREAMSPACE_TEST_PLUGINS")?).join("docker.wasm");
        let name = format!("test-{}", std::process::id());
        let mut child = Command::new(program)
            .args(["controller", "serve", "--name", &name, "--listen", "127.0.0.1:0", "--endpoint"])
            .arg(format!("engine={engine}"))
            .arg("--plugin")
            .arg(plugin)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (found, serving) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            let mut log = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                let fields = serde_json::from_str::<Value>(&line).unwrap_or_default()["fields"].clone();
                if fields["message"].as_str().is_some_and(|message| message.starts_with("serving on")) {
                    let text = |key: &str| fields[key].as_str().unwrap().to_owned();
                    // Nobody waits any more once it was told.
                    let _ = found.send(Ok((text("address"), text("controller"))));
                }
                log.push_str(&line);
                log.push('\n');
            }
            let _ = found.send(Err(log));
        });
        match serving.recv_timeout(PATIENCE) {
            Ok(Ok((address, id))) => Some(Self { child, address, id }),
            Ok(Err(log)) => panic!("the controller did not start:\n{log}"),
            Err(_) => {
                child.kill().unwrap();
                panic!("the controller neither serves nor ends");
            }
        }
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
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for StandaloneController {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
