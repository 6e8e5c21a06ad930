//! A controller that does what a test tells it to, and the server over it.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

pub mod live;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use streamspace_control::{Control, ControlConfig, ControllerId, ControllerTransport, Registration};
use streamspace_proto::controller::v1::controller_service_server::{
    ControllerService, ControllerServiceServer,
};
use streamspace_proto::controller::v1::*;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};
use tower::ServiceExt as _;

/// What the backend does with the next call of a kind.
#[derive(Clone)]
pub enum Act {
    /// Refuse.
    Fail(Status),
    /// Do it, and lose the reply.
    DoAndFail(Status),
    /// Say that it takes time; this handle has to come back.
    Progress(&'static str),
    /// Do it, but only when there is a permit.
    Wait(Arc<Semaphore>),
    /// Take it, without being there yet.
    Accept,
    /// Panic.
    Panic,
}

/// A call as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub rpc: &'static str,
    pub session: String,
    pub operation: String,
    pub epoch: u64,
    pub handle: Vec<u8>,
    pub purge_home: bool,
    pub user: String,
}

#[derive(Default)]
pub struct State {
    /// Session id to phase.
    pub objects: HashMap<String, String>,
    /// How often an object was made.
    pub made: u32,
    pub script: HashMap<&'static str, VecDeque<Act>>,
    pub seen: Vec<Seen>,
    /// Mutations under way for one session, and whether there ever were two at once.
    busy: HashMap<String, u32>,
    pub overlapped: bool,
    /// The highest epoch seen.
    epoch: u64,
    pub health: Option<Status>,
    pub no_list: bool,
    /// Listing never ends.
    pub hang_list: bool,
    pub lists: u32,
    /// What the backend says about being ready, by session.
    pub ready: HashMap<String, Condition>,
    pub max_sessions: i32,
    pub last_create: Option<CreateSessionRequest>,
    /// What each session wrote; the cursor of a line is its number.
    pub output: Vec<String>,
    /// Streams of output that somebody reads.
    pub readers: u32,
    /// A stream that follows ends when it has come this far.
    pub output_ended: bool,
    pub metrics: Option<SessionMetricsResponse>,
    pub access: Vec<AccessPoint>,
}

/// Counts a reader for as long as its stream is there.
struct Reader(Backend);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.with(|state| state.readers -= 1);
    }
}

/// The backend. It outlives the server that a test restarts.
#[derive(Clone, Default)]
pub struct Backend(Arc<Mutex<State>>);

impl Backend {
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    pub fn script(&self, rpc: &'static str, acts: impl IntoIterator<Item = Act>) {
        self.with(|state| state.script.entry(rpc).or_default().extend(acts));
    }

    pub fn calls(&self, rpc: &str) -> Vec<Seen> {
        self.with(|state| state.seen.iter().filter(|seen| seen.rpc == rpc).cloned().collect())
    }

    pub fn transport(&self) -> ControllerTransport {
        let server = ControllerServiceServer::new(self.clone());
        ControllerTransport::new(tower::util::MapErr::new(server, |never: std::convert::Infallible| {
            match never {}
        }))
    }

    /// Runs one mutation as the script says; `Ok(None)` = done.
    async fn mutate(&self, seen: Seen, done: impl FnOnce(&mut State)) -> Result<Option<Act>, Status> {
        let (rpc, session) = (seen.rpc, seen.session.clone());
        let act = self.with(|state| {
            let epoch = seen.epoch;
            state.seen.push(seen);
            // The rule of the real shell.
            if epoch < state.epoch {
                return Err(Status::aborted(format!("epoch {epoch} is over; {} is driving", state.epoch)));
            }
            state.epoch = epoch;
            let busy = state.busy.entry(session.clone()).or_default();
            *busy += 1;
            state.overlapped |= *busy > 1;
            Ok(state.script.get_mut(rpc).and_then(VecDeque::pop_front))
        })?;
        if let Some(Act::Wait(gate)) = &act {
            gate.acquire().await.unwrap().forget();
        }
        self.with(|state| {
            *state.busy.get_mut(&session).unwrap() -= 1;
            match act {
                Some(Act::Fail(status)) => Err(status),
                Some(Act::Panic) => Ok(Some(Act::Panic)),
                Some(Act::Progress(_)) => Ok(act),
                Some(Act::DoAndFail(status)) => {
                    done(state);
                    Err(status)
                }
                Some(Act::Accept) => {
                    done(state);
                    state.objects.insert(session, "Pending".into());
                    Ok(Some(Act::Accept))
                }
                Some(Act::Wait(_)) | None => {
                    done(state);
                    Ok(None)
                }
            }
        })
    }
}

