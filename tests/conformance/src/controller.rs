//! The controller under test, as a client sees it. Every answer is searched for the secret that every session is given.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use prost::Message;
use streamspace_proto::controller::v1::controller_service_client::ControllerServiceClient;
use streamspace_proto::controller::v1::{
    CapabilitiesResponse, CreateSessionRequest, CreateSessionResponse, DeleteSessionRequest,
    DeleteSessionResponse, GetCapabilitiesRequest, GetSessionAccessRequest, GetSessionLogsRequest,
    GetSessionMetricsRequest, GetSessionRequest, GetSessionResponse, GetSessionStatusRequest,
    HealthCheckRequest, HealthCheckResponse, HibernateSessionRequest, HibernateSessionResponse,
    ListSessionsRequest, ListSessionsResponse, LogEntry, SessionAccessResponse, SessionEvent,
    SessionMetricsResponse, SessionStatusResponse, WakeSessionRequest, WakeSessionResponse,
    WatchSessionsRequest,
};
use streamspace_shell::Transport;
use tonic::{Request, Response, Status};

use crate::link::{Link, Loss};

/// How much longer than twice its time a call is waited for.
const GRACE: Duration = Duration::from_secs(5);

type Client = ControllerServiceClient<Transport>;

/// Where the secret of the run's sessions was seen, although nobody but the session may see it.
#[derive(Debug)]
pub struct Leaks {
    secret: String,
    seen_in: Mutex<BTreeSet<String>>,
}

impl Leaks {
    /// None seen yet of this secret.
    pub fn of(secret: String) -> Self {
        Self { secret, seen_in: Mutex::default() }
    }

    /// The secret.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Where it was seen so far.
    pub fn seen_in(&self) -> Vec<String> {
        self.seen_in.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn search(&self, place: &str, bytes: &[u8]) {
        let secret = self.secret.as_bytes();
        if bytes.windows(secret.len()).any(|window| window == secret) {
            self.seen_in.lock().unwrap_or_else(PoisonError::into_inner).insert(place.to_owned());
        }
    }

    fn search_error(&self, rpc: &str, status: &Status) {
        let place = format!("an error of {rpc}");
        self.search(&place, status.message().as_bytes());
        self.search(&place, status.details());
    }
}

/// A client of the controller under test. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    client: Client,
    loss: Arc<Loss>,
    leaks: Arc<Leaks>,
    limit: Duration,
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident = $rpc:literal, $method:ident($request:ty) -> $answer:ty;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// The status that the controller gave.
            pub async fn $name(&self, request: $request) -> Result<$answer, Status> {
                self.unary($rpc, request, |mut client, request| async move { client.$method(request).await }).await
            }
        )*
    };
}

impl Controller {
    /// Calls through a transport; every call may take so long.
    pub fn new(transport: Transport, leaks: Arc<Leaks>, limit: Duration) -> Self {
        let loss = Arc::new(Loss::default());
        let client = Client::new(Link::over(transport, Arc::clone(&loss)));
        Self { client, loss, leaks, limit }
    }

    /// The same with another time limit.
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// The next call arrives, and its answer does not.
    pub fn lose_the_next_answer(&self) {
        self.loss.of_the_next_answer();
    }

    unary! {
        /// CreateSession.
        create = "CreateSession", create_session(CreateSessionRequest) -> CreateSessionResponse;
        /// GetSession.
        get = "GetSession", get_session(GetSessionRequest) -> GetSessionResponse;
        /// GetSessionStatus.
        status = "GetSessionStatus", get_session_status(GetSessionStatusRequest) -> SessionStatusResponse;
        /// DeleteSession.
        delete = "DeleteSession", delete_session(DeleteSessionRequest) -> DeleteSessionResponse;
        /// HibernateSession.
        hibernate = "HibernateSession", hibernate_session(HibernateSessionRequest) -> HibernateSessionResponse;
        /// WakeSession.
        wake = "WakeSession", wake_session(WakeSessionRequest) -> WakeSessionResponse;
        /// GetSessionMetrics.
        metrics = "GetSessionMetrics", get_session_metrics(GetSessionMetricsRequest) -> SessionMetricsResponse;
        /// GetCapabilities.
        capabilities = "GetCapabilities", get_capabilities(GetCapabilitiesRequest) -> CapabilitiesResponse;
        /// HealthCheck.
        health = "HealthCheck", health_check(HealthCheckRequest) -> HealthCheckResponse;
        /// One page of ListSessions.
        list = "ListSessions", list_sessions(ListSessionsRequest) -> ListSessionsResponse;
    }

    /// GetSessionAccess. Its answer may carry credentials of the session's own, so that only errors are searched.
    ///
    /// # Errors
    ///
    /// The status that the controller gave.
    pub async fn access(&self, request: GetSessionAccessRequest) -> Result<SessionAccessResponse, Status> {
        let mut client = self.client.clone();
        let answer = client.get_session_access(self.limited(request)).await;
        answer
            .map(Response::into_inner)
            .inspect_err(|status| self.leaks.search_error("GetSessionAccess", status))
    }

    /// GetSessionLogs. The lines are the session's own and are not searched.
    ///
    /// # Errors
    ///
    /// The status that the controller gave, here or in the stream.
    pub async fn logs(
        &self,
        request: GetSessionLogsRequest,
    ) -> Result<impl Stream<Item = Result<LogEntry, Status>> + Send + Unpin + use<>, Status> {
        let leaks = Arc::clone(&self.leaks);
        // No time limit: a stream that is followed has none.
        let stream = self.client.clone().get_session_logs(request).await;
        let stream = stream.inspect_err(|status| leaks.search_error("GetSessionLogs", status))?;
        Ok(stream.into_inner().inspect(move |entry| {
            if let Err(status) = entry {
                leaks.search_error("GetSessionLogs", status);
            }
        }))
    }

    /// WatchSessions.
    ///
    /// # Errors
    ///
    /// The status that the controller gave, here or in the stream.
    pub async fn watch(
        &self,
        cursor: &str,
    ) -> Result<impl Stream<Item = Result<SessionEvent, Status>> + Send + Unpin + use<>, Status> {
        let leaks = Arc::clone(&self.leaks);
        let request = WatchSessionsRequest { cursor: cursor.to_owned() };
        let stream = self.client.clone().watch_sessions(request).await;
        let stream = stream.inspect_err(|status| leaks.search_error("WatchSessions", status))?;
        Ok(stream.into_inner().inspect(move |event| match event {
            Ok(event) => leaks.search("an event of WatchSessions", &event.encode_to_vec()),
            Err(status) => leaks.search_error("WatchSessions", status),
        }))
    }

    fn limited<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.limit);
        request
    }

    async fn unary<Q, A, F>(
        &self,
        rpc: &'static str,
        request: Q,
        call: impl FnOnce(Client, Request<Q>) -> F,
    ) -> Result<A, Status>
    where
        A: Message,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let answer = call(self.client.clone(), self.limited(request));
        // In memory nobody but the controller keeps the time.
        let answer = match tokio::time::timeout(self.limit * 2 + GRACE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::unknown(format!("{rpc} goes on long after its time is up"))),
        };
        match answer {
            Ok(answer) => {
                let answer = answer.into_inner();
                self.leaks.search(&format!("the answer of {rpc}"), &answer.encode_to_vec());
                Ok(answer)
            }
            Err(status) => {
                self.leaks.search_error(rpc, &status);
                Err(status)
            }
        }
    }
}
