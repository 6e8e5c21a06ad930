//! `SessionService`.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::Method;
use serde_json::json;
use streamspace_proto::api::v1 as proto;
use tonic::{Request, Response, Status};

use super::call::{Reply, digits, opened, opened_for_operators, wait, word};
use crate::control::Shared;
use crate::domain::{Phase, Session, SessionId, WishedState};
use crate::rest::auth::Caller;
use crate::rest::events::{self, EventView, RememberedSession};
use crate::rest::extract::{find, parameters};
use crate::rest::idempotency::RepeatKey;
use crate::rest::logs::{self, Output};
use crate::rest::problem::Problem;
use crate::rest::sessions::{self, Deleting, Remains, VisibleRecord, VisibleSession};
use crate::rest::view::SessionView;
use crate::rest::wish::{self, Answer, Wanted, wanted};
use crate::rest::{access, create, explain, migrate, usage, verbs};

/// The service.
pub(super) struct Sessions(pub(super) Arc<Shared>);

/// A call that wishes something of a session.
struct Call {
    id: String,
    key: Option<String>,
    wait: Option<prost_types::Duration>,
}

impl Sessions {
    /// What clients of the REST API see, as a message.
    fn shown(&self, session: &str) -> Result<proto::Session, Problem> {
        self.0.contract.message_of_text(session)
    }

    fn answered(&self, answer: &Answer) -> Reply<proto::WishedSession> {
        let Answer { settled, session } = answer;
        Ok(Response::new(proto::WishedSession { session: Some(self.shown(session)?), settled: *settled }))
    }

    /// Wishes a state, by the request of REST that does the same: a key is bound to that.
    async fn wish(
        &self,
        caller: &Caller,
        call: Call,
        state: WishedState,
        (method, verb, body): (Method, &str, String),
    ) -> Reply<proto::WishedSession> {
        let shared = self.0.as_ref();
        let (key, wait) = (RepeatKey::of_field(call.key)?, wait(call.wait)?);
        let VisibleSession(id) = find(call.id, caller, shared).await?;
        let key = key.bound_to(&wanted(&method, &id, verb, body.as_bytes()), caller, shared);
        self.answered(&wish::wish(shared, id, Wanted { by: caller.actor(), state, wait, key }).await?)
    }

    /// A session with all that is stored of it.
    async fn record(&self, id: String, caller: &Caller) -> Result<VisibleRecord, Problem> {
        find(id, caller, &self.0).await
    }

    /// The same without what is under way.
    async fn session(&self, id: String, caller: &Caller) -> Result<Session, Problem> {
        Ok(self.record(id, caller).await?.0.session)
    }
}

/// A state by its name in the REST API.
fn state(number: i32) -> Result<Option<WishedState>, Problem> {
    let name = word("state", number, |state| match state {
        proto::SessionState::Unspecified => None,
        proto::SessionState::Running => Some(WishedState::Running.as_str()),
        proto::SessionState::Hibernated => Some(WishedState::Hibernated.as_str()),
        proto::SessionState::Terminated => Some(WishedState::Terminated.as_str()),
    })?;
    Ok(name.and_then(|name| WishedState::parse(&name)))
}

fn phase(number: i32) -> Result<Option<String>, Problem> {
    word("phase", number, |phase| match phase {
        proto::SessionPhase::Unspecified => None,
        proto::SessionPhase::Pending => Some(Phase::Pending.as_str()),
        proto::SessionPhase::Running => Some(Phase::Running.as_str()),
        proto::SessionPhase::Hibernated => Some(Phase::Hibernated.as_str()),
        proto::SessionPhase::Failed => Some(Phase::Failed.as_str()),
        proto::SessionPhase::Terminated => Some(Phase::Terminated.as_str()),
    })
}

#[tonic::async_trait]
impl proto::session_service_server::SessionService for Sessions {
    type LogsStream = BoxStream<'static, Result<proto::LogLine, Status>>;