#[tonic::async_trait]
impl ControllerService for Backend {
    type GetSessionLogsStream = BoxStream<'static, Result<LogEntry, Status>>;
    type WatchSessionsStream = BoxStream<'static, Result<SessionEvent, Status>>;
    type OpenTunnelStream = BoxStream<'static, Result<TunnelFrame, Status>>;

    async fn create_session(
        &self,
        request: tonic::Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"), "every call has a deadline");
        let request = request.into_inner();
        let id = request.session_id.clone();
        let seen = Seen {
            rpc: "create",
            session: id.clone(),
            operation: request.operation_id.clone(),
            epoch: request.epoch,
            handle: request.handle.clone(),
            purge_home: false,
            user: request.user_id.clone(),
        };
        self.with(|state| state.last_create = Some(request));
        let act = self
            .mutate(seen, |state| {
                if state.objects.insert(id.clone(), "Running".into()).is_none() {
                    state.made += 1;
                }
            })
            .await?;
        let answer = CreateSessionResponse {
            session_id: id.clone(),
            node_id: format!("node-{id}"),
            ..Default::default()
        };
        Ok(Response::new(match act {
            Some(Act::Progress(handle)) => CreateSessionResponse {
                in_progress: true,
                handle: handle.as_bytes().to_vec(),
                message: format!("working on {handle}"),
                ..answer
            },
            Some(Act::Accept) => CreateSessionResponse { phase: "Pending".into(), ..answer },
            Some(Act::Panic) => panic!("on purpose"),
            _ => CreateSessionResponse { phase: "Running".into(), ..answer },
        }))
    }

    async fn delete_session(
        &self,
        request: tonic::Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let request = request.into_inner();
        let id = request.session_id.clone();
        let seen = Seen {
            rpc: "delete",
            session: id.clone(),
            operation: request.operation_id,
            epoch: request.epoch,
            handle: request.handle,
            purge_home: request.purge_home,
            user: request.user_id,
        };
        let act = self.mutate(seen, |state| drop(state.objects.remove(&id))).await?;
        Ok(Response::new(match act {
            Some(Act::Progress(handle)) => DeleteSessionResponse {
                in_progress: true,
                handle: handle.as_bytes().to_vec(),
                ..Default::default()
            },
            _ => DeleteSessionResponse { session_id: id, success: true, ..Default::default() },
        }))
    }

    async fn wake_session(
        &self,
        request: tonic::Request<WakeSessionRequest>,
    ) -> Result<Response<WakeSessionResponse>, Status> {
        let request = request.into_inner();
        let id = request.session_id.clone();
        let seen = Seen {
            rpc: "wake",
            session: id.clone(),
            operation: request.operation_id,
            epoch: request.epoch,
            handle: request.handle,
            purge_home: false,
            user: String::new(),
        };
        self.mutate(seen, |state| drop(state.objects.insert(id, "Running".into()))).await?;
        Ok(Response::new(WakeSessionResponse { phase: "Running".into(), ..Default::default() }))
    }

    async fn get_session_status(
        &self,
        request: tonic::Request<GetSessionStatusRequest>,
    ) -> Result<Response<SessionStatusResponse>, Status> {
        let id = request.into_inner().session_id;
        let phase = self.with(|state| state.objects.get(&id).cloned());
        let phase = phase.ok_or_else(|| Status::not_found("no such session"))?;
        Ok(Response::new(SessionStatusResponse { session_id: id, phase, ..Default::default() }))
    }

