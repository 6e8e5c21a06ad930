//! The controller's wire.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt as _, stream};
use streamspace_conformance::Weather;
use streamspace_proto::controller::v1::controller_service_server::ControllerService;
use streamspace_proto::controller::v1::*;
use tonic::{Request, Response, Status, Streaming};

use super::Fault;
use super::controller::{Model, WAKING};
use super::world::{Object, Told};

type Answer<T> = Result<Response<T>, Status>;

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

fn condition(kind: &str, holds: bool, reason: &str, message: String) -> Condition {
    Condition {
        r#type: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: None,
    }
}

/// The sizes that a spec asks for; the model enforces none.
fn sizes(spec: &SessionSpec) -> Vec<&'static str> {
    let mounts = spec.volume_mounts.iter().any(|mount| !mount.size.is_empty());
    let storage = spec.resources.as_ref().is_some_and(|resources| !resources.storage.is_empty());
    let asked = [
        ("spec.resources.storage", storage),
        ("spec.home_size", !spec.home_size.is_empty()),
        ("spec.volume_mounts.size", mounts),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(field, _)| field).collect()
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Model {
    fn status_of(&self, id: &str, object: &Object) -> SessionStatusResponse {
        let well = object.phase == "Running";
        let mut conditions = vec![condition("Ready", well, object.phase, format!("it is {}", object.phase))];
        if self.is(Fault::FailsSilently) {
            conditions.clear();
        }
        let sizes = sizes(&object.spec);
        if !sizes.is_empty() && !self.is(Fault::IgnoresSizes) {
            let message = format!("nobody enforces {}", sizes.join(", "));
            conditions.push(condition("LimitsEnforced", false, "Unsupported", message));
        }
        SessionStatusResponse {
            session_id: id.to_owned(),
            phase: object.phase.to_owned(),
            node_id: object.node.clone(),
            conditions,
            ..Default::default()
        }
    }

    /// The next event behind a position.
    async fn next_event(&self, position: usize) -> (SessionEvent, usize) {
        let mut news = self.news.subscribe();
        loop {
            news.borrow_and_update();
            let told = self.world().feed.read(position);
            if let Some((told, next)) = told {
                let cursor = next.to_string();
                let event = match told {
                    Told::Session(session_id) => SessionEvent {
                        status: Some(SessionStatusResponse { session_id, ..Default::default() }),
                        cursor,
                        ..Default::default()
                    },
                    Told::Lost => resync(cursor),
                };
                return (event, next);
            }
            // The sender lives as long as the model.
            news.changed().await.unwrap();
        }
    }
}

fn resync(cursor: String) -> SessionEvent {
    SessionEvent { resync: true, cursor, ..Default::default() }
}

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
            status: Some(self.status_of(&id, &object)),
            spec: None,
            user_id: if self.is(Fault::ForgetsUsers) { String::new() } else { object.user },
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
                tokio::time::sleep(Duration::from_secs(4)).await;
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
        self.check_handle(&request.handle)?;
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
        self.check_handle(&request.handle)?;
        let asleep = self.look(limit, &request.session_id).await?.phase == "Hibernated";
        // The first step begins it, whatever comes with the call; the next one finds it begun.
        let begins = self
            .call(limit, |world| {
                let object =
                    world.objects.get_mut(&request.session_id).filter(|object| asleep && !object.waking);
                object.map(|object| object.waking = true).is_some()
            })
            .await?;
        if begins {
            return Ok(Response::new(WakeSessionResponse {
                session_id: request.session_id,
                in_progress: true,
                handle: WAKING.to_vec(),
                ..Default::default()
            }));
        }
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
        Ok(Response::new(self.status_of(&id, &object)))
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
            (_, Ok(tail)) if tail > 0 && !self.is(Fault::IgnoresTails) => written().saturating_sub(tail),
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
            Err(_) if self.is(Fault::AlwaysHealthy) => ("healthy", String::new()),
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
        let mut objects = self.call(limit, |world| world.objects.clone()).await?;
        objects.retain(|_, object| !object.renamed || !self.is(Fault::LosesRenamed));
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
                status: Some(self.status_of(id, object)),
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
        let cursor = request.into_inner().cursor;
        let end = self.world().feed.end();
        let from = if self.is(Fault::SkipsGaps) { Ok(end) } else { cursor.parse::<usize>() };
        // Without a cursor, or with one that is none, it begins here, and says so.
        let (first, position) = match from {
            Ok(position) if !cursor.is_empty() => (None, position),
            _ => (Some(Ok(resync(end.to_string()))), end),
        };
        let first = stream::iter(first);
        if self.is(Fault::TellsNothing) {
            return Ok(Response::new(Box::pin(first.chain(stream::pending()))));
        }
        let model = self.clone();
        let events = stream::unfold(position, move |position| {
            let model = model.clone();
            async move {
                let (event, next) = model.next_event(position).await;
                Some((Ok(event), next))
            }
        });
        Ok(Response::new(Box::pin(first.chain(events))))
    }

    async fn get_session_access(
        &self,
        request: Request<GetSessionAccessRequest>,
    ) -> Answer<SessionAccessResponse> {
        let limit = limit_of(&request);
        let GetSessionAccessRequest { session_id, service, .. } = request.into_inner();
        let object = self.look(limit, &session_id).await?;
        if !matches!(service.as_str(), "" | "web") && !self.is(Fault::AnyService) {
            return Err(Status::not_found("no such service"));
        }
        if object.phase != "Running" && !self.is(Fault::LeavesTheDoorOpen) {
            return Err(Status::failed_precondition("it does not run"));
        }
        let target = access_point::Target::Http(HttpTarget {
            // Nobody serves on port 1.
            base_url: format!(
                "http://127.0.0.1:{}",
                if self.is(Fault::LeadsNowhere) { 1 } else { self.port }
            ),
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
