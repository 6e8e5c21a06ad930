//! A controller that does what a test tells it to, and the server over it.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

pub mod calls;
pub mod database;
pub mod live;
pub mod own_postgres;
pub mod remote;
pub mod visit;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, Request, StatusCode};
use live::PATIENCE;
use serde_json::{Value, json};
use streamspace_control::{Control, ControlConfig, ControllerId, ControllerTransport, Registration};
use streamspace_proto::controller::v1::controller_service_server::{
    ControllerService, ControllerServiceServer,
};
use streamspace_proto::controller::v1::*;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
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
    /// Do the first half of it, and fail.
    BreakOff(Status),
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
    pub generation: u64,
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
    /// Every listing is refused.
    pub fail_list: Option<Status>,
    /// Every page but the first is refused.
    pub fail_second_page: bool,
    /// Listings are empty, whatever there is.
    pub hide_all: bool,
    /// Listings leave these out, though they are there.
    pub hide: HashSet<String>,
    /// Whose objects are, by session.
    pub users: HashMap<String, String>,
    /// What objects are made of, by session, if the backend says so.
    pub specs: HashMap<String, SessionSpec>,
    /// Objects that somebody else made, in a form that could be taken over.
    pub adoptable: HashSet<String>,
    /// The same without the id of a session.
    pub nameless: Vec<String>,
    /// No session can be asked for by its name.
    pub fail_status: Option<Status>,
    /// What is on its way has arrived by the time it is asked for.
    pub arrives: bool,
    /// How often the status of a session was asked for by its name.
    pub statuses: HashMap<String, u32>,
    pub last_activity: HashMap<String, i64>,
    /// What is said with progress.
    pub progress: Vec<Condition>,
    pub poll_after: Option<Duration>,
    pub no_hibernation: bool,
    /// Homes can outlive their session.
    pub persistent: bool,
    /// What is told to stop is lost.
    pub loses: bool,
    /// Watching is offered among the capabilities …
    pub watchable: bool,
    /// … and refused all the same.
    pub no_watch: bool,
    pub watches: u32,
    watchers: Vec<mpsc::UnboundedSender<Result<SessionEvent, Status>>>,
    /// What the backend says about being ready, by session.
    pub ready: HashMap<String, Condition>,
    pub max_sessions: i32,
    /// What else the backend says that it has.
    pub capacity: ResourceCapacity,
    /// Absent = `docker`.
    pub controller_type: Option<&'static str>,
    pub last_create: Option<CreateSessionRequest>,
    /// What each session wrote; the cursor of a line is its number.
    pub output: Vec<String>,
    /// Streams of output that somebody reads.
    pub readers: u32,
    /// A stream that follows ends when it has come this far.
    pub output_ended: bool,
    pub metrics: Option<SessionMetricsResponse>,
    /// All ways into a session.
    pub points: Vec<AccessPoint>,
    /// Where the services of a session are, by session and service.
    pub access: HashMap<(String, String), u16>,
    /// The same, where it is more than a port of this machine.
    pub targets: HashMap<(String, String), AccessPoint>,
    /// How often somebody asked where a service of a session is.
    pub accessed: u32,
    /// Present = it cannot be asked for ways into a session, whose status has this URL instead.
    pub core_url: Option<String>,
}

/// Counts a reader for as long as its stream is there.
struct Reader(Backend);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.with(|state| state.readers -= 1);
    }
}

impl State {
    fn ownership(&self, id: &str) -> Ownership {
        if self.adoptable.contains(id) { Ownership::Adoptable } else { Ownership::Owned }
    }

