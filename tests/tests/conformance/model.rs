//! A controller over a backend that exists in memory only. It is right in everything, but for the one fault that it
//! is given.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::{Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use streamspace_conformance::{
    Ability, Applied, ConfigRefusal, Fixture, FixtureError, Foreign, Process, Recipe, Target, Transport,
    Variation, Weather,
};
use streamspace_proto::controller::v1::controller_service_server::{
    ControllerService, ControllerServiceServer,
};
use streamspace_proto::controller::v1::*;
use streamspace_proto::quantity::{ByteQuantity, CpuQuantity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::broadcast;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::ServiceExt;

/// What is wrong with a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A second create of the same session makes a second object.
    DoublesObjects,
    /// A delete says success while the object is still being removed.
    ClaimsDeleteEarly,
    /// While the backend is away, sessions are not found and the listing is empty.
    NotFoundWhenUnreachable,
    /// Metrics are zeros.
    ZeroMetrics,
    /// Another spec under the same id is taken for the same.
    AcceptsOtherSpec,
    /// An error has the session's environment in it.
    LeaksSecret,
    /// Objects of somebody else's count as our own.
    TakesForeign,
    /// What was written to a home is gone after a wake.
    ForgetsHome,
    /// A lower epoch is as good as a higher one.
    IgnoresEpoch,
    /// Metrics are advertised and not there.
    AdvertisesTooMuch,
    /// Hibernation is not advertised and does something.
    AdvertisesTooLittle,
    /// A backend that hangs is waited for without end.
    IgnoresDeadlines,
    /// The cursor of a listing counts entries.
    CountsPages,
    /// A follower of logs gets what is there and no more.
    EndsFollowers,
    /// A wrong field is refused without being named.
    NamesNoField,
    /// What is created on a full backend stays behind in part.
    LeavesPartsWhenFull,
    /// Events that were lost are not told.
    HidesLostEvents,
    /// A handle may be of any length.
    TakesAnyHandle,
}

#[derive(Clone, Debug)]
struct Object {
    node: String,
    user: String,
    hash: String,
    spec: SessionSpec,
    phase: &'static str,
    since: Instant,
    doubles: usize,
}

#[derive(Debug, Default)]
struct World {
    objects: BTreeMap<String, Object>,
    volumes: BTreeSet<String>,
    /// Files by user.
    homes: BTreeMap<String, BTreeMap<String, String>>,
    foreign: BTreeMap<String, Foreign>,
    weather: Option<Weather>,
    calls: usize,
    nodes: usize,
    epoch: u64,
}

/// The controller, its backend, and what can be done to it by hand.
#[derive(Clone)]
pub struct Model {
    fault: Fault,
    world: Arc<Mutex<World>>,
    mutations: Arc<tokio::sync::Mutex<()>>,
    events: broadcast::Sender<String>,
    /// Where all sessions serve.
    port: u16,
}

type Answer<T> = Result<Response<T>, Status>;

const CRASHES: &str = r#"{"crash": true}"#;

