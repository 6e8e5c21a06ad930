//! A controller in Python, which offers no more than the core of the contract, at a real server: sessions live their whole
//! life on it, outlive it, and are found again. It passes the conformance checks that apply.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use streamspace_call_auth::{SignerLayer, SigningKey};
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{
    GetCapabilitiesRequest, GetSessionRequest, HealthCheckRequest, ListSessionsRequest,
};
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::{provided, until};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tower::{Layer as _, ServiceExt as _};

const CALLS: &str = "/streamspace.controller.v1.ControllerService";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A server without a controller of its own, and what the one in Python needs.
struct Stage {
    server: Server,
    installation: Installation,
    python: String,
    generated: TempDir,
    /// Where the controller has its sessions.
    folder: TempDir,
    join_token: String,
}

/// The process of the controller. It is killed with this value; its sessions go on.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Stage {
    async fn set() -> Option<Self> {
        let python = provided("STREAMSPACE_TEST_PYTHON")?;
        let installation = Installation::new()?.config("[health]\nlease = \"3s\"\ninterval = \"1s\"\n");
        let generated = tempfile::tempdir().unwrap();
        let protos = root().join("proto");
        let mut protoc = Command::new(&python);
        protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&protos);
        protoc.arg(format!("--python_out={}", generated.path().display()));
        protoc.arg(protos.join("streamspace/controller/v1/controller.proto"));
        assert!(protoc.status().unwrap().success());
        let server = installation.start();
        let token = server
            .api()
            .post(
                "/api/v1/admin/join-tokens",
                &json!({"name": "lab", "controller_type": "process", "controller_name": "lab"}),
            )
            .await;
        assert_eq!(token.status, 201, "{:?}", token.body);
        let join_token = token.body["secret"].as_str().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        Some(Self { server, installation, python, generated, folder, join_token })
    }

    /// Starts the controller and waits until it is called where this process of it serves.
    async fn start(&self) -> (Controller, String) {
        let before = self.controllers().await;
        let child = Command::new(&self.python)
            .arg(root().join("examples/python-controller/controller.py"))
            .arg("lab")
            .arg(self.folder.path())
            .env("PYTHONPATH", self.generated.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NO_PROXY", "*")
            .env("API_SERVER_URL", self.server.url())
            .env("STREAMSPACE_JOIN_TOKEN", &self.join_token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let controller = Controller(child);
        let old = before.first().map(|one| one["endpoint"].clone());
        let found = until("the controller is called", async || {
            let all = self.controllers().await;
            assert!(all.len() <= 1, "it is one controller, however often it starts: {all:?}");
            let found = all.into_iter().next()?;
            (found["status"] == "healthy" && Some(&found["endpoint"]) != old.as_ref()).then_some(found)
        })
        .await;
        (controller, found["endpoint"].as_str().unwrap().to_owned())
    }

    async fn controllers(&self) -> Vec<Value> {
        let all = self.server.api().get("/api/v1/admin/controllers").await.body;
        all.as_array().unwrap().clone()
    }

    async fn id(&self) -> String {
        self.controllers().await[0]["id"].as_str().unwrap().to_owned()
    }

    /// A session that runs.
    async fn session(&self) -> String {
        let made = self.server.api().create_running(&body()).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// What a session's page says, once it can be opened.
    async fn opened(&self, session: &str) {
        let api = self.server.api();
        until("the session is opened", async || {
            let page = api.get(&format!("/s/{session}/")).await;
            (page.status == 200).then(|| assert_eq!(page.body, json!(format!("session {session}\n"))))
        })
        .await;
    }

    /// Processes of the controller's sessions, with what they serve.
    fn processes(&self) -> BTreeMap<u32, PathBuf> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            // One that has ended meanwhile has none.
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let served = line.split(|byte| *byte == 0).rev().nth(1).unwrap_or_default();
            let served = PathBuf::from(String::from_utf8_lossy(served).into_owned());
            if served.starts_with(self.folder.path()) && served.ends_with("www") {
                found.insert(pid, served);
            }
        }
        found
    }

    fn signing_key(&self) -> PathBuf {
        self.installation.data().join("call-signing.key")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What a test that failed left.
        for pid in self.processes().into_keys() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    }
}

fn body() -> Value {
    let ports = json!([{"name": "web", "container_port": 80}]);
    json!({"user_id": "alice", "spec": {"base_image": "http.server", "ports": ports}, "controller_type": "process"})
}

