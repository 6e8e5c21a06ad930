//! The RPCs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use streamspace_proto::controller::v1::controller_service_server::{
    ControllerService, ControllerServiceServer,
};
use streamspace_proto::controller::v1::{
    CapabilitiesResponse, CreateSessionRequest, CreateSessionResponse, DeleteSessionRequest,
    DeleteSessionResponse, GetCapabilitiesRequest, GetSessionAccessRequest, GetSessionLogsRequest,
    GetSessionMetricsRequest, GetSessionRequest, GetSessionResponse, GetSessionStatusRequest,
    HealthCheckRequest, HealthCheckResponse, HibernateSessionRequest, HibernateSessionResponse,
    ListSessionsRequest, ListSessionsResponse, LogEntry, SessionAccessResponse, SessionEvent,
    SessionMetricsResponse, SessionStatusResponse, TunnelFrame, WakeSessionRequest, WakeSessionResponse,
    WatchSessionsRequest,
};
use streamspace_runtime::{Backend, CallOptions};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::breaker::Subject;
use crate::convert::{self, Mutation, home_key, session_ref, session_request, some_unless_empty};
use crate::high_water::HighWater;
use crate::slot::{Closed, Slot};
use crate::tenure::Tenure;
use crate::{deadline, status, streams};

/// Sessions of a page, unless the caller says otherwise.
const PAGE: u32 = 500;

/// What serves a [`Shell`]: on a socket, or in memory as the transport of a client.
pub type Service = ControllerServiceServer<Shell>;

/// What the generated client calls through.
pub type Transport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, tower::BoxError>;

type EventStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// ControllerService over one backend, or over one after the other.
pub struct Shell {
    slot: Arc<Slot>,
    high_water: HighWater,
    tenure: Tenure,
    /// When streams that have no end of their own come to it.
    ending: CancellationToken,
}

impl Shell {
    /// A shell over a backend.
    pub fn new(backend: Backend) -> Self {
        Self::over(Slot::new(backend))
    }

    /// A shell over whatever backend is in the slot.
    pub fn over(slot: Arc<Slot>) -> Self {
        let (high_water, tenure) = (HighWater::default(), Tenure::default());
        Self { slot, high_water, tenure, ending: CancellationToken::new() }
    }

    /// Refuses every epoch below this one from the start. Without it a shell that was started anew lets in whoever comes
    /// first, also one that was replaced while it was away: whoever registers or attaches it knows the epoch.
    pub fn fenced_from(self, epoch: u64) -> Self {
        self.high_water.raise(epoch);
        self
    }

    /// Refuses every epoch below this high water, which others may raise as well.
    pub fn fenced_by(self, high_water: HighWater) -> Self {
        Self { high_water, ..self }
    }

    /// Changes nothing unless this process is the active one of its controller.
    pub fn held_by(self, tenure: Tenure) -> Self {
        Self { tenure, ..self }
    }

    /// Ends its streams when told so: whoever waits until the calls under way have ended would wait for them for ever.
    pub fn ending_with(self, ending: CancellationToken) -> Self {
        Self { ending, ..self }
    }

    /// The service, ready to be served on a socket.
    pub fn into_service(self) -> Service {
        ControllerServiceServer::new(self)
    }

    /// The service as the transport of the generated client: no socket and no HTTP/2 between them.
    pub fn into_transport(self) -> Transport {
        let service = self.into_service();
        Transport::new(ServiceExt::<http::Request<Body>>::map_err(service, |never| match never {}))
    }

    /// Lets a mutation in, unless its caller has been replaced, or this process. Epoch 0 = the caller takes no part in
    /// fencing.
    fn admit(
        &self,
        timeout: Duration,
        operation_id: String,
        generation: u64,
        epoch: u64,
    ) -> Result<CallOptions, Status> {
        let seen = self.high_water.raise(epoch);
        if epoch != 0 && epoch < seen {
            return Err(status::stale_epoch(epoch, seen));
        }
        self.tenure.admit()?;
        Ok(CallOptions { timeout, operation_id, generation, epoch })
    }