impl Model {
    pub async fn target(fault: Fault) -> Target {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A client that leaves is no concern of the others.
                    let _ = client.read(&mut [0; 1024]).await;
                    let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                });
            }
        });
        let model = Arc::new(Self {
            fault,
            world: Arc::default(),
            mutations: Arc::default(),
            events: broadcast::channel(1024).0,
            port,
        });
        let spec = SessionSpec { base_image: "model".to_owned(), ..Default::default() };
        let running = Variation { spec: spec.clone(), controller_config: String::new() };
        Target {
            transport: model.transport(),
            recipe: Recipe {
                failing: Some(Variation { spec, controller_config: CRASHES.to_owned() }),
                running,
                missing_image: Some("missing".to_owned()),
                malformed_image: Some("malformed".to_owned()),
                talks: true,
            },
            fixture: Some(model.clone()),
            process: Some(model),
        }
    }

    fn transport(&self) -> Transport {
        let service = ControllerServiceServer::new(self.clone());
        Transport::new(ServiceExt::<http::Request<tonic::body::Body>>::map_err(
            service,
            |never| match never {},
        ))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// One call of the backend.
    async fn call<T>(&self, limit: Duration, effect: impl FnOnce(&mut World) -> T) -> Result<T, Status> {
        let away = || Status::unavailable("the backend cannot be reached");
        let weather = {
            let mut world = self.world();
            let number = world.calls;
            world.calls += 1;
            match world.weather.unwrap_or(Weather::Fair) {
                Weather::Down => return Err(away()),
                Weather::RefuseCall(which) if which == number => return Err(away()),
                Weather::LoseAnswer(which) if which == number => {
                    effect(&mut world);
                    return Err(away());
                }
                Weather::Hung => Weather::Hung,
                _ => return Ok(effect(&mut world)),
            }
        };
        assert_eq!(weather, Weather::Hung);
        let limit = if self.is(Fault::IgnoresDeadlines) { Duration::from_secs(3600) } else { limit };
        tokio::time::sleep(limit).await;
        Err(Status::deadline_exceeded("the backend did not answer in time"))
    }

    fn admit(&self, epoch: u64) -> Result<(), Status> {
        let mut world = self.world();
        if epoch != 0 && epoch < world.epoch && !self.is(Fault::IgnoresEpoch) {
            return Err(Status::aborted("a stale epoch"));
        }
        world.epoch = world.epoch.max(epoch);
        Ok(())
    }

    fn invalid(&self, field: &str) -> Status {
        let mut details = ErrorDetails::new();
        if !self.is(Fault::NamesNoField) {
            details.add_bad_request_violation(field, "is wrong");
        }
        Status::with_error_details(tonic::Code::InvalidArgument, format!("{field} is wrong"), details)
    }

    fn check(&self, request: &CreateSessionRequest) -> Result<(), Status> {
        let id = &request.session_id;
        let id_fits = !id.is_empty()
            && id.len() <= 64
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !id_fits {
            return Err(self.invalid("session_id"));
        }
        if request.user_id.is_empty() || request.user_id.len() > 512 {
            return Err(self.invalid("user_id"));
        }
        let config = &request.controller_config;
        if !config.is_empty() && !matches!(serde_json::from_str(config), Ok(Value::Object(_))) {
            return Err(self.invalid("controller_config"));
        }
        let Some(spec) = &request.spec else { return Err(self.invalid("spec")) };
        if matches!(spec.base_image.as_str(), "" | "missing" | "malformed") {
            return Err(self.invalid("spec.base_image"));
        }
        let resources = spec.resources.clone().unwrap_or_default();
        let fits =
            |text: &str| text.is_empty() || ByteQuantity::parse(text).is_ok_and(|q| q.bytes() < 1 << 40);
        if !fits(&resources.memory) {
            return Err(self.invalid("spec.resources.memory"));
        }
        Ok(())
    }

    fn check_handle(&self, handle: &[u8]) -> Result<(), Status> {
        if handle.len() > 64 << 10 && !self.is(Fault::TakesAnyHandle) {
            return Err(self.invalid("handle"));
        }
        Ok(())
    }

    async fn create_one(&self, limit: Duration, request: CreateSessionRequest) -> Result<Object, Status> {
        let _one_at_a_time = self.mutations.lock().await;
        let id = request.session_id.clone();
        let found = self
            .call(limit, |world| (world.objects.get(&id).cloned(), world.foreign.contains_key(&id)))
            .await?;
        let spec = request.spec.clone().unwrap_or_default();
        if matches!(found, (None, false)) && self.world().weather == Some(Weather::Full) {
            if self.is(Fault::LeavesPartsWhenFull) {
                self.world().volumes.insert(format!("{id}.part"));
            }
            return Err(Status::resource_exhausted("the backend is full"));
        }
        match found {
            (None, true) if !self.is(Fault::TakesForeign) => {
                return Err(Status::already_exists("somebody else's"));
            }
            (Some(object), _) if object.hash != request.spec_hash && !self.is(Fault::AcceptsOtherSpec) => {
                let secrets =
                    if self.is(Fault::LeaksSecret) { format!("{:?}", spec.env) } else { String::new() };
                return Err(Status::already_exists(format!("another spec {secrets}")));
            }
            (Some(_), _) => {
                if self.is(Fault::DoublesObjects) {
                    self.call(limit, |world| world.objects.get_mut(&id).unwrap().doubles += 1).await?;
                }
            }
            (None, _) => {
                self.call(limit, |world| {
                    world.nodes += 1;
                    for mount in &spec.volume_mounts {
                        world.volumes.insert(format!("{id}.{}", mount.name));
                    }
                    if spec.persistent_home {
                        world.homes.entry(request.user_id.clone()).or_default();
                    }
                    let object = Object {
                        node: format!("node-{}", world.nodes),
                        user: request.user_id.clone(),
                        hash: request.spec_hash.clone(),
                        spec: spec.clone(),
                        phase: "Pending",
                        since: Instant::now(),
                        doubles: 0,
                    };
                    world.objects.insert(id.clone(), object);
                })
                .await?;
            }
        }
        let phase = if request.controller_config == CRASHES { "Failed" } else { "Running" };
        self.call(limit, |world| {
            let object = world.objects.get_mut(&id).unwrap();
            if object.phase == "Pending" {
                object.phase = phase;
            }
            object.clone()
        })
        .await
    }

    async fn look(&self, limit: Duration, id: &str) -> Result<Object, Status> {
        if self.is(Fault::NotFoundWhenUnreachable) && self.world().weather == Some(Weather::Down) {
            return Err(Status::not_found("no such session"));
        }
        let found = self
            .call(limit, |world| match world.objects.get(id) {
                None if self.is(Fault::TakesForeign) && world.foreign.contains_key(id) => Some(Object {
                    node: "foreign".to_owned(),
                    user: "somebody-else".to_owned(),
                    hash: String::new(),
                    spec: SessionSpec::default(),
                    phase: "Running",
                    since: Instant::now(),
                    doubles: 0,
                }),
                found => found.cloned(),
            })
            .await?;
        found.ok_or_else(|| Status::not_found("no such session"))
    }

    async fn change_phase(&self, limit: Duration, id: &str, phase: &'static str) -> Result<(), Status> {
        let _one_at_a_time = self.mutations.lock().await;
        self.look(limit, id).await?;
        self.call(limit, |world| {
            let Some(object) = world.objects.get_mut(id) else { return };
            if object.phase != phase {
                object.phase = phase;
                object.since = Instant::now();
                if phase == "Running" && self.is(Fault::ForgetsHome) {
                    let user = object.user.clone();
                    world.homes.insert(user, BTreeMap::new());
                }
            }
        })
        .await?;
        self.announce(id);
        Ok(())
    }

    fn announce(&self, id: &str) {
        // Nobody may be listening.
        let _ = self.events.send(id.to_owned());
    }

    fn remove(&self, id: &str) {
        let mut world = self.world();
        world.objects.remove(id);
        let prefix = format!("{id}.");
        world.volumes.retain(|volume| !volume.starts_with(&prefix));
    }
}

