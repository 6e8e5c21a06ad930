//! The controller, without its wire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;
use streamspace_conformance::{Recipe, RecordedHandle, Target, Transport, Variation, Verb, Weather};
use streamspace_proto::controller::v1::controller_service_server::ControllerServiceServer;
use streamspace_proto::controller::v1::{CreateSessionRequest, SessionSpec};
use streamspace_proto::quantity::ByteQuantity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::ServiceExt;

use super::Fault;
use super::world::{Object, World};

/// The controller, its backend, and what can be done to it by hand.
#[derive(Clone)]
pub struct Model {
    pub fault: Fault,
    world: Arc<Mutex<World>>,
    pub mutations: Arc<tokio::sync::Mutex<()>>,
    /// Something was added to the feed.
    pub news: Arc<watch::Sender<()>>,
    /// Where all sessions serve.
    pub port: u16,
}

const CRASHES: &str = r#"{"crash": true}"#;

/// The handle of a wake that has begun.
pub const WAKING: &[u8] = b"1:waking";

/// Handles as other versions might have given them.
fn handles() -> Vec<RecordedHandle> {
    let one = |verb, bytes: &[u8]| RecordedHandle { name: format!("{verb:?}"), verb, bytes: bytes.to_vec() };
    vec![
        one(Verb::Create, b"making"),
        one(Verb::Delete, b"2:removing"),
        one(Verb::Hibernate, b"0:stopping"),
        one(Verb::Wake, b"waking"),
    ]
}

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
            news: Arc::default(),
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
                handles: handles(),
            },
            fixture: Some(model.clone()),
            process: Some(model),
        }
    }

    pub fn transport(&self) -> Transport {
        let service = ControllerServiceServer::new(self.clone());
        Transport::new(ServiceExt::<http::Request<tonic::body::Body>>::map_err(
            service,
            |never| match never {},
        ))
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// One call of the backend.
    pub async fn call<T>(&self, limit: Duration, effect: impl FnOnce(&mut World) -> T) -> Result<T, Status> {
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

    pub fn admit(&self, epoch: u64) -> Result<(), Status> {
        let mut world = self.world();
        if epoch != 0 && epoch < world.epoch && !self.is(Fault::IgnoresEpoch) {
            return Err(Status::aborted("a stale epoch"));
        }
        world.epoch = world.epoch.max(epoch);
        Ok(())
    }

    pub fn invalid(&self, field: &str) -> Status {
        let mut details = ErrorDetails::new();
        if !self.is(Fault::NamesNoField) {
            details.add_bad_request_violation(field, "is wrong");
        }
        Status::with_error_details(tonic::Code::InvalidArgument, format!("{field} is wrong"), details)
    }

    pub fn check(&self, request: &CreateSessionRequest) -> Result<(), Status> {
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
        let unknown = matches!(spec.base_image.as_str(), "missing" | "malformed");
        if spec.base_image.is_empty() || (unknown && !self.is(Fault::TakesAnyImage)) {
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

    pub fn check_handle(&self, handle: &[u8]) -> Result<(), Status> {
        let too_long = handle.len() > 64 << 10 && !self.is(Fault::TakesAnyHandle);
        let unknown = !handle.is_empty() && handle != WAKING && self.is(Fault::RefusesHandles);
        if too_long || unknown { Err(self.invalid("handle")) } else { Ok(()) }
    }

    pub async fn create_one(&self, limit: Duration, request: CreateSessionRequest) -> Result<Object, Status> {
        let _one_at_a_time = self.mutations.lock().await;
        let id = request.session_id.clone();
        let found = self
            .call(limit, |world| {
                if self.is(Fault::LosesRenamed)
                    && let Some(object) = world.objects.get_mut(&id).filter(|object| object.renamed)
                {
                    object.renamed = false;
                    object.doubles += 1;
                }
                (world.objects.get(&id).cloned(), world.foreign.contains_key(&id))
            })
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
                        waking: false,
                        renamed: false,
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

    pub async fn look(&self, limit: Duration, id: &str) -> Result<Object, Status> {
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
                    waking: false,
                    renamed: false,
                }),
                Some(object) if object.renamed && self.is(Fault::LosesRenamed) => None,
                found => found.cloned(),
            })
            .await?;
        found.ok_or_else(|| Status::not_found("no such session"))
    }

    pub async fn change_phase(&self, limit: Duration, id: &str, phase: &'static str) -> Result<(), Status> {
        let _one_at_a_time = self.mutations.lock().await;
        self.look(limit, id).await?;
        self.call(limit, |world| {
            let Some(object) = world.objects.get_mut(id) else { return };
            object.waking = false;
            if self.is(Fault::ChangesNodes) {
                world.nodes += 1;
                object.node = format!("node-{}", world.nodes);
            }
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

    pub fn announce(&self, id: &str) {
        self.world().feed.push(id);
        self.news.send_replace(());
    }

    pub fn remove(&self, id: &str) {
        let mut world = self.world();
        world.objects.remove(id);
        let prefix = format!("{id}.");
        world.volumes.retain(|volume| !volume.starts_with(&prefix));
    }
}
