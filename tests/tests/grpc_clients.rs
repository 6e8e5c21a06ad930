//! `streamspace.api.v1` of the built server: clients in other languages, generated from the protos, and ours beside them on
//! the port of the REST API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use streamspace_proto::api::v1 as api;
use streamspace_proto::api::v1::session_service_client::SessionServiceClient;
use streamspace_proto::api::v1::watch_service_client::WatchServiceClient;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;
use streamspace_tests::{PATIENCE, provided, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// A compiler that has to fetch what it needs takes its time.
const LIMIT: Duration = Duration::from_secs(900);

/// A server over the simulated backend.
struct Stage {
    server: Server,
    _plugins: TempDir,
    _simulated: Simulated,
    _installation: Installation,
}

impl Stage {
    async fn set() -> Option<Self> {
        let plugin = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
        let simulated = Simulated::start()?;
        let installation = Installation::new()?;
        simulated.knobs(json!({"settings": {"pages": true}})).await;
        let plugins = tempfile::tempdir().unwrap();
        std::fs::copy(plugin, plugins.path().join("simulated.wasm")).unwrap();
        let installation = installation.plugins(plugins.path()).config(&format!(
            "[[controller]]\nname = \"simulated-local\"\nplugin = \"simulated\"\n\
             [controller.endpoints.api]\nhttp = \"unix://{}\"\n",
            simulated.socket().display()
        ));
        let server = installation.start();
        until("the controller", async || {
            let controllers = server.api().get("/api/v1/admin/controllers").await.body;
            (controllers[0]["status"] == "healthy").then_some(())
        })
        .await;
        Some(Self { server, _plugins: plugins, _simulated: simulated, _installation: installation })
    }

    fn address(&self) -> String {
        self.server.url().strip_prefix("http://").unwrap().to_owned()
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.server.data().join("admin.token")).unwrap().trim().to_owned()
    }

    async fn channel(&self) -> Channel {
        Endpoint::new(self.server.url()).unwrap().connect().await.unwrap()
    }

    fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token()).parse().unwrap());
        request
    }

    /// What a client printed: the session that it made, and all that happened to it up to its end.
    async fn judge(&self, client: &Output) {
        let (said, complained) =
            (String::from_utf8_lossy(&client.stdout), String::from_utf8_lossy(&client.stderr));
        assert!(client.status.success(), "{said}{complained}");
        let id = said.split_whitespace().next().unwrap();
        assert!(said.contains(&format!("{}/s/{id}/", self.server.url())), "{said}");
        let events = self.server.api().get(&format!("/api/v1/sessions/{id}/events?limit=1000")).await.body;
        let events: Vec<_> =
            events["items"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
        let told: Vec<_> =
            said.lines().skip(1).map(|line| Value::from(line.split_whitespace().nth(1).unwrap())).collect();
        assert_eq!(told, events);
        assert_eq!(events.last().unwrap(), "session.deleted");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn protos() -> Vec<PathBuf> {
    let folder = root().join("proto/streamspace/api/v1");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 3, "{files:?}");
    files
}

async fn run(command: &mut Command) -> Output {
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    tokio::time::timeout(LIMIT, run).await.expect("it does not come to an end").unwrap()
}

/// Runs what has to succeed.
async fn succeed(command: &mut Command) {
    let output = run(command).await;
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_python_example_takes_a_session_through_its_life() {
    let Some(python) = provided("STREAMSPACE_TEST_PYTHON") else { return };
    let Some(stage) = Stage::set().await else { return };
    let generated = tempfile::tempdir().unwrap();
    let mut protoc = Command::new(&python);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(root().join("proto"));
    protoc.arg(format!("--python_out={}", generated.path().display()));
    protoc.arg(format!("--grpc_python_out={}", generated.path().display()));
    succeed(protoc.args(protos())).await;
    let mut example = Command::new(&python);
    example.arg(root().join("clients/python/example.py")).args([&stage.address(), "any"]);
    example.env("PYTHONPATH", generated.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = run(example.env("STREAMSPACE_TOKEN", stage.token()).env("NO_PROXY", "*")).await;
    stage.judge(&output).await;
    stage.server.stop().await;
}

#[tokio::test]
async fn the_go_example_takes_a_session_through_its_life() {
    let Some(go) = provided("STREAMSPACE_TEST_GO") else { return };
    // Its tools have a protoc of their own.
    let Some(python) = provided("STREAMSPACE_TEST_PYTHON") else { return };
    let Some(stage) = Stage::set().await else { return };
    let module = tempfile::tempdir().unwrap();
    let tools = module.path().join("tools");
    for file in ["go.mod", "example.go"] {
        std::fs::copy(root().join("clients/go").join(file), module.path().join(file)).unwrap();
    }
    // The page says which versions.
    let page = std::fs::read_to_string(root().join("clients/go/README.md")).unwrap();
    for line in page.lines().filter_map(|line| line.strip_prefix("go install ")) {
        let installed = run(Command::new(&go).args(["install", line]).env("GOBIN", &tools)).await;
        if !installed.status.success() {
            println!("skipped: {line} cannot be had: {}", String::from_utf8_lossy(&installed.stderr));
            return;
        }
    }
    let mut protoc = Command::new(&python);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(root().join("proto"));
    for (name, plugin) in [("go", "protoc-gen-go"), ("go-grpc", "protoc-gen-go-grpc")] {
        protoc.arg(format!("--plugin={plugin}={}", tools.join(plugin).display()));
        protoc.arg(format!("--{name}_out={}", module.path().display()));
        protoc.arg(format!("--{name}_opt=module=streamspace"));
    }
    succeed(protoc.args(protos())).await;
    succeed(Command::new(&go).args(["mod", "tidy"]).current_dir(module.path())).await;
    let mut example = Command::new(&go);
    example.args(["run", ".", &stage.address(), "any"]).current_dir(module.path());
    let output = run(example.env("STREAMSPACE_TOKEN", stage.token()).env("NO_PROXY", "*")).await;
    stage.judge(&output).await;
    stage.server.stop().await;
}

#[tokio::test]
async fn one_port_serves_both_and_ends_its_streams_when_it_stops() {
    let Some(stage) = Stage::set().await else { return };
    let channel = stage.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);

    let mut sessions = SessionServiceClient::new(channel.clone());
    let unknown = sessions.list(api::ListSessionsRequest::default()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unauthenticated);
    let spec = Some(api::SessionSpec { base_image: Some("any".into()), ..Default::default() });
    let wait = PATIENCE.try_into().ok();
    let made =
        sessions.create(stage.call(api::CreateSessionRequest { spec, wait, ..Default::default() })).await;
    let made = made.unwrap().into_inner();
    assert_eq!(made.phase(), api::SessionPhase::Running);
    let shown = stage.server.api().get(&format!("/api/v1/sessions/{}", made.id)).await.body;
    assert_eq!((&shown["phase"], &shown["url"]), (&json!("Running"), &json!(made.url)));

    // The other protocol on the same port, byte by byte.
    let mut plain = TcpStream::connect(stage.address()).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    plain.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("{\"status\":\"ok\"}"), "{text}");

    // A stream is open when the server stops: it hears of that, and what it heard last goes on after a restart.
    let mut watch = WatchServiceClient::new(channel);
    let mut stream = watch.watch(stage.call(api::WatchRequest::default())).await.unwrap().into_inner();
    let ready = stream.message().await.unwrap().unwrap();
    assert_eq!(ready.kind(), api::WatchKind::Ready);
    let Stage { server, _installation: installation, _plugins: plugins, _simulated: simulated } = stage;
    let deleted = server.api().delete(&format!("/api/v1/sessions/{}?wait=60s", made.id)).await;
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    let heard = stream.message().await.unwrap().unwrap();
    server.stop().await;
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");

    let server = installation.start();
    let stage = Stage { server, _installation: installation, _plugins: plugins, _simulated: simulated };
    let mut watch = WatchServiceClient::new(stage.channel().await);
    let request = api::WatchRequest { after: Some(heard.cursor), ..Default::default() };
    let mut stream = watch.watch(stage.call(request)).await.unwrap().into_inner();
    let goes_on = async {
        loop {
            let message = stream.message().await.unwrap().unwrap();
            if message.event.is_some_and(|event| event.r#type == "session.deleted") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.expect("it does not go on");
    drop(stream);
    stage.server.stop().await;
}