fn limit_of<T>(request: &Request<T>) -> Duration {
    let text = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok()).unwrap_or("60S");
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap();
    match unit {
        "n" => Duration::from_nanos(number),
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        _ => Duration::from_secs(number),
    }
}

fn status_of(id: &str, object: &Object) -> SessionStatusResponse {
    let well = object.phase == "Running";
    SessionStatusResponse {
        session_id: id.to_owned(),
        phase: object.phase.to_owned(),
        node_id: object.node.clone(),
        conditions: vec![Condition {
            r#type: "Ready".to_owned(),
            status: if well { "True" } else { "False" }.to_owned(),
            reason: object.phase.to_owned(),
            message: format!("it is {}", object.phase),
            last_transition_time: None,
        }],
        ..Default::default()
    }
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ControllerService for Model {
    async fn create_session(&self, request: Request<CreateSessionRequest>) -> Answer<CreateSessionResponse> {
        let limit = limit_of(&request);
        let request = request.into_inner();
        self.check(&request)?;
        self.admit(request.epoch)?;
        self.check_handle(&request.handle)?;
        let session_id = request.session_id.clone();
        let object = self.create_one(limit, request).await?;
        Ok(Response::new(CreateSessionResponse {
            session_id,
            node_id: object.node,
            phase: object.phase.to_owned(),
            ..Default::default()
        }))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Answer<GetSessionResponse> {
        let limit = limit_of(&request);
        let id = request.into_inner().session_id;
        let object = self.look(limit, &id).await?;
        Ok(Response::new(GetSessionResponse {
            status: Some(status_of(&id, &object)),
            spec: None,
            user_id: object.user,
            ownership: Ownership::Owned.into(),
        }))
    }

    async fn delete_session(&self, request: Request<DeleteSessionRequest>) -> Answer<DeleteSessionResponse> {
        let limit = limit_of(&request);
        let request = request.into_inner();
        self.admit(request.epoch)?;
        self.check_handle(&request.handle)?;
        let id = request.session_id.clone();
        let _one_at_a_time = self.mutations.lock().await;
        let early = self.is(Fault::ClaimsDeleteEarly);
        self.call(limit, |world| {
            if self.is(Fault::TakesForeign) {
                world.foreign.remove(&id);
            }
            if request.purge_home {
                world.homes.remove(&request.user_id);
            }
        })
        .await?;
        if early && self.world().objects.contains_key(&id) {
            let model = self.clone();
            let id = id.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                model.remove(&id);
            });
        } else {
            self.call(limit, |_| ()).await?;
            self.remove(&id);
        }
        self.announce(&id);
        Ok(Response::new(DeleteSessionResponse { session_id: id, success: true, ..Default::default() }))
    }

    async fn hibernate_session(
        &self,
        request: Request<HibernateSessionRequest>,
    ) -> Answer<HibernateSessionResponse> {
        let limit = limit_of(&request);
        let request = request.into_inner();
        self.admit(request.epoch)?;
        self.change_phase(limit, &request.session_id, "Hibernated").await?;
        let phase = "Hibernated".to_owned();
        Ok(Response::new(HibernateSessionResponse {
            session_id: request.session_id,
            phase,
            ..Default::default()
        }))
    }

    async fn wake_session(&self, request: Request<WakeSessionRequest>) -> Answer<WakeSessionResponse> {
        let limit = limit_of(&request);
        let request = request.into_inner();
        self.admit(request.epoch)?;
        self.change_phase(limit, &request.session_id, "Running").await?;
        let phase = "Running".to_owned();
        Ok(Response::new(WakeSessionResponse { session_id: request.session_id, phase, ..Default::default() }))
    }

    async fn get_session_status(
        &self,
        request: Request<GetSessionStatusRequest>,
    ) -> Answer<SessionStatusResponse> {
        let limit = limit_of(&request);
        let id = request.into_inner().session_id;
        let object = self.look(limit, &id).await?;
        Ok(Response::new(status_of(&id, &object)))
    }

    async fn get_session_metrics(
        &self,
        request: Request<GetSessionMetricsRequest>,
    ) -> Answer<SessionMetricsResponse> {
        if self.is(Fault::AdvertisesTooMuch) {
            return Err(Status::unimplemented("metrics"));
        }
        let limit = limit_of(&request);
        let session_id = request.into_inner().session_id;
        let object = self.look(limit, &session_id).await?;
        let cpu_ns = match self.fault {
            Fault::ZeroMetrics => 0,
            _ => u64::try_from(object.since.elapsed().as_nanos()).unwrap(),
        };
        Ok(Response::new(SessionMetricsResponse {
            session_id,
            usage: None,
            custom_metrics: Default::default(),
            sampled_at: Some(SystemTime::now().into()),
            counters: Some(ResourceCounters { cpu_ns: Some(cpu_ns), ..Default::default() }),
        }))
    }

    type GetSessionLogsStream = Events<LogEntry>;

    async fn get_session_logs(
        &self,
        request: Request<GetSessionLogsRequest>,
    ) -> Answer<Self::GetSessionLogsStream> {
        let limit = limit_of(&request);
        let request = request.into_inner();
        let object = self.look(limit, &request.session_id).await?;
        // A line every 20 ms since the start.
        let written = move || usize::try_from(object.since.elapsed().as_millis() / 20).unwrap() + 1;
        let first = match (request.cursor.parse::<usize>(), usize::try_from(request.tail_lines)) {
            (Ok(cursor), _) => cursor + 1,
            (_, Ok(tail)) if tail > 0 => written().saturating_sub(tail),
            _ => 0,
        };
        let entry = |number: usize| LogEntry {
            timestamp: None,
            message: format!("line {number}"),
            stream: "stdout".to_owned(),
            cursor: number.to_string(),
        };
        if !request.follow || self.is(Fault::EndsFollowers) {
            let lines: Vec<_> = (first..written()).map(|number| Ok(entry(number))).collect();
            return Ok(Response::new(Box::pin(stream::iter(lines))));
        }
        let lines = stream::iter(first..).then(move |number| async move {
            while written() <= number {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(entry(number))
        });
        Ok(Response::new(Box::pin(lines)))
    }

    async fn get_capabilities(&self, _: Request<GetCapabilitiesRequest>) -> Answer<CapabilitiesResponse> {
        Ok(Response::new(CapabilitiesResponse {
            controller_type: "model".to_owned(),
            version: "1".to_owned(),
            supports_hibernation: !self.is(Fault::AdvertisesTooLittle),
            supports_persistent_storage: true,
            supports_networking: true,
            supports_metrics: true,
            supports_logs: true,
            supports_watch: true,
            ..Default::default()
        }))
    }

    async fn health_check(&self, request: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        let (status, message) = match self.call(limit_of(&request), |_| ()).await {
            Ok(()) => ("healthy", String::new()),
            Err(error) => ("unhealthy", error.message().to_owned()),
        };
        Ok(Response::new(HealthCheckResponse { status: status.to_owned(), message, current_sessions: 0 }))
    }

    async fn list_sessions(&self, request: Request<ListSessionsRequest>) -> Answer<ListSessionsResponse> {
        let limit = limit_of(&request);
        let request = request.into_inner();
        if self.is(Fault::NotFoundWhenUnreachable) && self.world().weather == Some(Weather::Down) {
            return Ok(Response::new(ListSessionsResponse::default()));
        }
        let objects = self.call(limit, |world| world.objects.clone()).await?;
        let page = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let by_count = self.is(Fault::CountsPages);
        let skipped = if by_count { request.cursor.parse().unwrap_or(0) } else { 0 };
        let mut rest: Vec<_> = objects
            .iter()
            .filter(|(id, _)| by_count || **id > request.cursor || request.cursor.is_empty())
            .skip(skipped)
            .collect();
        let more = rest.len() > page;
        rest.truncate(page);
        let next_cursor = match rest.last() {
            Some(_) if more && by_count => (skipped + rest.len()).to_string(),
            Some((id, _)) if more => (*id).clone(),
            _ => String::new(),
        };
        let entries = rest
            .into_iter()
            .map(|(id, object)| SessionEntry {
                status: Some(status_of(id, object)),
                ownership: Ownership::Owned.into(),
                user_id: object.user.clone(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(ListSessionsResponse { entries, next_cursor }))
    }

    type WatchSessionsStream = Events<SessionEvent>;

    async fn watch_sessions(
        &self,
        request: Request<WatchSessionsRequest>,
    ) -> Answer<Self::WatchSessionsStream> {
        let resync = SessionEvent { resync: true, ..Default::default() };
        let first = (!request.into_inner().cursor.is_empty()).then_some(Ok(resync));
        let events = stream::unfold(self.events.subscribe(), |mut events| async move {
            let event = match events.recv().await {
                Ok(session_id) if !session_id.is_empty() => SessionEvent {
                    status: Some(SessionStatusResponse { session_id, ..Default::default() }),
                    ..Default::default()
                },
                // Nobody's: events were lost.
                Ok(_) | Err(_) => SessionEvent { resync: true, ..Default::default() },
            };
            Some((Ok(event), events))
        });
        Ok(Response::new(Box::pin(stream::iter(first).chain(events))))
    }

    async fn get_session_access(
        &self,
        request: Request<GetSessionAccessRequest>,
    ) -> Answer<SessionAccessResponse> {
        let limit = limit_of(&request);
        let session_id = request.into_inner().session_id;
        let object = self.look(limit, &session_id).await?;
        if object.phase != "Running" {
            return Err(Status::failed_precondition("it does not run"));
        }
        let target = access_point::Target::Http(HttpTarget {
            base_url: format!("http://127.0.0.1:{}", self.port),
            headers: Default::default(),
            identity: None,
        });
        let point = AccessPoint { service: "web".to_owned(), target: Some(target), ..Default::default() };
        Ok(Response::new(SessionAccessResponse { session_id, points: vec![point] }))
    }

    type OpenTunnelStream = Events<TunnelFrame>;

    async fn open_tunnel(&self, _: Request<Streaming<TunnelFrame>>) -> Answer<Self::OpenTunnelStream> {
        Err(Status::unimplemented("tunnels"))
    }
}

fn no_session() -> FixtureError {
    FixtureError::Failed("there is no such session".to_owned())
}

#[async_trait]
impl Fixture for Model {
    fn offers(&self) -> &[Ability] {
        use Ability::*;
        &[
            Inventory,
            Inspect,
            Foreigners,
            StopByHand,
            RemoveByHand,
            PauseByHand,
            Files,
            Homes,
            Weather,
            CallByCall,
            NoRoom,
            LoseEvents,
        ]
    }

    async fn objects_of(&self, session: &str) -> Result<Vec<String>, FixtureError> {
        let mut objects = self.main_objects_of(session).await?;
        let prefix = format!("{session}.");
        objects.extend(self.world().volumes.iter().filter(|volume| volume.starts_with(&prefix)).cloned());
        Ok(objects)
    }

    async fn main_objects_of(&self, session: &str) -> Result<Vec<String>, FixtureError> {
        let world = self.world();
        let Some(object) = world.objects.get(session) else { return Ok(Vec::new()) };
        Ok((0..=object.doubles).map(|number| format!("{} {number}", object.node)).collect())
    }

    async fn inspect(&self, session: &str) -> Result<Option<Applied>, FixtureError> {
        let world = self.world();
        Ok(world.objects.get(session).map(|object| {
            let resources = object.spec.resources.clone().unwrap_or_default();
            Applied {
                runs: object.phase == "Running",
                memory_bytes: ByteQuantity::parse(&resources.memory).ok().map(|quantity| quantity.bytes()),
                cpu_millis: CpuQuantity::parse(&resources.cpu).ok().map(|quantity| quantity.millicores()),
                env: object.spec.env.iter().map(|env| (env.name.clone(), env.value.clone())).collect(),
            }
        }))
    }

    async fn make_foreign(&self, session: &str, kind: Foreign) -> Result<(), FixtureError> {
        self.world().foreign.insert(session.to_owned(), kind);
        Ok(())
    }

    async fn look_at_foreign(&self, session: &str) -> Result<Option<String>, FixtureError> {
        Ok(self.world().foreign.get(session).map(|kind| format!("{kind:?}")))
    }

    async fn remove_foreign(&self, session: &str) -> Result<(), FixtureError> {
        self.world().foreign.remove(session);
        Ok(())
    }

    async fn stop_by_hand(&self, session: &str) -> Result<(), FixtureError> {
        self.world().objects.get_mut(session).ok_or_else(no_session)?.phase = "Hibernated";
        self.announce(session);
        Ok(())
    }

    async fn remove_by_hand(&self, session: &str) -> Result<(), FixtureError> {
        self.world().objects.remove(session).ok_or_else(no_session)?;
        self.announce(session);
        Ok(())
    }

    async fn pause_by_hand(&self, session: &str, paused: bool) -> Result<(), FixtureError> {
        let phase = if paused { "Pending" } else { "Running" };
        self.world().objects.get_mut(session).ok_or_else(no_session)?.phase = phase;
        Ok(())
    }

    async fn write_file(&self, session: &str, path: &str, content: &str) -> Result<(), FixtureError> {
        let mut world = self.world();
        let user = world.objects.get(session).ok_or_else(no_session)?.user.clone();
        world.homes.entry(user).or_default().insert(path.to_owned(), content.to_owned());
        Ok(())
    }

    async fn read_file(&self, session: &str, path: &str) -> Result<Option<String>, FixtureError> {
        let world = self.world();
        let user = &world.objects.get(session).ok_or_else(no_session)?.user;
        Ok(world.homes.get(user).and_then(|files| files.get(path)).cloned())
    }

    async fn has_home(&self, user: &str) -> Result<bool, FixtureError> {
        Ok(self.world().homes.contains_key(user))
    }

    async fn weather(&self, weather: Weather) -> Result<(), FixtureError> {
        let mut world = self.world();
        world.weather = Some(weather);
        world.calls = 0;
        Ok(())
    }

    async fn calls(&self) -> Result<usize, FixtureError> {
        Ok(self.world().calls)
    }

    async fn lose_events(&self) -> Result<(), FixtureError> {
        if !self.is(Fault::HidesLostEvents) {
            self.announce("");
        }
        Ok(())
    }
}

#[async_trait]
impl Process for Model {
    fn wipe_state(&self) {}

    async fn fresh(&self) -> Result<Transport, String> {
        Ok(self.transport())
    }

    async fn try_config(&self, config: Value) -> Option<ConfigRefusal> {
        let (name, value) = config.as_object()?.iter().next()?;
        let accepted = name == "size" && value.is_u64();
        (!accepted).then(|| ConfigRefusal { message: format!("config.{name}: is wrong") })
    }

    fn config_schema(&self) -> Value {
        json!({"additionalProperties": false, "properties": {"size": {"type": "integer"}}})
    }

    fn undeclared_imports(&self) -> Vec<String> {
        Vec::new()
    }

    fn open_files(&self) -> Option<usize> {
        // Other tests run in this process.
        None
    }
}
