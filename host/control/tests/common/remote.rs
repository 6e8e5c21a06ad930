//! A controller that runs elsewhere: a gRPC server over a backend, and what its process says to the API.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use streamspace_call_auth::{Jwks, Trust, VerifierLayer};
use streamspace_proto::controller::v1::controller_service_server::ControllerServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server as GrpcServer, ServerTlsConfig};
use tower::Layer as _;

use super::{Answer, Backend, Server, eventually};

pub const REGISTER: &str = "/api/v1/controllers/register";
pub const JOIN_TOKENS: &str = "/api/v1/admin/join-tokens";

/// A join token for whatever the body says beside its name.
pub async fn join_token(server: &Server, rest: Value) -> Value {
    let mut body = json!({ "name": "test" });
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let made = server.post(JOIN_TOKENS, &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    made.json()
}

/// The secret of a join token for the one controller of this name.
pub async fn door_of(server: &Server, name: &str) -> String {
    let made = join_token(server, json!({"controller_type": "docker", "controller_name": name})).await;
    made["secret"].as_str().unwrap().to_owned()
}

/// The secret of a join token for anybody who is new.
pub async fn open_door(server: &Server) -> String {
    join_token(server, json!({})).await["secret"].as_str().unwrap().to_owned()
}

/// A process of a controller.
pub struct Shell {
    pub address: SocketAddr,
    /// What it registers as.
    pub registration: Value,
    /// Whom it lets call.
    pub trust: Option<Arc<Trust>>,
    pub id: String,
    pub token: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Shell {
    /// Serves, and does not register yet.
    pub async fn start(backend: &Backend, name: &str, instance: Option<&str>) -> Self {
        Self::serve(backend, name, instance, None, None).await
    }

    /// The same, which lets in signed calls only.
    pub async fn strict(backend: &Backend, name: &str) -> Self {
        // Nobody brings newer keys: what is not known is refused.
        let (trust, _) = Trust::new();
        Self::serve(backend, name, None, None, Some(trust)).await
    }

    pub async fn serve(
        backend: &Backend,
        name: &str,
        instance: Option<&str>,
        tls: Option<(Identity, &str)>,
        trust: Option<Arc<Trust>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kind = backend.with(|state| state.controller_type).unwrap_or("docker");
        let mut registration = json!({
            "type": kind,
            "name": name,
            "endpoint": format!("grpc://{address}"),
            "capabilities": { "supports_networking": true, "capacity": { "max_sessions": 50, "memory": "128Gi" } },
            "labels": { "region": "lab" },
        });
        if let Some(instance) = instance {
            registration["instance"] = instance.into();
        }
        let mut grpc = GrpcServer::builder();
        if let Some((identity, ca)) = tls {
            grpc = grpc.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
            registration["endpoint"] = format!("grpcs://localhost:{}", address.port()).into();
            registration["ca"] = ca.into();
        }
        let (stop, incoming) = (CancellationToken::new(), TcpListenerStream::new(listener));
        let service = ControllerServiceServer::new(backend.clone());
        let stopped = stop.clone().cancelled_owned();
        let serving = match trust.clone() {
            Some(trust) => {
                let service = VerifierLayer::new(trust).layer(service);
                tokio::spawn(async move {
                    grpc.add_service(service).serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
                })
            }
            None => tokio::spawn(async move {
                grpc.add_service(service).serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
            }),
        };
        Self { address, registration, trust, id: String::new(), token: String::new(), stop, serving }
    }

    /// Asks to be registered.
    pub async fn ask(&self, server: &Server, token: &str) -> Answer {
        server.call(token, "POST", REGISTER, Some(&self.registration)).await
    }

    /// Is registered.
    pub async fn register(&mut self, server: &Server, token: &str) -> Value {
        let answer = self.ask(server, token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let answer = answer.json();
        self.id = answer["controller_id"].as_str().unwrap().to_owned();
        self.token = answer["auth_token"].as_str().unwrap().to_owned();
        if let Some(trust) = &self.trust {
            let keys: Jwks = serde_json::from_value(answer["keys"].clone()).unwrap();
            trust.registered_as(self.id.clone());
            trust.replace_keys(&keys);
        }
        answer
    }

    /// Gives a sign of life.
    pub async fn beat(&self, server: &Server) -> Answer {
        self.beat_as(server, &self.token, "healthy").await
    }

    pub async fn beat_as(&self, server: &Server, token: &str, status: &str) -> Answer {
        let mut body = json!({
            "status": status,
            "current_sessions": 3,
            "resource_usage": { "memory": "32Gi", "cpu": "8" },
        });
        body["instance"] = self.registration["instance"].clone();
        let path = format!("/api/v1/controllers/{}/heartbeat", self.id);
        server.call(token, "POST", &path, Some(&body)).await
    }

    /// Is not there any more.
    pub async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// A controller as operators see it.
pub async fn controller(server: &Server, id: &str) -> Value {
    server.get(&format!("/api/v1/admin/controllers/{id}")).await.json()
}

/// Waits until a controller has a status, and returns it.
pub async fn is(server: &Server, id: &str, status: &str) -> Value {
    let mut seen = Value::Null;
    eventually(status, async || {
        seen = controller(server, id).await;
        seen["status"] == status
    })
    .await;
    seen
}

/// The audit log's entries of an action, newest first.
pub async fn audited(server: &Server, action: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/admin/audit?limit=500&action={action}")).await;
    page.json()["items"].as_array().unwrap().clone()
}
