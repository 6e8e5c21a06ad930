//! The built plugin behind the client that control has, over the engine of the tests.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::CreateContainerOptions;
use serde_json::Value;
use streamspace_proto::controller::v1::access_point::Target;
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{
    AccessPoint, Condition, CreateSessionRequest, CreateSessionResponse, DeleteSessionRequest,
    GetSessionAccessRequest, GetSessionLogsRequest, GetSessionMetricsRequest, GetSessionStatusRequest,
    HibernateSessionRequest, HibernateSessionResponse, ListSessionsRequest, LogEntry, Port,
    ResourceRequirements, SessionEvent, SessionMetricsResponse, SessionSpec, SessionStatusResponse,
    WakeSessionRequest, WakeSessionResponse, WatchSessionsRequest, WebAppConfig,
};
use streamspace_runtime::{
    Backend, BackendConfig, EndpointConfig, Plugin, Runtime, RuntimeConfig, SecretSource,
};
use streamspace_shell::{Shell, Transport};
use streamspace_tests::docker::{CONTROLLER, Engine};
use streamspace_tests::{PATIENCE, provided, until};
use tokio::sync::OnceCell;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

/// The plugin, compiled once for all tests.
async fn plugin() -> Option<Plugin> {
    static PLUGIN: OnceCell<Plugin> = OnceCell::const_new();
    let file = PathBuf::from(provided("STREAMSPACE_TEST_PLUGINS")?).join("docker.wasm");
    let load = async || {
        let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
        runtime.load_file(&file).await.unwrap()
    };
    Some(PLUGIN.get_or_init(load).await.clone())
}

fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Marks everything of this run.
fn run() -> String {
    let run = std::env::var("STREAMSPACE_TEST_RUN").unwrap_or_else(|_| "ss-test-alone".to_owned());
    format!("{run}-{:x}", std::process::id())
}

/// A controller of its own over the engine, which ends with nothing left.
pub struct Stage {
    pub engine: Engine,
    pub client: ControllerServiceClient<Transport>,
    pub controller: String,
    pub image: String,
}

impl Stage {
    /// None where the engine or the plugin is missing; a line was printed then.
    pub async fn new() -> Option<Self> {
        Self::with(|_| {}).await
    }

    /// The same with another configuration.
    pub async fn with(change: impl FnOnce(&mut BackendConfig)) -> Option<Self> {
        let socket = provided("STREAMSPACE_TEST_DOCKER")?;
        let controller = format!("{}-{}", run(), number());
        let mut config = BackendConfig {
            controller_id: controller.clone(),
            config: Value::Null,
            endpoints: BTreeMap::from([("engine".to_owned(), endpoint(&socket))]),
            secrets: BTreeMap::new(),
            limits: Default::default(),
            fence: Default::default(),
        };
        change(&mut config);
        let backend = Backend::bind(plugin().await?, config).await.unwrap();
        Some(Self {
            engine: Engine::connect().await?,
            client: ControllerServiceClient::new(Shell::new(backend).into_transport()),
            controller,
            image: provided("STREAMSPACE_TEST_IMAGE")?,
        })
    }

    pub async fn end(self) {
        self.engine.clean(&self.controller).await;
    }

    /// A session with a web server.
    pub fn request(&self) -> CreateSessionRequest {
        CreateSessionRequest {
            session_id: format!("{}-s{}", run(), number()),
            user_id: format!("älice@{}", self.controller),
            spec: Some(SessionSpec {
                base_image: self.image.clone(),
                resources: Some(ResourceRequirements {
                    memory: "64Mi".into(),
                    cpu: "500m".into(),
                    storage: String::new(),
                }),
                ports: vec![Port { name: "http".into(), container_port: 3000, protocol: String::new() }],
                webapp: Some(WebAppConfig { enabled: true, port: 3000, ..Default::default() }),
                ..Default::default()
            }),
            spec_hash: "one".into(),
            epoch: 7,
            ..Default::default()
        }
    }

    /// A session that runs a shell script instead of the image's program.
    pub fn script(&self, script: &str) -> CreateSessionRequest {
        let command = serde_json::json!({ "command": ["/bin/sh", "-c", script] });
        CreateSessionRequest { controller_config: command.to_string(), ..self.request() }
    }

    /// One step of a create.
    pub async fn step(&self, request: &CreateSessionRequest) -> Result<CreateSessionResponse, Status> {
        self.client.clone().create_session(limited(request.clone())).await.map(tonic::Response::into_inner)
    }

    /// Creates a session that needs no pull.
    pub async fn create(&self, request: &CreateSessionRequest) -> CreateSessionResponse {
        let created = self.step(request).await.unwrap();
        assert!(!created.in_progress, "{created:?}");
        created
    }

    pub async fn status(&self, id: &str) -> Result<SessionStatusResponse, Status> {
        let request = GetSessionStatusRequest { session_id: id.into(), ..Default::default() };
        self.client.clone().get_session_status(limited(request)).await.map(tonic::Response::into_inner)
    }

    /// Waits for a phase.
    pub async fn phase(&self, id: &str, phase: &str) -> SessionStatusResponse {
        until(&format!("{phase} of {id}"), async || {
            Some(self.status(id).await.unwrap()).filter(|status| status.phase == phase)
        })
        .await
    }

    pub async fn hibernate(&self, id: &str) -> Result<HibernateSessionResponse, Status> {
        let request = HibernateSessionRequest { session_id: id.into(), ..Default::default() };
        self.client.clone().hibernate_session(limited(request)).await.map(tonic::Response::into_inner)
    }