    async fn list_sessions(
        &self,
        request: tonic::Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        // Two on a page, so that there are pages.
        let cursor = request.into_inner().cursor;
        let hang = self.with(|state| {
            state.lists += 1;
            state.hang_list
        });
        if hang {
            std::future::pending::<()>().await;
        }
        self.with(|state| {
            if state.no_list {
                return Err(Status::unimplemented("no listing"));
            }
            let mut ids: Vec<_> = state.objects.keys().filter(|id| **id > cursor).cloned().collect();
            ids.sort();
            let more = ids.len() > 2;
            ids.truncate(2);
            let next_cursor = if more { ids[1].clone() } else { String::new() };
            let entries = ids
                .into_iter()
                .map(|id| SessionEntry {
                    status: Some(SessionStatusResponse {
                        phase: state.objects[&id].clone(),
                        conditions: state.ready.get(&id).cloned().into_iter().collect(),
                        session_id: id,
                        ..Default::default()
                    }),
                    ownership: Ownership::Owned.into(),
                    ..Default::default()
                })
                .collect();
            Ok(Response::new(ListSessionsResponse { entries, next_cursor }))
        })
    }

    async fn health_check(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.with(|state| state.health.clone()) {
            Some(status) => Err(status),
            None => Ok(Response::new(HealthCheckResponse { status: "healthy".into(), ..Default::default() })),
        }
    }

    async fn get_capabilities(
        &self,
        _: tonic::Request<GetCapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        let max_sessions = self.with(|state| state.max_sessions);
        Ok(Response::new(CapabilitiesResponse {
            controller_type: "docker".into(),
            version: "1".into(),
            supports_networking: true,
            capacity: Some(ResourceCapacity { max_sessions, ..Default::default() }),
            ..Default::default()
        }))
    }