    /// A stream until it ends, or until all do.
    fn unless_ending<T: Send + 'static>(
        &self,
        items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> EventStream<T> {
        let ending = self.ending.clone();
        let cut_off = async move {
            let message = "the controller ends";
            ending.is_cancelled().then(|| Err(status::unavailable("CONTROLLER_ENDS", message, None)))
        };
        let rest = stream::once(cut_off).filter_map(std::future::ready);
        Box::pin(items.take_until(self.ending.clone().cancelled_owned()).chain(rest))
    }

    async fn entry(
        &self,
        timeout: Duration,
        session_id: String,
        node_id: String,
    ) -> Result<streamspace_runtime::contract::lifecycle::SessionEntry, Status> {
        let session = session_ref(session_id, node_id)?;
        let subject = session.session_id.clone();
        let call = |backend: Backend| async move { backend.get(CallOptions::read(timeout), session).await };
        self.slot.call(Subject::Session(&subject), call).await
    }
}

#[tonic::async_trait]
impl ControllerService for Shell {
    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let mut request = request.into_inner();
        let operation_id = std::mem::take(&mut request.operation_id);
        let options = self.admit(timeout, operation_id, request.generation, request.epoch)?;
        let handle = convert::handle(std::mem::take(&mut request.handle))?;
        let session_id = request.session_id.clone();
        let wanted = session_request(request)?;
        let call = |backend: Backend| async move { backend.create(options, wanted, handle).await };
        let outcome = self.slot.call(Subject::Session(&session_id), call).await?;
        let Mutation { node_id, phase, message, handle, in_progress, poll_after, conditions } =
            convert::mutation(outcome);
        let url = String::new();
        Ok(Response::new(CreateSessionResponse {
            session_id,
            node_id,
            phase,
            url,
            message,
            handle,
            in_progress,
            poll_after,
            conditions,
        }))
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let entry = self.entry(timeout, request.session_id, request.node_id).await?;
        let entry = convert::entry(entry);
        Ok(Response::new(GetSessionResponse {
            status: entry.status,
            spec: entry.spec,
            user_id: entry.user_id,
            ownership: entry.ownership,
        }))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        if request.purge_home && request.user_id.is_empty() {
            return Err(status::invalid("user_id", "is required with purge_home"));
        }
        let purge_home = request.purge_home.then(|| home_key(&request.user_id));
        let options = self.admit(timeout, request.operation_id, request.generation, request.epoch)?;
        let session = session_ref(request.session_id.clone(), request.node_id)?;
        let handle = convert::handle(request.handle)?;
        let call =
            |backend: Backend| async move { backend.delete(options, session, purge_home, handle).await };
        let outcome = self.slot.call(Subject::Session(&request.session_id), call).await?;
        convert::deletion(request.session_id, outcome).map(Response::new)
    }

    async fn hibernate_session(
        &self,
        request: Request<HibernateSessionRequest>,
    ) -> Result<Response<HibernateSessionResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let options = self.admit(timeout, request.operation_id, request.generation, request.epoch)?;
        let session = session_ref(request.session_id.clone(), request.node_id)?;
        let handle = convert::handle(request.handle)?;
        let call = |backend: Backend| async move { backend.hibernate(options, session, handle).await };
        let outcome = self.slot.call(Subject::Session(&request.session_id), call).await?;
        let Mutation { phase, message, handle, in_progress, poll_after, conditions, .. } =
            convert::mutation(outcome);
        Ok(Response::new(HibernateSessionResponse {
            session_id: request.session_id,
            phase,
            message,
            handle,
            in_progress,
            poll_after,
            conditions,
        }))
    }

    async fn wake_session(
        &self,
        request: Request<WakeSessionRequest>,
    ) -> Result<Response<WakeSessionResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let options = self.admit(timeout, request.operation_id, request.generation, request.epoch)?;
        let session = session_ref(request.session_id.clone(), request.node_id)?;
        let handle = convert::handle(request.handle)?;
        let call = |backend: Backend| async move { backend.wake(options, session, handle).await };
        let outcome = self.slot.call(Subject::Session(&request.session_id), call).await?;
        let Mutation { phase, message, handle, in_progress, poll_after, conditions, .. } =
            convert::mutation(outcome);
        Ok(Response::new(WakeSessionResponse {
            session_id: request.session_id,
            phase,
            url: String::new(),
            message,
            handle,
            in_progress,
            poll_after,
            conditions,
        }))
    }

    async fn get_session_status(
        &self,
        request: Request<GetSessionStatusRequest>,
    ) -> Result<Response<SessionStatusResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let entry = self.entry(timeout, request.session_id, request.node_id).await?;
        Ok(Response::new(convert::status(entry.state)))
    }

    async fn get_session_metrics(
        &self,
        request: Request<GetSessionMetricsRequest>,
    ) -> Result<Response<SessionMetricsResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let session = session_ref(request.session_id.clone(), request.node_id)?;
        let call =
            |backend: Backend| async move { backend.metrics(CallOptions::read(timeout), session).await };
        let usage = self.slot.call(Subject::Session(&request.session_id), call).await?;
        Ok(Response::new(convert::metrics(request.session_id, usage)))
    }

    type GetSessionLogsStream = EventStream<LogEntry>;

    async fn get_session_logs(
        &self,
        request: Request<GetSessionLogsRequest>,
    ) -> Result<Response<Self::GetSessionLogsStream>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let session = session_ref(request.session_id, request.node_id)?;
        let tail = u32::try_from(request.tail_lines).ok().filter(|lines| *lines > 0);
        let cursor = convert::cursor(request.cursor)?;
        let lines = streams::logs(&self.slot, timeout, session, cursor, tail, request.follow).await?;
        Ok(Response::new(self.unless_ending(lines)))
    }

    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let call = |backend: Backend| async move {
            let report = backend.check(CallOptions::read(timeout)).await?;
            Ok(convert::capabilities(backend.plugin().backend_type(), report))
        };
        Ok(Response::new(self.slot.call(Subject::Backend, call).await?))
    }

    async fn health_check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        // Somebody answers, but there is nobody to ask.
        if let Err(Closed::Failing(failing)) = self.slot.enter() {
            return Ok(Response::new(convert::unhealthy(failing.to_string())));
        }
        let call = |backend: Backend| async move { backend.check(CallOptions::read(timeout)).await };
        let report = self.slot.call(Subject::Backend, call).await?;
        Ok(Response::new(convert::health(&report)))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let limit = u32::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(PAGE);
        let cursor = convert::cursor(request.cursor)?;
        let call =
            |backend: Backend| async move { backend.list(CallOptions::read(timeout), cursor, limit).await };
        let page = self.slot.call(Subject::Backend, call).await?;
        Ok(Response::new(ListSessionsResponse {
            entries: page.entries.into_iter().map(convert::entry).collect(),
            next_cursor: page.next_cursor.unwrap_or_default(),
        }))
    }

    type WatchSessionsStream = EventStream<SessionEvent>;

    async fn watch_sessions(
        &self,
        request: Request<WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let cursor = convert::cursor(request.into_inner().cursor)?;
        let events = streams::watch(&self.slot, timeout, cursor).await?;
        Ok(Response::new(self.unless_ending(events)))
    }

    async fn get_session_access(
        &self,
        request: Request<GetSessionAccessRequest>,
    ) -> Result<Response<SessionAccessResponse>, Status> {
        let timeout = deadline::of_request(request.metadata());
        let request = request.into_inner();
        let session = session_ref(request.session_id.clone(), request.node_id)?;
        let service = some_unless_empty(request.service);
        let call = |backend: Backend| async move {
            backend.access(CallOptions::read(timeout), session, service).await
        };
        let points = self.slot.call(Subject::Session(&request.session_id), call).await?;
        Ok(Response::new(SessionAccessResponse {
            session_id: request.session_id,
            points: points.into_iter().filter_map(convert::access_point).collect(),
        }))
    }

    type OpenTunnelStream = EventStream<TunnelFrame>;

    async fn open_tunnel(
        &self,
        _request: Request<Streaming<TunnelFrame>>,
    ) -> Result<Response<Self::OpenTunnelStream>, Status> {
        Err(Status::unimplemented("tunnels are not offered by this controller"))
    }
}
