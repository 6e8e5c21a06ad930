//! The simulated infrastructure as a process: it misbehaves on demand and says what really happened.
//!
//! What it offers and how it is disturbed stands in `tests/simulated/src/main.rs`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::provided;

/// An answer: its status and its body (null where there is none).
pub type Answer = (u16, Value);

/// The process, what it keeps over a kill, and a client.
pub struct Simulated {
    program: PathBuf,
    dir: TempDir,
    process: Child,
    client: Client,
}

impl Simulated {
    /// Starts the one that `cargo xtask test` provides; none, and a line that says so, without it.
    pub fn start() -> Option<Self> {
        Some(Self::start_program(Path::new(&provided("STREAMSPACE_TEST_SIMULATED")?)))
    }

    /// Starts a certain program.
    pub fn start_program(program: &Path) -> Self {
        let dir = TempDir::new().unwrap();
        let client = client(dir.path());
        // Last: what fails before leaves no process behind.
        let process = spawn(program, dir.path());
        Self { program: program.to_owned(), dir, process, client }
    }

    /// Where it serves.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The file that every effect is written to.
    pub fn effects_file(&self) -> PathBuf {
        self.dir.path().join("effects.jsonl")
    }

    /// Kills it (SIGKILL) and starts it again with what it has written down.
    pub fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(&self.program, self.dir.path());
        // The old one keeps connections to the dead process.
        self.client = client(self.dir.path());
    }

    /// Sends a request; fails without an answer.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.client.request(method, format!("http://simulated{path}"));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .header("x-operation-id", "op-1")
                .header("x-generation", "3")
                .header("x-epoch", "7")
                .body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let body = response.bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Sends a request that has to be answered.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.try_send(method, path, body).await.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// The body of a GET that has to succeed.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Turns all knobs.
    pub async fn knobs(&self, knobs: Value) {
        let (status, body) = self.send(Method::PUT, "/knobs", Some(&knobs)).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Disturbs requests by these rules, and nothing else.
    pub async fn rules(&self, rules: Value) {
        self.knobs(json!({"rules": rules})).await;
    }

    /// Acts on a box as somebody who is no client.
    pub async fn by_hand(&self, name: &str, deed: &str) {
        let (status, body) =
            self.send(Method::POST, &format!("/boxes/{name}/by-hand"), Some(&json!({"do": deed}))).await;
        assert_eq!(status, 204, "{body}");
    }

    /// All effects so far.
    pub async fn effects(&self) -> Vec<Value> {
        let mut effects = Vec::new();
        loop {
            let page = self.get(&format!("/effects?after={}", effects.len())).await;
            match page["effects"].as_array().unwrap().as_slice() {
                [] => return effects,
                more => effects.extend_from_slice(more),
            }
        }
    }

    /// The kinds of all effects on an object so far.
    pub async fn effects_on(&self, name: &str) -> Vec<String> {
        let effects = self.effects().await;
        let kinds = effects.iter().filter(|effect| effect["name"] == name);
        kinds.map(|effect| effect["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// All boxes there are, whatever the knobs make of listings.
    pub async fn boxes(&self) -> Vec<Value> {
        let mut boxes = Vec::new();
        let mut path = "/truth/boxes".to_owned();
        loop {
            let page = self.get(&path).await;
            boxes.extend_from_slice(page["boxes"].as_array().unwrap());
            match page["next"].as_str() {
                None => return boxes,
                Some(next) => path = format!("/truth/boxes?after={next}"),
            }
        }
    }
}

fn client(dir: &Path) -> Client {
    // Whoever comes first installs it; the others find it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().unix_socket(dir.join("socket")).no_proxy().build().unwrap()
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let mut process = Command::new(program)
        .arg("--socket")
        .arg(dir.join("socket"))
        .arg("--effects")
        .arg(dir.join("effects.jsonl"))
        .arg("--state")
        .arg(dir.join("state.jsonl"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // The pipe ends with the process, if that does not come to serve.
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("serving on"), "the simulated infrastructure does not serve: {line}");
    process
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // May have ended; nothing may outlive the test.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
