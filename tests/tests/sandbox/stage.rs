//! The hostile plugin behind the client that control has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{
    CreateSessionRequest, CreateSessionResponse, GetSessionStatusRequest, SessionSpec, SessionStatusResponse,
};
use streamspace_runtime::{
    Backend, BackendConfig, EndpointConfig, LimitOverrides, Plugin, Runtime, RuntimeConfig,
};
use streamspace_shell::{Shell, Transport};
use streamspace_tests::provided;
use tokio::sync::OnceCell;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// For calls whose time limit is not the question.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that is not there, for what must be refused before anybody asks it.
pub const NOWHERE: &str = "unix:///nonexistent/docker.sock";

/// Where the hostile plugin is.
pub fn hostile_file() -> Option<PathBuf> {
    provided("STREAMSPACE_TEST_HOSTILE").map(PathBuf::from)
}

/// The same plugin with another digest: one byte more in a section that means nothing.
pub fn another_version(mut wasm: Vec<u8>) -> Vec<u8> {
    wasm.extend(b"\0\x02\x01x");
    wasm
}

/// The hostile plugin, compiled once for all tests.
pub async fn hostile() -> Option<Plugin> {
    static PLUGIN: OnceCell<Plugin> = OnceCell::const_new();
    let file = hostile_file()?;
    let load = async || {
        let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
        runtime.load_file(&file).await.unwrap()
    };
    Some(PLUGIN.get_or_init(load).await.clone())
}

/// A configuration with the one endpoint that the plugin asks for.
pub fn config(engine: &str) -> BackendConfig {
    BackendConfig {
        controller_id: "ctrl-test".to_owned(),
        config: serde_json::Value::Null,
        endpoints: BTreeMap::from([("engine".to_owned(), EndpointConfig::Docker(engine.to_owned()))]),
        secrets: BTreeMap::new(),
        limits: limits(1000),
        ..Default::default()
    }
}

/// A budget of processor time in milliseconds, so that an endless loop does not take the test's time as well.
pub fn limits(cpu_ms: u64) -> LimitOverrides {
    LimitOverrides { cpu_ms: Some(cpu_ms), ..Default::default() }
}

/// A controller over the hostile plugin.
#[derive(Clone)]
pub struct Controller {
    pub client: ControllerServiceClient<Transport>,
}

impl Controller {
    /// None without the plugin; a line was printed then.
    pub async fn new() -> Option<Self> {
        Self::with(config(NOWHERE)).await
    }

    pub async fn with(config: BackendConfig) -> Option<Self> {
        Some(Self::of(hostile().await?, config).await)
    }

    pub async fn of(plugin: Plugin, config: BackendConfig) -> Self {
        Self::over(Backend::bind(plugin, config).await.unwrap())
    }

    pub fn over(backend: Backend) -> Self {
        Self { client: ControllerServiceClient::new(Shell::new(backend).into_transport()) }
    }

    /// A create that does what the word says.
    pub async fn create(&self, word: &str) -> Result<CreateSessionResponse, Status> {
        self.create_within(word, PATIENCE).await
    }

    pub async fn create_within(
        &self,
        word: &str,
        timeout: Duration,
    ) -> Result<CreateSessionResponse, Status> {
        self.create_as(&session_id(), word, timeout).await
    }

    /// The same for a session that other calls are about as well.
    pub async fn create_as(
        &self,
        session: &str,
        word: &str,
        timeout: Duration,
    ) -> Result<CreateSessionResponse, Status> {
        let request = CreateSessionRequest {
            session_id: session.to_owned(),
            user_id: "alice".to_owned(),
            spec: Some(SessionSpec { base_image: word.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        self.client.clone().create_session(limited(request, timeout)).await.map(tonic::Response::into_inner)
    }

    /// A call that only looks, and does what the word says.
    pub async fn look(&self, word: &str, timeout: Duration) -> Result<SessionStatusResponse, Status> {
        let request = GetSessionStatusRequest { session_id: word.to_owned(), ..Default::default() };
        self.client
            .clone()
            .get_session_status(limited(request, timeout))
            .await
            .map(tonic::Response::into_inner)
    }

    /// That a call fails in this way, and that the next one works. Gives what was said.
    pub async fn refuses(&self, word: &str, code: Code, reason: &str) -> String {
        let status = self.create(word).await.expect_err(word);
        let message = expect(&status, word, code, reason);
        self.works().await;
        message
    }

    /// That this controller still serves.
    pub async fn works(&self) {
        let answer = self.create("good").await.expect("the next call of the same controller");
        assert_eq!(answer.phase, "Running");
        assert_eq!(answer.node_id, "1", "every call has an instance of its own");
    }
}

/// That a status has this code and this reason. Gives its message.
pub fn expect(status: &Status, what: &str, code: Code, reason: &str) -> String {
    assert_eq!((status.code(), self::reason(status).as_str()), (code, reason), "{what}: {status:?}");
    status.message().to_owned()
}

/// The reason in `google.rpc.ErrorInfo`.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// A session that no other call is about: calls for one session wait for each other.
pub fn session_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn limited<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}