    async fn create(&self, request: Request<proto::CreateSessionRequest>) -> Reply<proto::Session> {
        let (caller, mut request) = opened(request)?;
        let key = RepeatKey::of_field(request.idempotency_key.take())?;
        let wait = wait(request.wait.take())?;
        let body = serde_json::Value::from(self.0.contract.json(&request)?).to_string();
        let made = create::make(&self.0, &caller, key, body.as_bytes(), wait).await?;
        Ok(Response::new(self.shown(&made.session)?))
    }

    async fn get(&self, request: Request<proto::GetSessionRequest>) -> Reply<proto::Session> {
        let (caller, request) = opened(request)?;
        let VisibleRecord(record) = self.record(request.id, &caller).await?;
        Ok(Response::new(self.0.contract.message(&SessionView::new(&record))?))
    }

    async fn list(&self, request: Request<proto::ListSessionsRequest>) -> Reply<proto::ListSessionsResponse> {
        let (caller, request) = opened(request)?;
        let wanted = parameters([
            ("user_id", request.user_id),
            ("state", state(request.state)?.map(|state| state.as_str().to_owned())),
            ("phase", phase(request.phase)?),
            ("template_id", request.template_id),
            ("controller_id", request.controller_id),
            ("controller_type", request.controller_type),
            ("limit", digits(request.limit)),
            ("cursor", request.cursor),
        ])?;
        let (records, next_cursor) = sessions::page(&self.0, &caller, wanted).await?;
        let items = records.iter().map(|record| self.0.contract.message(&SessionView::new(record)));
        let items = items.collect::<Result<_, _>>()?;
        Ok(Response::new(proto::ListSessionsResponse { items, next_cursor }))
    }

    async fn set_state(
        &self,
        request: Request<proto::SetSessionStateRequest>,
    ) -> Reply<proto::WishedSession> {
        let (caller, proto::SetSessionStateRequest { id, state: number, idempotency_key: key, wait }) =
            opened(request)?;
        let Some(state) = state(number)? else {
            // A patch of nothing.
            let VisibleRecord(record) = self.record(id, &caller).await?;
            return self.answered(&Answer::of(&record));
        };
        let body = json!({ "state": state.as_str() }).to_string();
        self.wish(&caller, Call { id, key, wait }, state, (Method::PATCH, "", body)).await
    }

    async fn hibernate(
        &self,
        request: Request<proto::HibernateSessionRequest>,
    ) -> Reply<proto::WishedSession> {
        let (caller, proto::HibernateSessionRequest { id, idempotency_key: key, wait }) = opened(request)?;
        let verb = (Method::POST, "/hibernate", String::new());
        self.wish(&caller, Call { id, key, wait }, WishedState::Hibernated, verb).await
    }

    async fn wake(&self, request: Request<proto::WakeSessionRequest>) -> Reply<proto::WishedSession> {
        let (caller, proto::WakeSessionRequest { id, idempotency_key: key, wait }) = opened(request)?;
        let verb = (Method::POST, "/wake", String::new());
        self.wish(&caller, Call { id, key, wait }, WishedState::Running, verb).await
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteSessionRequest>,
    ) -> Reply<proto::DeleteSessionResponse> {
        let (caller, request) = opened(request)?;
        let proto::DeleteSessionRequest { id, purge_home, force, wait: given } = request;
        let how = Deleting { wait: wait(given)?, purge_home, force };
        let VisibleSession(id) = find(id, &caller, &self.0).await?;
        let session = match sessions::end(&self.0, &caller, &id, how).await? {
            Remains::Nothing => None,
            Remains::Session(record) => Some(self.0.contract.message(&SessionView::new(&record))?),
            Remains::Unreadable => Some(unreadable(&id)),
        };
        Ok(Response::new(proto::DeleteSessionResponse { gone: session.is_none(), session }))
    }

    async fn migrate(&self, request: Request<proto::MigrateSessionRequest>) -> Reply<proto::WishedSession> {
        let (caller, request) = opened_for_operators(request)?;
        let proto::MigrateSessionRequest { id, controller_id, idempotency_key: key, wait: given } = request;
        let (key, wait) = (RepeatKey::of_field(key)?, wait(given)?);
        let VisibleRecord(record) = self.record(id, &caller).await?;
        let body = json!({ "controller_id": controller_id }).to_string();
        self.answered(&migrate::go(&self.0, &caller, record, body.as_bytes(), key, wait).await?)
    }

