//! A controller over the simulated infrastructure, and its callers.

use std::sync::Arc;

use streamspace_call_auth::{Signer, SignerLayer, SigningKey};
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{CreateSessionRequest, DeleteSessionRequest, SessionSpec};
use streamspace_tests::controller::ControllerProcess;
use streamspace_tests::provided;
use streamspace_tests::simulated::Simulated;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::Layer as _;

use crate::api::{ApiServer, JOIN_TOKEN};

pub type Caller = ControllerServiceClient<Signer<Channel>>;

pub const ID: &str = "ctrl-of-the-test";

/// An API server, an infrastructure, and what a controller between them needs.
pub struct Stage {
    pub api: ApiServer,
    pub simulated: Simulated,
    plugin: String,
}

impl Stage {
    pub async fn new() -> Option<Self> {
        Self::with(ApiServer::start().await)
    }

    pub fn with(api: ApiServer) -> Option<Self> {
        provided("STREAMSPACE_TEST_BIN")?;
        let plugin = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
        Some(Self { api, simulated: Simulated::start()?, plugin })
    }

    /// Starts a controller with the join token, and these arguments beside the usual ones.
    pub fn start(&self, more: &[&str]) -> ControllerProcess {
        self.start_with(JOIN_TOKEN, more)
    }

    pub fn start_with(&self, join_token: &str, more: &[&str]) -> ControllerProcess {
        let endpoint = format!("api=unix://{}", self.simulated.socket().display());
        let arguments = ["--plugin", &self.plugin, "--name", "lab", "--endpoint", &endpoint];
        let mut arguments = arguments.to_vec();
        if !more.contains(&"--listen") {
            arguments.extend(["--listen", "127.0.0.1:0"]);
        }
        arguments.extend(more);
        let variables = [("API_SERVER_URL", self.api.url.as_str()), ("STREAMSPACE_JOIN_TOKEN", join_token)];
        ControllerProcess::start(&arguments, &variables).unwrap()
    }

    /// Starts a controller and waits until it is registered.
    pub fn registered(&self) -> ControllerProcess {
        let controller = self.start(&[]);
        controller.says("registered as", 1);
        controller
    }
}

/// Where it serves.
pub fn address(controller: &ControllerProcess) -> String {
    controller.says("serving on", 1)["address"].as_str().unwrap().to_owned()
}

pub async fn channel(controller: &ControllerProcess) -> Channel {
    Endpoint::new(format!("http://{}", address(controller))).unwrap().connect().await.unwrap()
}

/// Somebody with a key who takes the controller for this one, and means this process of it.
pub async fn caller(controller: &ControllerProcess, key: &Arc<SigningKey>, id: &str) -> Caller {
    let instance = instance(controller);
    caller_of(controller, key, (id, &instance)).await
}

/// Somebody with a key who means this process of this controller.
pub async fn caller_of(
    controller: &ControllerProcess,
    key: &Arc<SigningKey>,
    (id, instance): (&str, &str),
) -> Caller {
    let signer = SignerLayer::new(Arc::clone(key), id).for_instance(instance);
    ControllerServiceClient::new(signer.layer(channel(controller).await))
}

/// Which process it is, once it is registered.
pub fn instance(controller: &ControllerProcess) -> String {
    controller.says("registered as", 1)["instance"].as_str().unwrap().to_owned()
}

pub fn create(session: &str, epoch: u64) -> CreateSessionRequest {
    CreateSessionRequest {
        session_id: session.to_owned(),
        user_id: "alice".to_owned(),
        spec: Some(SessionSpec { base_image: "any".to_owned(), ..Default::default() }),
        generation: 1,
        epoch,
        operation_id: format!("op-{session}"),
        spec_hash: "1".to_owned(),
        ..Default::default()
    }
}

pub fn delete(session: &str, epoch: u64) -> DeleteSessionRequest {
    DeleteSessionRequest {
        session_id: session.to_owned(),
        generation: 2,
        epoch,
        operation_id: format!("op-delete-{session}"),
        ..Default::default()
    }
}

/// The code, and the word for programs.
pub fn refusal(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info();
    (status.code(), info.map(|info| info.reason).unwrap_or_default())
}
