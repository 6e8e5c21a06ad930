//! HTTP requests to sessions and back, and the connections that they are upgraded to.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::MissedTickBehavior;

use super::Gateway;
use super::address::Address;
use super::authorize::{self, Visitor, authorize};
use super::connect::{ConnectError, Connector, Destination};
use super::headers::{remove_hop_by_hop, remove_own_cookie, rewrite_answer};
use super::service::{Service, Speech, choose, is_up};
use super::{page, rfb, ticket};
use crate::domain::{Generation, Session, SessionId};
use crate::rest::problem::Problem;
use crate::slots::Slot;

/// Connections kept for the next request of a session.
const IDLE_CONNECTIONS: usize = 8;
/// How long they are kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Open connections are no sign of use more often than that.
const SHORTEST_SIGN: Duration = Duration::from_millis(10);

/// The HTTP client towards sessions.
pub(super) struct Forwarder {
    client: Client<Connector, Body>,
}

impl Forwarder {
    pub(super) fn new(connector: Connector) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            // The browser's own name for the server stays: applications compare it with Origin.
            .set_host(false)
            .build(connector);
        Self { client }
    }
}

/// `/s/<session>`: relative links need the slash.
pub(super) async fn without_slash(uri: Uri) -> Redirect {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Redirect::permanent(&format!("{}/{query}", uri.path()))
}

/// `/s/<session>/…`.
pub(super) async fn forward(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let headers = request.headers().clone();
    match try_forward(&gateway, request).await {
        Ok(response) => response,
        Err(problem) => page::refusal(&headers, problem),
    }
}

async fn try_forward(gateway: &Arc<Gateway>, request: Request) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("there is no session with this id");
    let address = Address::parse(request.uri().path()).ok_or_else(unknown)?;
    if let Some(redirection) = ticket::redeem(gateway, &address, request.uri(), request.headers()).await? {
        return Ok(redirection);
    }
    let visitor = authorize(&gateway.shared, &address.session, request.headers()).await?;
    let record = gateway.shared.store.session(&address.session).await?.ok_or_else(unknown)?;
    let session = record.session;
    is_up(&session)?;
    let service = choose(&session, address.service.as_deref())?;
    if address.path.is_empty() && service.speech == Speech::Http {
        return Ok(without_slash(request.uri().clone()).await.into_response());
    }
    if address.path == "/" && service.start != "/" && request.method() == Method::GET {
        return Ok(Redirect::temporary(&format!("{}{}", address.prefix(), service.start)).into_response());
    }
    gateway.activity.used(&session.id);
    let secure = authorize::is_secure(request.headers());
    let mut response = match service.speech {
        Speech::Http => send(gateway, &session, &service, &address, &visitor, request).await?,
        Speech::Rfb => rfb::over_websocket(gateway, &session, &service, request).await?,
    };
    if let Visitor::AgingCookie(value) = visitor {
        let cookie = authorize::set_cookie(&address.session, &value, secure);
        response.headers_mut().append(header::SET_COOKIE, cookie.parse().map_err(|_| Problem::internal())?);
    }
    Ok(response)
}

