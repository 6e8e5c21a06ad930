//! A controller that does what it is told at once, and nothing else: registered, with signs of life and a stream of events.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{Stream, stream};
use hyper::Method;
use serde_json::{Value, json};
use streamspace_proto::controller::v1::controller_service_server::{
    ControllerService, ControllerServiceServer,
};
use streamspace_proto::controller::v1::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::load::Target;

/// It ends with this value.
pub(super) struct Controller {
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Controller {
    /// Serves, registers with a join token, and gives signs of life from then on.
    pub(super) async fn start(join: &Target, number: usize) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let body = json!({
            "type": "bench", "name": format!("bench-{number}"), "endpoint": format!("grpc://{}", listener.local_addr()?),
        });
        let serving = Server::builder()
            .add_service(ControllerServiceServer::new(Simple::default()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("warning: a controller serves no more: {error}");
            }
        });
        let mut connection = join.connect().await?;
        let answer = connection.send(Method::POST, "/api/v1/controllers/register", Some(&body), 200).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let text = |key: &str| answer[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
        let (id, own) = (text("controller_id")?, join.with_token(&text("auth_token")?));
        let pause = seconds(&text("heartbeat_interval")?).context("no interval")?;
        let living = tokio::spawn(async move {
            if let Err(error) = live(&own, &id, pause).await {
                eprintln!("warning: a controller gives no more signs of life: {error:#}");
            }
        });
        Ok(Self { tasks: [serving, living] })
    }
}

async fn live(own: &Target, id: &str, pause: Duration) -> Result<()> {
    let path = format!("/api/v1/controllers/{id}/heartbeat");
    let body = json!({"status": "healthy", "current_sessions": 0});
    let mut connection = own.connect().await?;
    loop {
        connection.send(Method::POST, &path, Some(&body), 200).await?;
        tokio::time::sleep(pause).await;
    }
}

/// Of an interval as a server tells it: `5s`, `333ms`.
fn seconds(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|sign: char| sign.is_ascii_alphabetic())?);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" => number,
        _ => return None,
    };
    Some(Duration::from_secs_f64(seconds))
}

/// The sessions that it was told to make.
#[derive(Default)]
struct Simple(Mutex<HashSet<String>>);

impl Simple {
    fn sessions(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, session_id: String) -> Result<SessionStatusResponse, Status> {
        if !self.sessions().contains(&session_id) {
            return Err(Status::not_found("there is no such session"));
        }
        Ok(running(session_id))
    }
}

fn running(session_id: String) -> SessionStatusResponse {
    SessionStatusResponse { session_id, phase: "Running".to_owned(), ..Default::default() }
}

fn not_offered<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not offered"))
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ControllerService for Simple {
    type GetSessionLogsStream = Events<LogEntry>;
    type WatchSessionsStream = Events<SessionEvent>;
    type OpenTunnelStream = Events<TunnelFrame>;

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let session_id = request.into_inner().session_id;
        self.sessions().insert(session_id.clone());
        let phase = "Running".to_owned();
        Ok(Response::new(CreateSessionResponse { session_id, phase, ..Default::default() }))
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let status = Some(self.status(request.into_inner().session_id)?);
        Ok(Response::new(GetSessionResponse { status, ..Default::default() }))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let session_id = request.into_inner().session_id;
        self.sessions().remove(&session_id);
        Ok(Response::new(DeleteSessionResponse { session_id, success: true, ..Default::default() }))
    }

    async fn hibernate_session(
        &self,
        _: Request<HibernateSessionRequest>,
    ) -> Result<Response<HibernateSessionResponse>, Status> {
        not_offered()
    }

    async fn wake_session(
        &self,
        _: Request<WakeSessionRequest>,
    ) -> Result<Response<WakeSessionResponse>, Status> {
        not_offered()
    }

    async fn get_session_status(
        &self,
        request: Request<GetSessionStatusRequest>,
    ) -> Result<Response<SessionStatusResponse>, Status> {
        self.status(request.into_inner().session_id).map(Response::new)
    }

    async fn get_session_metrics(
        &self,
        _: Request<GetSessionMetricsRequest>,
    ) -> Result<Response<SessionMetricsResponse>, Status> {
        not_offered()
    }

    async fn get_session_logs(
        &self,
        _: Request<GetSessionLogsRequest>,
    ) -> Result<Response<Self::GetSessionLogsStream>, Status> {
        not_offered()
    }

    async fn get_capabilities(
        &self,
        _: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        let controller_type = "bench".to_owned();
        Ok(Response::new(CapabilitiesResponse {
            controller_type,
            supports_watch: true,
            ..Default::default()
        }))
    }

    async fn health_check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let current_sessions = i32::try_from(self.sessions().len()).unwrap_or(i32::MAX);
        let status = "healthy".to_owned();
        Ok(Response::new(HealthCheckResponse { status, current_sessions, ..Default::default() }))
    }

    async fn list_sessions(
        &self,
        _: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let entry = |id: &String| SessionEntry {
            status: Some(running(id.clone())),
            ownership: Ownership::Owned.into(),
            ..Default::default()
        };
        let entries = self.sessions().iter().map(entry).collect();
        Ok(Response::new(ListSessionsResponse { entries, ..Default::default() }))
    }

    async fn watch_sessions(
        &self,
        _: Request<WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        use futures::StreamExt as _;
        // From here on; then nothing ever happens by itself.
        let begin = SessionEvent { resync: true, cursor: "0".to_owned(), ..Default::default() };
        let events = stream::once(async { Ok(begin) }).chain(stream::pending());
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_session_access(
        &self,
        _: Request<GetSessionAccessRequest>,
    ) -> Result<Response<SessionAccessResponse>, Status> {
        not_offered()
    }

    async fn open_tunnel(
        &self,
        _: Request<Streaming<TunnelFrame>>,
    ) -> Result<Response<Self::OpenTunnelStream>, Status> {
        not_offered()
    }
}