    async fn retry(&self, request: Request<proto::RetrySessionRequest>) -> Reply<proto::WishedSession> {
        let (caller, request) = opened(request)?;
        let key = RepeatKey::of_field(request.idempotency_key)?;
        let wait = wait(request.wait)?;
        let VisibleSession(id) = find(request.id, &caller, &self.0).await?;
        self.answered(&verbs::try_again(&self.0, &caller, id, key, wait).await?)
    }

    async fn forget(
        &self,
        request: Request<proto::ForgetSessionRequest>,
    ) -> Reply<proto::ForgetSessionResponse> {
        let (caller, request) = opened_for_operators(request)?;
        let VisibleSession(id) = find(request.id, &caller, &self.0).await?;
        verbs::let_go(&self.0, &caller, id).await?;
        Ok(Response::new(proto::ForgetSessionResponse {}))
    }

    async fn get_metrics(
        &self,
        request: Request<proto::GetSessionMetricsRequest>,
    ) -> Reply<proto::SessionUsage> {
        let (caller, request) = opened(request)?;
        let session = self.session(request.id, &caller).await?;
        let usage = usage::measure(&self.0, &session).await?;
        Ok(Response::new(self.0.contract.message(&usage)?))
    }

    async fn logs(&self, request: Request<proto::SessionLogsRequest>) -> Reply<Self::LogsStream> {
        let (caller, request) = opened(request)?;
        let wanted = parameters([
            ("follow", Some(request.follow.to_string())),
            ("tail", digits(request.tail)),
            ("cursor", request.cursor),
            ("limit", digits(request.limit)),
        ])?;
        let session = self.session(request.id, &caller).await?;
        let output = logs::read(Arc::clone(&self.0), &caller, session, wanted).await?;
        let lines = match output {
            Output::Page { lines, .. } => stream::iter(lines.into_iter().map(Ok)).boxed(),
            Output::Follower(follower) => follower.lines().boxed(),
        };
        let shared = Arc::clone(&self.0);
        let lines = lines.map(move |line| Ok(shared.contract.message(&line?)?));
        Ok(Response::new(lines.boxed()))
    }

    async fn list_events(
        &self,
        request: Request<proto::ListSessionEventsRequest>,
    ) -> Reply<proto::ListSessionEventsResponse> {
        let (caller, request) = opened(request)?;
        let wanted = parameters([("after", request.after), ("limit", digits(request.limit))])?;
        let RememberedSession(id) = find(request.id, &caller, &self.0).await?;
        let (events, next_cursor) = events::page(&self.0, id, wanted).await?;
        let items = events.iter().map(|event| self.0.contract.message(&EventView::new(event)));
        let items = items.collect::<Result<_, _>>()?;
        Ok(Response::new(proto::ListSessionEventsResponse { items, next_cursor }))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainSessionRequest>,
    ) -> Reply<proto::SessionExplanation> {
        let (caller, request) = opened(request)?;
        let VisibleRecord(record) = self.record(request.id, &caller).await?;
        let show = |explanation: &explain::Explanation<'_>| self.0.contract.message(explanation);
        Ok(Response::new(explain::explain(&self.0, &caller, &record, show).await??))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::SessionHeartbeatRequest>,
    ) -> Reply<proto::SessionHeartbeatResponse> {
        let (caller, request) = opened(request)?;
        let VisibleRecord(record) = self.record(request.id, &caller).await?;
        wish::beat(&self.0, record).await?;
        Ok(Response::new(proto::SessionHeartbeatResponse {}))
    }

    async fn get_access(
        &self,
        request: Request<proto::GetSessionAccessRequest>,
    ) -> Reply<proto::SessionAccess> {
        let (caller, request) = opened(request)?;
        let session = self.session(request.id, &caller).await?;
        let ways = access::ways(&self.0, &session).await?;
        Ok(Response::new(self.0.contract.message(&ways)?))
    }
}

/// All that can be told of a session whose row cannot be read.
fn unreadable(id: &SessionId) -> proto::Session {
    proto::Session { id: id.to_string(), deleting: true, ..Default::default() }
}