    async fn get_session(
        &self,
        _: tonic::Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn hibernate_session(
        &self,
        _: tonic::Request<HibernateSessionRequest>,
    ) -> Result<Response<HibernateSessionResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_session_metrics(
        &self,
        _: tonic::Request<GetSessionMetricsRequest>,
    ) -> Result<Response<SessionMetricsResponse>, Status> {
        match self.with(|state| state.script.get_mut("metrics").and_then(VecDeque::pop_front)) {
            Some(Act::Fail(status)) => Err(status),
            _ => {
                let metrics = self.with(|state| state.metrics.clone());
                metrics.map(Response::new).ok_or_else(|| Status::unimplemented("not scripted"))
            }
        }
    }

    async fn get_session_logs(
        &self,
        request: tonic::Request<GetSessionLogsRequest>,
    ) -> Result<Response<Self::GetSessionLogsStream>, Status> {
        let request = request.into_inner();
        let scripted = self.with(|state| state.script.get_mut("logs").and_then(VecDeque::pop_front));
        if let Some(Act::Fail(status)) = scripted {
            // As the real shell: the failure is the stream's.
            return Ok(Response::new(Box::pin(stream::iter([Err(status)]))));
        }
        let written = self.with(|state| {
            state.readers += 1;
            state.output.len()
        });
        let tail = usize::try_from(request.tail_lines).unwrap().min(written);
        let first = match request.cursor.parse::<usize>() {
            Ok(seen) => seen + 1,
            Err(_) if tail > 0 => written - tail,
            Err(_) => 0,
        };
        let reader = Reader(self.clone());
        let lines = stream::unfold((reader, first), move |(reader, next)| async move {
            loop {
                let (line, ended) = reader
                    .0
                    .with(|state| (state.output.get(next).cloned(), state.output_ended || !request.follow));
                if let Some(message) = line {
                    let entry = LogEntry {
                        message,
                        stream: "stdout".into(),
                        cursor: next.to_string(),
                        ..Default::default()
                    };
                    return Some((Ok(entry), (reader, next + 1)));
                }
                if ended {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Ok(Response::new(Box::pin(lines)))
    }

    async fn watch_sessions(
        &self,
        _: tonic::Request<WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        Ok(Response::new(Box::pin(stream::empty())))
    }

    async fn get_session_access(
        &self,
        _: tonic::Request<GetSessionAccessRequest>,
    ) -> Result<Response<SessionAccessResponse>, Status> {
        let points = self.with(|state| state.access.clone());
        Ok(Response::new(SessionAccessResponse { points, ..Default::default() }))
    }

    async fn open_tunnel(
        &self,
        _: tonic::Request<tonic::Streaming<TunnelFrame>>,
    ) -> Result<Response<Self::OpenTunnelStream>, Status> {
        Ok(Response::new(Box::pin(stream::empty())))
    }
}

/// An answer of the REST API.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    pub fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// The server under test.
pub struct Server {
    control: Option<Arc<Control>>,
    pub router: axum::Router,
    pub token: String,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

pub fn config(data: &Path) -> ControlConfig {
    ControlConfig {
        observe_interval: Duration::from_millis(100),
        health_interval: Duration::from_millis(100),
        call_timeout: Duration::from_secs(20),
        drain_limit: Duration::from_secs(10),
        ..ControlConfig::new(data)
    }
}

pub async fn register(control: &Control, name: &str, backend: &Backend) -> ControllerId {
    let registration = Registration {
        controller_type: "docker".into(),
        name: name.into(),
        endpoint: String::new(),
        labels: BTreeMap::from([("region".into(), "lab".into())]),
    };
    let id = control.register_controller(registration).await.unwrap();
    control.attach_controller(&id, backend.transport()).await.unwrap();
    id
}

impl Server {
    pub async fn start(data: &Path, backend: &Backend) -> Self {
        Self::start_with(config(data), Some(backend)).await
    }

    pub async fn start_with(config: ControlConfig, backend: Option<&Backend>) -> Self {
        let data = config.data_dir.clone();
        let control = Arc::new(Control::open(config).await.unwrap());
        if let Some(backend) = backend {
            register(&control, "one", backend).await;
        }
        let stop = CancellationToken::new();
        let running = {
            let (control, stop) = (Arc::clone(&control), stop.clone());
            tokio::spawn(async move { control.run(stop).await })
        };
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        Self { router: control.router(), control: Some(control), token, stop, running: Some(running) }
    }

    pub fn control(&self) -> &Control {
        self.control.as_ref().unwrap()
    }

    /// Stops in good order.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.running.take().unwrap().await.unwrap();
        Arc::into_inner(self.control.take().unwrap()).unwrap().close().await;
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header("authorization", format!("Bearer {}", self.token))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body.to_string()).await
    }

    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let mut request = self.request("POST", path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// Makes the simplest session.
    pub async fn create(&self) -> String {
        let answer = self.post("/api/v1/sessions", &simple()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.id()
    }

    pub async fn session(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/sessions/{id}")).await.json()
    }

    /// Waits until a session is in a phase, and returns it.
    pub async fn phase(&self, id: &str, phase: &str) -> Value {
        let mut session = Value::Null;
        eventually(phase, async || {
            session = self.session(id).await;
            session["phase"] == phase
        })
        .await;
        session
    }

    pub async fn gone(&self, id: &str) {
        let path = format!("/api/v1/sessions/{id}");
        eventually("gone", async || self.get(&path).await.status == StatusCode::NOT_FOUND).await;
    }
}

pub fn simple() -> Value {
    json!({"spec": {"base_image": "alpine:3"}})
}

/// The condition of a type in a session's JSON.
pub fn condition<'a>(session: &'a Value, kind: &str) -> &'a Value {
    let conditions = session["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Looks until something is so. The limit only keeps a broken test from hanging.
pub async fn eventually(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    while !look().await {
        assert!(tokio::time::Instant::now() < patience, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
