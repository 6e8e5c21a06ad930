//! The probe behind its runtime, as a controller calls it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use streamspace_runtime::contract::types::SessionRef;
use streamspace_runtime::{
    Backend, BackendConfig, BindError, CallError, CallOptions, EndpointConfig, HttpConfig, LimitOverrides,
    Plugin, Runtime, RuntimeConfig,
};
use streamspace_tests::provided;
use tokio::sync::OnceCell;

use crate::server::Server;

/// For calls whose time limit is not the question.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The probe, compiled once for all tests.
pub async fn probe() -> Option<Plugin> {
    static PLUGIN: OnceCell<Plugin> = OnceCell::const_new();
    let file = provided("STREAMSPACE_TEST_HTTP_PROBE")?;
    let load = async || {
        let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
        runtime.load_file(file.as_ref()).await.unwrap()
    };
    Some(PLUGIN.get_or_init(load).await.clone())
}

/// A controller of the probe.
#[derive(Clone)]
pub struct Controller(Backend);

impl Controller {
    /// None without the plugin; a line was printed then.
    pub async fn of(http: HttpConfig) -> Option<Self> {
        Some(Self::try_of(http).await?.unwrap())
    }

    pub async fn at(server: &Server) -> Option<Self> {
        Self::of(HttpConfig::new(&server.url)).await
    }

    pub async fn try_of(http: HttpConfig) -> Option<Result<Self, BindError>> {
        let target = || EndpointConfig::Http(Box::new(http.clone()));
        let config = BackendConfig {
            controller_id: "ctrl-test".to_owned(),
            config: Value::Null,
            endpoints: BTreeMap::from([("api".to_owned(), target()), ("narrow".to_owned(), target())]),
            secrets: BTreeMap::new(),
            limits: LimitOverrides { cpu_ms: Some(20_000), ..Default::default() },
            fence: Default::default(),
        };
        Some(Backend::bind(probe().await?, config).await.map(Self))
    }

    /// What came of each step of a call.
    pub async fn run(&self, steps: Value) -> Vec<Outcome> {
        self.run_within(steps, PATIENCE).await.unwrap()
    }

    pub async fn run_within(&self, steps: Value, timeout: Duration) -> Result<Vec<Outcome>, CallError> {
        let session = SessionRef { session_id: steps.to_string(), node_id: None, external_ref: None };
        let entry = self.0.get(CallOptions::read(timeout), session).await?;
        let told: Vec<Value> = serde_json::from_str(&entry.state.node_id.unwrap()).unwrap();
        Ok(told.into_iter().map(Outcome).collect())
    }

    /// What came of one request.
    pub async fn send(&self, request: Value) -> Outcome {
        self.run(json!([step("send", request)])).await.remove(0)
    }
}

/// A step of a script.
pub fn step(what: &str, mut with: Value) -> Value {
    with["do"] = json!(what);
    with
}

/// What came of a step.
#[derive(Debug)]
pub struct Outcome(pub Value);

impl Outcome {
    pub fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap_or_else(|| panic!("no answer: {self:?}"))
    }

    pub fn body(&self) -> &str {
        self.0["body"].as_str().unwrap()
    }

    pub fn length(&self) -> u64 {
        self.0["length"].as_u64().unwrap()
    }

    pub fn reads(&self) -> Vec<&str> {
        self.0["reads"].as_array().unwrap().iter().map(|read| read.as_str().unwrap()).collect()
    }

    pub fn memo(&self) -> Option<&str> {
        assert!(self.0["error"].is_null(), "{self:?}");
        self.0["memo"].as_str()
    }

    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let pairs = self.0["headers"].as_array().unwrap().iter();
        pairs.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
    }

    /// That it failed in this way. Gives the message.
    pub fn failed(&self, kind: &str) -> String {
        let error = &self.0["error"];
        assert_eq!(error["kind"].as_str(), Some(kind), "{self:?}");
        error["message"].as_str().unwrap().to_owned()
    }

    /// The same, and whether a byte may have left.
    pub fn failed_sent(&self, kind: &str, sent: bool) -> String {
        let message = self.failed(kind);
        assert_eq!(self.0["error"]["ext"], json!([["http.sent", sent.to_string()]]), "{self:?}");
        message
    }
}