    fn status(&self, id: &str) -> Option<SessionStatusResponse> {
        Some(SessionStatusResponse {
            phase: self.objects.get(id)?.clone(),
            conditions: self.ready.get(id).cloned().into_iter().collect(),
            session_id: id.to_owned(),
            url: self.core_url.clone().unwrap_or_default(),
            last_activity: self
                .last_activity
                .get(id)
                .map(|seconds| prost_types::Timestamp { seconds: *seconds, nanos: 0 }),
            ..Default::default()
        })
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

    /// Tells all watchers.
    pub fn tell(&self, event: SessionEvent) {
        self.with(|state| state.watchers.retain(|watcher| watcher.send(Ok(event.clone())).is_ok()));
    }

    /// Something happened to a session.
    pub fn touch(&self, id: &str) {
        let status = SessionStatusResponse { session_id: id.into(), ..Default::default() };
        self.tell(SessionEvent { status: Some(status), ..Default::default() });
    }

    /// How often the status of a session was asked for.
    pub fn asked(&self, id: &str) -> u32 {
        self.with(|state| state.statuses.get(id).copied().unwrap_or_default())
    }

    /// Somebody changes the backend behind the server's back.
    pub fn by_hand(&self, id: &str, phase: Option<&str>) {
        self.with(|state| match phase {
            Some(phase) => drop(state.objects.insert(id.to_owned(), phase.to_owned())),
            None => drop(state.objects.remove(id)),
        });
    }

    /// Waits for more complete listings to begin.
    pub async fn listed(&self, more: u32) {
        let before = self.with(|state| state.lists);
        eventually("listed", async || self.with(|state| state.lists > before + more)).await;
    }

    /// Ends all streams of events.
    pub fn hang_up(&self) {
        self.with(|state| state.watchers.clear());
    }

    pub fn phase_of(&self, id: &str) -> Option<String> {
        self.with(|state| state.objects.get(id).cloned())
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

    fn poll_after(&self) -> Option<prost_types::Duration> {
        self.with(|state| state.poll_after)?.try_into().ok()
    }

    /// Stops or starts what is there.
    async fn turn(&self, seen: Seen, phase: &str) -> Result<Option<Act>, Status> {
        let id = seen.session.clone();
        let mut there = true;
        let turn = |state: &mut State| match state.objects.get_mut(&id) {
            Some(_) if state.loses && phase == "Hibernated" => {
                state.objects.remove(&id);
                there = false;
            }
            Some(object) => *object = phase.into(),
            None => there = false,
        };
        let act = self.mutate(seen, turn).await?;
        if there { Ok(act) } else { Err(Status::not_found("no such session")) }
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
                Some(Act::BreakOff(status)) => {
                    done(state);
                    state.objects.insert(session, "Pending".into());
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
            generation: request.generation,
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
                conditions: self.with(|state| state.progress.clone()),
                poll_after: self.poll_after(),
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
            generation: request.generation,
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
            generation: request.generation,
        };
        let act = self.turn(seen, "Running").await?;
        Ok(Response::new(match act {
            Some(Act::Progress(handle)) => WakeSessionResponse {
                in_progress: true,
                handle: handle.as_bytes().to_vec(),
                ..Default::default()
            },
            Some(Act::Accept) => WakeSessionResponse { phase: "Pending".into(), ..Default::default() },
            _ => WakeSessionResponse { phase: "Running".into(), ..Default::default() },
        }))
    }

    async fn get_session_status(
        &self,
        request: tonic::Request<GetSessionStatusRequest>,
    ) -> Result<Response<SessionStatusResponse>, Status> {
        let id = request.into_inner().session_id;
        self.with(|state| {
            *state.statuses.entry(id.clone()).or_default() += 1;
            if let Some(status) = &state.fail_status {
                return Err(status.clone());
            }
            if let Some(object) = state.objects.get_mut(&id).filter(|_| state.arrives) {
                *object = "Running".into();
            }
            state.status(&id).map(Response::new).ok_or_else(|| Status::not_found("no such session"))
        })
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
            if let Some(status) = &state.fail_list {
                return Err(status.clone());
            }
            if state.hide_all {
                return Ok(Response::new(ListSessionsResponse::default()));
            }
            if state.fail_second_page && !cursor.is_empty() {
                return Err(Status::internal("lost the rest"));
            }
            let shown = |id: &&String| **id > cursor && !state.hide.contains(*id);
            let mut ids: Vec<_> = state.objects.keys().filter(shown).cloned().collect();
            ids.sort();
            let more = ids.len() > 2;
            ids.truncate(2);
            let next_cursor = if more { ids[1].clone() } else { String::new() };
            let mut entries: Vec<_> = ids
                .into_iter()
                .map(|id| SessionEntry {
                    status: state.status(&id),
                    ownership: state.ownership(&id).into(),
                    user_id: state.users.get(&id).cloned().unwrap_or_default(),
                    ..Default::default()
                })
                .collect();
            if next_cursor.is_empty() {
                entries.extend(state.nameless.iter().map(|name| SessionEntry {
                    ownership: Ownership::Adoptable.into(),
                    external_ref: name.clone(),
                    ..Default::default()
                }));
            }
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
        let (max_sessions, hibernation, watch) =
            self.with(|state| (state.max_sessions, !state.no_hibernation, state.watchable));
        let (kind, persistent) = self.with(|state| (state.controller_type, state.persistent));
        Ok(Response::new(CapabilitiesResponse {
            controller_type: kind.unwrap_or("docker").into(),
            version: "1".into(),
            supports_networking: true,
            supports_hibernation: hibernation,
            supports_watch: watch,
            supports_persistent_storage: persistent,
            capacity: Some(ResourceCapacity { max_sessions, ..self.with(|state| state.capacity.clone()) }),
            ..Default::default()
        }))
    }

    async fn get_session(
        &self,
        request: tonic::Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let id = request.into_inner().session_id;
        self.with(|state| {
            let status = state.status(&id).ok_or_else(|| Status::not_found("no such session"))?;
            Ok(Response::new(GetSessionResponse {
                status: Some(status),
                ownership: state.ownership(&id).into(),
                user_id: state.users.get(&id).cloned().unwrap_or_default(),
                spec: state.specs.get(&id).cloned(),
            }))
        })
    }

    async fn hibernate_session(
        &self,
        request: tonic::Request<HibernateSessionRequest>,
    ) -> Result<Response<HibernateSessionResponse>, Status> {
        let request = request.into_inner();
        let seen = Seen {
            rpc: "hibernate",
            session: request.session_id,
            operation: request.operation_id,
            epoch: request.epoch,
            handle: request.handle,
            purge_home: false,
            user: String::new(),
            generation: request.generation,
        };
        let act = self.turn(seen, "Hibernated").await?;
        Ok(Response::new(match act {
            Some(Act::Progress(handle)) => HibernateSessionResponse {
                in_progress: true,
                handle: handle.as_bytes().to_vec(),
                ..Default::default()
            },
            Some(Act::Accept) => HibernateSessionResponse { phase: "Pending".into(), ..Default::default() },
            _ => HibernateSessionResponse { phase: "Hibernated".into(), ..Default::default() },
        }))
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
        let (watcher, events) = mpsc::unbounded_channel();
        self.with(|state| {
            state.watches += 1;
            if state.no_watch {
                return Err(Status::unimplemented("nothing to watch"));
            }
            state.watchers.push(watcher);
            Ok(())
        })?;
        Ok(Response::new(UnboundedReceiverStream::new(events).boxed()))
    }

    async fn get_session_access(
        &self,
        request: tonic::Request<GetSessionAccessRequest>,
    ) -> Result<Response<SessionAccessResponse>, Status> {
        let GetSessionAccessRequest { session_id, service, .. } = request.into_inner();
        if self.with(|state| state.core_url.is_some()) {
            return Err(Status::unimplemented("no ways"));
        }
        if service.is_empty() {
            let points = self.with(|state| state.points.clone());
            return Ok(Response::new(SessionAccessResponse { session_id, points }));
        }
        let target = self.with(|state| {
            state.accessed += 1;
            state.targets.get(&(session_id.clone(), service.clone())).cloned()
        });
        if let Some(target) = target {
            let points = vec![AccessPoint { service, ..target }];
            return Ok(Response::new(SessionAccessResponse { session_id, points }));
        }
        let port = self.with(|state| state.access.get(&(session_id.clone(), service.clone())).copied());
        let port = port.ok_or_else(|| Status::not_found("no such service"))?;
        let target = TcpTarget { host: "127.0.0.1".into(), port: port.into() };
        let target = Some(access_point::Target::Tcp(target));
        let points = vec![AccessPoint { service, target, ..Default::default() }];
        Ok(Response::new(SessionAccessResponse { session_id, points }))
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
    let default = ControlConfig::new(data);
    ControlConfig {
        database: database::url(data).unwrap_or_else(|| default.database.clone()),
        observe_interval: Duration::from_millis(100),
        health_interval: Duration::from_millis(100),
        repair_pause: Duration::from_millis(20),
        drain_limit: Duration::from_secs(10),
        // A busy machine is no reason to think that nobody answers, or to lose one's place and all that is being done from it.
        first_probe_wait: PATIENCE,
        probe_timeout: Duration::from_secs(20),
        instance_lease: Duration::from_secs(60),
        server_lease: Duration::from_secs(60),
        server_renewal: Duration::from_secs(5),
        ..default
    }
}

pub async fn register(control: &Control, name: &str, backend: &Backend) -> ControllerId {
    let registration = Registration {
        controller_type: backend.with(|state| state.controller_type).unwrap_or("docker").into(),
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

    /// Ends as if it had been killed: nothing is finished, and nobody is told.
    pub fn die(mut self) {
        self.running.take().unwrap().abort();
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

    /// A request with a JSON body, by whoever has a token.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.call_with(token, method, path, &[], body).await
    }

    pub async fn call_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    /// Makes a user and a token of theirs.
    pub async fn user(&self, id: &str, role: &str) -> String {
        let made = self.post("/api/v1/admin/users", &json!({"id": id, "role": role})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let token = self.post("/api/v1/admin/tokens", &json!({"user_id": id, "name": "test"})).await;
        assert_eq!(token.status, StatusCode::CREATED, "{}", token.text);
        token.json()["secret"].as_str().unwrap().to_owned()
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

    pub async fn patch(&self, id: &str, body: &Value) -> Answer {
        self.patch_with(id, "", &[], body.to_string()).await
    }

    pub async fn patch_with(&self, id: &str, query: &str, headers: &[(&str, &str)], body: String) -> Answer {
        let path = format!("/api/v1/sessions/{id}{query}");
        let mut request = self.request("PATCH", &path).header("content-type", "application/merge-patch+json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// `hibernate`, `wake` or `heartbeat`, with a query.
    pub async fn verb(&self, id: &str, verb: &str) -> Answer {
        let path = format!("/api/v1/sessions/{id}/{verb}");
        self.send(self.request("POST", &path).body(Body::empty()).unwrap()).await
    }

    /// A session that runs.
    pub async fn running(&self) -> String {
        let id = self.create().await;
        self.phase(&id, "Running").await;
        id
    }

    /// Waits until nothing is left to do for a session, and returns it.
    pub async fn settled(&self, id: &str) -> Value {
        let mut session = Value::Null;
        eventually("settled", async || {
            session = self.session(id).await;
            session["status"]["operation"].is_null()
                && session["status"]["observed_generation"] == session["generation"]
        })
        .await;
        session
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
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !look().await {
        assert!(tokio::time::Instant::now() < patience, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