    pub async fn wake(&self, id: &str) -> Result<WakeSessionResponse, Status> {
        let request = WakeSessionRequest { session_id: id.into(), ..Default::default() };
        self.client.clone().wake_session(limited(request)).await.map(tonic::Response::into_inner)
    }

    /// Deletes until the backend says that it is done. With a user: the home, too.
    pub async fn delete(&self, id: &str, purge: Option<&str>) -> Result<(), Status> {
        let request = DeleteSessionRequest {
            session_id: id.into(),
            purge_home: purge.is_some(),
            user_id: purge.unwrap_or_default().into(),
            ..Default::default()
        };
        until(&format!("the end of {id}"), async || {
            match self.client.clone().delete_session(limited(request.clone())).await {
                Ok(answer) => answer.into_inner().success.then_some(Ok(())),
                Err(status) => Some(Err(status)),
            }
        })
        .await
    }

    pub async fn metrics(&self, id: &str) -> Result<SessionMetricsResponse, Status> {
        let request = GetSessionMetricsRequest { session_id: id.into(), ..Default::default() };
        self.client.clone().get_session_metrics(limited(request)).await.map(tonic::Response::into_inner)
    }

    pub async fn access(&self, id: &str, service: &str) -> Result<Vec<AccessPoint>, Status> {
        let request =
            GetSessionAccessRequest { session_id: id.into(), service: service.into(), ..Default::default() };
        self.client
            .clone()
            .get_session_access(limited(request))
            .await
            .map(|answer| answer.into_inner().points)
    }

    /// What the session's web server answers, at the address where it is now.
    pub async fn fetch(&self, id: &str, path: &str) -> String {
        let points = self.access(id, "web").await.unwrap();
        let Some(Target::Http(target)) = &points[0].target else { panic!("{points:?}") };
        assert!(target.base_url.starts_with("http://127.0.0.1:"), "{}", target.base_url);
        // Another test has installed it already, or does so now.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        // The container is up before its server is.
        until("an answer of the session", async || {
            let answer = client.get(format!("{}{path}", target.base_url)).send().await.ok()?;
            answer.error_for_status().ok()?.text().await.ok()
        })
        .await
    }

    pub async fn logs(&self, request: GetSessionLogsRequest) -> Result<Streaming<LogEntry>, Status> {
        self.client.clone().get_session_logs(request).await.map(tonic::Response::into_inner)
    }

    /// The whole output up to now.
    pub async fn output(&self, id: &str, tail_lines: i32) -> Vec<LogEntry> {
        let request = GetSessionLogsRequest { session_id: id.into(), tail_lines, ..Default::default() };
        rest(&mut self.logs(request).await.unwrap()).await
    }

    pub async fn watch(&self, cursor: &str) -> Result<Streaming<SessionEvent>, Status> {
        let request = WatchSessionsRequest { cursor: cursor.into() };
        self.client.clone().watch_sessions(request).await.map(tonic::Response::into_inner)
    }

    /// Ids of all sessions in a listing.
    pub async fn listed(&self) -> Vec<SessionStatusResponse> {
        let answer =
            self.client.clone().list_sessions(limited(ListSessionsRequest::default())).await.unwrap();
        answer.into_inner().entries.into_iter().map(|entry| entry.status.unwrap()).collect()
    }

    pub async fn container(&self, id: &str) -> ContainerInspectResponse {
        self.engine.inspect(&name(id)).await
    }

    /// A container made by hand, and not started.
    pub async fn by_hand(&self, name: &str, labels: &[(&str, &str)]) {
        let options = CreateContainerOptions { name: Some(name.to_owned()), platform: String::new() };
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            labels: Some(labels.collect::<HashMap<_, _>>()),
            ..Default::default()
        };
        self.engine.0.create_container(Some(options), body).await.unwrap();
    }

    /// The same with the marks of this controller and of a session.
    pub async fn by_hand_as(&self, request: &CreateSessionRequest) {
        let labels = [
            (CONTROLLER, self.controller.as_str()),
            ("streamspace.session_id", request.session_id.as_str()),
            ("streamspace.spec_hash", request.spec_hash.as_str()),
        ];
        self.by_hand(&name(&request.session_id), &labels).await;
    }
}

pub fn endpoint(socket: &str) -> EndpointConfig {
    EndpointConfig::Docker(format!("unix://{socket}"))
}

pub fn secret(path: PathBuf) -> SecretSource {
    SecretSource::File(path)
}

/// The container of a session.
pub fn name(id: &str) -> String {
    format!("ss-{id}")
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// The next message; it must come.
pub async fn next<T>(stream: &mut Streaming<T>) -> T {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("a message in time");
    message.unwrap().expect("another message")
}

/// All messages until the end.
pub async fn rest<T>(stream: &mut Streaming<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(message) =
        tokio::time::timeout(PATIENCE, stream.message()).await.expect("the end in time").unwrap()
    {
        all.push(message);
    }
    all
}

pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> &'a Condition {
    conditions.iter().find(|condition| condition.r#type == kind).unwrap_or_else(|| panic!("{conditions:?}"))
}

/// That a call was refused in this way.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code) -> Status {
    let status = result.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    status
}

/// The field at fault.
pub fn field(status: &Status) -> String {
    let details = status.get_details_bad_request();
    details.map(|details| details.field_violations[0].field.clone()).unwrap_or_default()
}

/// For what must not happen within a time.
pub const SHORT: Duration = Duration::from_millis(500);