async fn channel(endpoint: &str) -> Channel {
    let address = endpoint.replace("grpc://", "http://");
    Endpoint::from_shared(address).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lives_its_whole_life_on_it() {
    let Some(stage) = Stage::set().await else { return };
    let _controller = stage.start().await;
    let api = stage.server.api();
    let session = stage.session().await;
    stage.opened(&session).await;
    let path = format!("/api/v1/sessions/{session}");
    let access = api.get(&format!("{path}/access")).await;
    assert_eq!(access.body["services"][0]["url"], format!("/s/{session}/"), "{}", access.body);
    let metrics = api.get(&format!("{path}/metrics")).await;
    assert!(metrics.body["usage"]["memory_bytes"].as_u64().unwrap() > 0, "{}", metrics.body);
    let logs = api.get(&format!("{path}/logs")).await;
    assert!(logs.body["items"][0]["message"].as_str().unwrap().starts_with("Serving HTTP"), "{}", logs.body);

    api.post(&format!("{path}/hibernate"), &json!({})).await;
    api.wait_for_phase(&session, "Hibernated").await;
    assert!(stage.processes().is_empty(), "what is hibernated does not run");
    assert_eq!(api.get(&format!("/s/{session}/")).await.status, 503);
    api.post(&format!("{path}/wake"), &json!({})).await;
    api.wait_for_phase(&session, "Running").await;
    stage.opened(&session).await;

    assert_eq!(api.delete(&path).await.status, 202);
    api.wait_for_gone(&session).await;
    assert!(stage.processes().is_empty());
    assert_eq!(std::fs::read_dir(stage.folder.path()).unwrap().count(), 0, "nothing is left of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_cannot_do_is_refused_in_its_own_words() {
    let Some(stage) = Stage::set().await else { return };
    let _controller = stage.start().await;
    let api = stage.server.api();
    for (change, words) in [
        (json!({"base_image": "somebody/else"}), "spec.base_image: there is only http.server"),
        (json!({"volume_mounts": [{"name": "a", "mount_path": "/a"}]}), "nothing is kept here"),
    ] {
        let mut body = body();
        body["spec"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let made = api.try_create("/api/v1/sessions", &body).await.unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
        let id = made.body["id"].as_str().unwrap();
        let failed = api.wait_for_phase(id, "Failed").await;
        assert!(failed["status"]["conditions"].to_string().contains(words), "{failed}");
        assert_eq!(api.delete(&format!("/api/v1/sessions/{id}?wait=60s")).await.status, 204);
    }
    // A home that is to be kept is never tried: it says that it keeps none.
    let mut body = body();
    body["spec"]["persistent_home"] = json!(true);
    let refused = api.post("/api/v1/sessions", &body).await;
    assert_ne!(refused.body["phase"], "Running", "{}", refused.body);
    assert!(stage.processes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_it_and_are_found_again() {
    let Some(stage) = Stage::set().await else { return };
    let (controller, _) = stage.start().await;
    let api = stage.server.api();
    let (running, asleep) = (stage.session().await, stage.session().await);
    api.post(&format!("/api/v1/sessions/{asleep}/hibernate"), &json!({})).await;
    api.wait_for_phase(&asleep, "Hibernated").await;
    let before = stage.processes();
    assert_eq!(before.len(), 1, "{before:?}");

    // SIGKILL.
    drop(controller);
    let reachable = async |session: &str| {
        let session = api.get(&format!("/api/v1/sessions/{session}")).await.body;
        let conditions = session["status"]["conditions"].as_array().unwrap().clone();
        let found = conditions.into_iter().find(|one| one["type"] == "ControllerReachable");
        (found.is_none_or(|one| one["status"] == "True"), session)
    };
    for (session, phase) in [(&running, "Running"), (&asleep, "Hibernated")] {
        let away = until("the controller is known to be away", async || {
            let (reachable, session) = reachable(session).await;
            (!reachable).then_some(session)
        })
        .await;
        assert_eq!(away["phase"], phase, "{away}");
    }
    assert_eq!(stage.processes(), before, "sessions go on without it");

    let _controller = stage.start().await;
    for session in [&running, &asleep] {
        until("the controller is known to be back", async || reachable(session).await.0.then_some(())).await;
    }
    stage.opened(&running).await;
    assert_eq!(stage.processes(), before, "they are the same, and none is doubled");
    api.post(&format!("/api/v1/sessions/{asleep}/wake"), &json!({})).await;
    api.wait_for_phase(&asleep, "Running").await;
    stage.opened(&asleep).await;
    assert_eq!(stage.processes().len(), 2);
    for session in [running, asleep] {
        assert_eq!(api.delete(&format!("/api/v1/sessions/{session}?wait=60s")).await.status, 204);
    }
    assert!(stage.processes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_calls_of_its_server_only_and_each_once() {
    let Some(stage) = Stage::set().await else { return };
    let (_controller, endpoint) = stage.start().await;
    let channel = channel(&endpoint).await;
    let mut unsigned = ControllerServiceClient::new(channel.clone());
    let refused = unsigned.get_capabilities(GetCapabilitiesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");

    let id = stage.id().await;
    let servers = SigningKey::load_or_create(&stage.signing_key()).unwrap();
    let servers = Arc::new(servers);
    let stranger = Arc::new(SigningKey::generate().unwrap().0);
    for (key, audience, taken) in
        [(&servers, id.as_str(), true), (&stranger, id.as_str(), false), (&servers, "ctrl-other", false)]
    {
        let signer = SignerLayer::new(Arc::clone(key), audience).layer(channel.clone());
        let answer = ControllerServiceClient::new(signer).get_capabilities(GetCapabilitiesRequest {}).await;
        assert_eq!(answer.as_ref().err().map(tonic::Status::code), (!taken).then_some(Code::Unauthenticated));
    }

    // A signature that somebody has overheard.
    let overheard = Arc::new(std::sync::Mutex::new(None));
    let heard = Arc::clone(&overheard);
    let listening = channel.clone().map_request(move |request: http::Request<tonic::body::Body>| {
        *heard.lock().unwrap() = request.headers().get("authorization").cloned();
        request
    });
    let signer = SignerLayer::new(Arc::clone(&servers), id.as_str()).layer(listening);
    ControllerServiceClient::new(signer).health_check(HealthCheckRequest {}).await.unwrap();
    let signature = overheard.lock().unwrap().take().unwrap();
    let signature: MetadataValue<_> = signature.to_str().unwrap().parse().unwrap();
    let mut again = Request::new(HealthCheckRequest {});
    again.metadata_mut().insert("authorization", signature.clone());
    let refused = unsigned.health_check(again).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message().contains("it was made before")),
        (Code::Unauthenticated, true)
    );
    let mut other = Request::new(GetSessionRequest { session_id: "a".into(), ..Default::default() });
    other.metadata_mut().insert("authorization", signature);
    let refused = unsigned.get_session(other).await.unwrap_err();
    assert_eq!((refused.code(), refused.message().contains("another call")), (Code::Unauthenticated, true));

    // What it does not offer, it says so of.
    let signer = SignerLayer::new(servers, id.as_str()).layer(channel);
    let answer = ControllerServiceClient::new(signer).list_sessions(ListSessionsRequest::default()).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{CALLS}/ListSessions");
}

/// Checks that have no meaning on it, by what they need.
const NOT_APPLICABLE: &[(&str, &[&str])] = &[
    ("the controller does not offer ListSessions", &["C19-"]),
    ("the controller does not offer access", &["B06-access", "B06-unknown-service", "D31-"]),
    ("the controller does not offer watch", &["C25-"]),
    (
        "the controller does not offer persistent storage",
        &["B12-sizes", "D27-", "D29-wake", "E36-nothing", "E37-"],
    ),
    (
        "there is no fixture for this backend",
        &[
            "B12-full",
            "B13-",
            "B14-lost-backend",
            "B16-",
            "C18-",
            "C20-",
            "C24-",
            "D26-",
            "D29-running",
            "E32-delete-paused",
        ],
    ),
    ("there is no fixture for this backend", &["E36-delete", "E38-", "G44-", "G48-"]),
    ("the controller does not run in this process", &["A03-", "A05-", "F39-"]),
    ("the recipe names no session that fails", &["C23-", "E32-delete-failed"]),
    ("the recipe names no image that is malformed", &["B11-malformed"]),
    ("the recipe names no handles of other versions", &["F40-recorded"]),
    ("the recipe's sessions write no logs", &["G47-logs", "G47-cancelled"]),
    ("every call was done in one step", &["F40-altered"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_passes_the_conformance_checks_that_apply() {
    let Some(stage) = Stage::set().await else { return };
    let (_controller, endpoint) = stage.start().await;
    let program = provided("STREAMSPACE_TEST_BIN").unwrap();
    let check = |more: &[&str]| {
        let mut command = tokio::process::Command::new(&program);
        command
            .args(["controller", "check", &endpoint, "--image", "http.server", "--report", "json"])
            .args(more);
        command.kill_on_drop(true);
        command
    };
    let (id, key) = (stage.id().await, stage.signing_key());
    let refused = check(&[]).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not signed"), "{refused:?}");

    let key = key.to_str().unwrap();
    let signed = ["--id", &id, "--signing-key", key, "--missing-image", "somebody/else"];
    let judged = check(&signed).output().await.unwrap();
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    let report: Value =
        serde_json::from_slice(&judged.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(report["controller_type"], "process");
    let checks = report["checks"].as_array().unwrap();
    let of = |verdict: &str| checks.iter().filter(|check| check["verdict"] == verdict).collect::<Vec<_>>();
    assert!(judged.status.success(), "{:#?} {said}", of("failed"));
    for left_out in of("not applicable") {
        let (id, reason) = (left_out["id"].as_str().unwrap(), left_out["reason"].as_str().unwrap());
        let expected = NOT_APPLICABLE
            .iter()
            .any(|(why, ids)| reason.starts_with(why) && ids.iter().any(|prefix| id.starts_with(prefix)));
        assert!(expected, "{id}: {reason}");
    }
    assert!(of("passed").len() >= 30, "{report:#}");
    assert!(stage.processes().is_empty(), "the checks leave nothing");
}