/// Sends a request on and brings the answer back.
async fn send(
    gateway: &Arc<Gateway>,
    session: &Session,
    service: &Service,
    address: &Address,
    visitor: &Visitor,
    mut request: Request,
) -> Result<Response, Problem> {
    let destination = Destination::new(session, &service.name);
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("http://{}{}{query}", destination.authority(), address.path);
    *request.uri_mut() =
        target.parse().map_err(|_| Problem::not_found("the session cannot have such a path"))?;
    *request.version_mut() = http::Version::HTTP_11;

    let browser = request.extensions_mut().remove::<OnUpgrade>();
    let headers = request.headers_mut();
    let upgrade = remove_hop_by_hop(headers).filter(|_| browser.is_some());
    let mut slot = None;
    if let Some(protocol) = upgrade {
        slot = Some(gateway.slot(&session.id)?);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    remove_own_cookie(headers);
    if *visitor == Visitor::Token {
        headers.remove(header::AUTHORIZATION);
    }
    let host = headers.get(header::HOST).cloned();
    if let Some(host) = &host {
        headers.insert("x-forwarded-host", host.clone());
    }
    if !headers.contains_key("x-forwarded-proto") {
        headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    }
    if let Ok(prefix) = address.prefix().parse() {
        headers.insert("x-forwarded-prefix", prefix);
    }

    let mut answer = gateway.forwarder.client.request(request).await.map_err(|error| {
        tracing::debug!(session = %session.id, service = service.name, %error, cause = ?error.source(), "no answer from the session");
        unanswered(&error)
    })?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let (Some(browser), Some(slot)) = (browser, slot)
    {
        join(gateway, session, slot, browser, hyper::upgrade::on(&mut answer));
    } else {
        remove_hop_by_hop(answer.headers_mut());
    }
    rewrite_answer(answer.headers_mut(), &address.prefix(), host.as_ref());
    Ok(answer.map(Body::new))
}

fn unanswered(error: &hyper_util::client::legacy::Error) -> Problem {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return connect_problem(error);
        }
        cause = error.source();
    }
    Problem::bad_gateway("the session ended the connection without an answer")
}

/// How a failed connection is told.
pub(super) fn connect_problem(error: &ConnectError) -> Problem {
    match error {
        ConnectError::Store(_) => Problem::internal(),
        ConnectError::Changed => {
            Problem::unavailable("session-changed", "the session has just changed; try again")
        }
        ConnectError::NoWay | ConnectError::Unsupported => {
            Problem::bad_gateway(format!("the session cannot be reached: {error}"))
        }
        ConnectError::Controller(_) | ConnectError::Refused(_) | ConnectError::TimedOut => {
            Problem::unavailable("session-unreachable", format!("the session cannot be reached: {error}"))
        }
    }
}

/// Carries bytes both ways until either side ends, the session does, or this server stops.
fn join(gateway: &Arc<Gateway>, session: &Session, slot: Slot, browser: OnUpgrade, session_side: OnUpgrade) {
    let (id, generation) = (session.id.clone(), session.generation);
    // Counted: the server waits for it when it stops.
    let connections = gateway.shared.connections.clone();
    let gateway = Arc::clone(gateway);
    connections.spawn(async move {
        let _slot = slot;
        let (browser, session_side) = match tokio::try_join!(browser, session_side) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(session = %id, %error, "an upgrade did not come about");
                return;
            }
        };
        let (mut browser, mut session_side) = (TokioIo::new(browser), TokioIo::new(session_side));
        tokio::select! {
            ended = tokio::io::copy_bidirectional(&mut browser, &mut session_side) => {
                if let Err(error) = ended {
                    tracing::debug!(session = %id, %error, "an upgraded connection broke");
                }
            }
            () = gateway.until_over(&id, generation) => {}
        }
    });
}

impl Gateway {
    /// A place for a connection that outlives its request.
    pub(super) fn slot(&self, id: &SessionId) -> Result<Slot, Problem> {
        let slot = self.shared.kept.visits.take(id.as_str());
        slot.ok_or_else(|| Problem::too_many("too many connections to this session, or to all, are open"))
    }

    /// Returns when the session is not what it was when a long connection began, or when the server stops: then no
    /// connection to it may live on. Until then the session counts as used.
    pub(super) async fn until_over(&self, id: &SessionId, generation: Generation) {
        let mut listener = self.shared.changes.subscribe();
        // Twice as often as it is written down, so that no sign comes a moment too early and is lost.
        let pause = (self.shared.config.activity_interval / 2).max(SHORTEST_SIGN);
        let mut sign = tokio::time::interval(pause);
        sign.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A database that does not answer says nothing about the session.
            if let Ok(record) = self.shared.store.session(id).await {
                let lives = record.is_some_and(|record| {
                    record.session.generation == generation && is_up(&record.session).is_ok()
                });
                if !lives {
                    return;
                }
            }
            tokio::select! {
                () = listener.changed(id) => {}
                _ = sign.tick() => self.activity.used(id),
                () = self.shared.stopping.cancelled() => return,
            }
        }
    }
}
