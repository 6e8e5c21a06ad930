//! HTTP requests to sessions and back, and the connections that they are upgraded to.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::MissedTickBehavior;

use super::Gateway;
use super::address::Address;
use super::authorize::{self, Visitor, authorize};
use super::connect::{ConnectError, Destination};
use super::headers::{Place, remove_hop_by_hop, remove_own_cookie, rewrite_answer};
use super::pool::{Connection, Pool};
use super::service::{Service, Speech, choose, is_up};
use super::way::Site;
use super::{page, rfb, ticket};
use crate::domain::{Generation, Session, SessionId};
use crate::rest::problem::Problem;
use crate::slots::Slot;

/// Open connections are no sign of use more often than that.
const SHORTEST_SIGN: Duration = Duration::from_millis(10);
/// What a connection may be upgraded to. Others, such as `h2c`, would carry whole requests past the gateway.
const WEBSOCKET: &str = "websocket";

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
    gateway.shared.activity.used(&session.id);
    let secure = authorize::is_secure(request.headers());
    let mut response = match service.speech {
        Speech::Http => send(gateway, &session, &service, &address, &visitor, request).await?,
        Speech::Rfb => rfb::over_websocket(gateway, &session, &service, &visitor, request).await?,
    };
    if let Visitor::AgingCookie(value) = visitor {
        let cookie = authorize::set_cookie(&address.session, &value, secure);
        response.headers_mut().append(header::SET_COOKIE, cookie.parse().map_err(|_| Problem::internal())?);
    }
    Ok(response)
}

/// Sends a request on and brings the answer back.
pub(super) async fn send(
    gateway: &Arc<Gateway>,
    session: &Session,
    service: &Service,
    address: &Address,
    visitor: &Visitor,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    // TRACE would show what the gateway adds, CONNECT leads past it.
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Problem::method_not_allowed());
    }
    let host = browsers_host(&parts.headers, &parts.uri);
    let browser = parts.extensions.remove::<OnUpgrade>();
    let upgrade = remove_hop_by_hop(&mut parts.headers).filter(|protocol| {
        browser.is_some() && protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
    });
    let mut slot = None;
    if let Some(protocol) = upgrade {
        visitor.check_origin(&parts.headers, host.as_ref())?;
        slot = Some(gateway.slot(&session.id)?);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    remove_own_cookie(&mut parts.headers);
    if *visitor == Visitor::Token {
        parts.headers.remove(header::AUTHORIZATION);
    }
    if let Some(host) = &host {
        parts.headers.insert(header::HOST, host.clone());
        parts.headers.insert("x-forwarded-host", host.clone());
    }
    if !parts.headers.contains_key("x-forwarded-proto") {
        parts.headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    }
    let prefix = address.prefix();
    if let Ok(prefix) = prefix.parse() {
        parts.headers.insert("x-forwarded-prefix", prefix);
    }

    let outbound = Outbound {
        destination: Destination::new(session, &service.name),
        method: parts.method,
        path: &address.path,
        query: parts.uri.query(),
        headers: parts.headers,
    };
    let (mut answer, site) = outbound.exchange(&gateway.pool, body).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(browser), Some(slot)) = (browser, slot) else {
            return Err(Problem::bad_gateway("the session switched to a protocol that nobody asked for"));
        };
        join(gateway, session, slot, browser, hyper::upgrade::on(&mut answer));
    } else {
        remove_hop_by_hop(answer.headers_mut());
    }
    rewrite_answer(answer.headers_mut(), &Place { prefix: &prefix, host: host.as_ref(), site: &site });
    Ok(answer.map(Body::new))
}

/// How the browser calls this server: applications compare it with `Origin`.
pub(super) fn browsers_host(headers: &HeaderMap, uri: &Uri) -> Option<HeaderValue> {
    let authority = || uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    headers.get(header::HOST).cloned().or_else(authority)
}

/// A request as it is sent on, but for what depends on the connection.
struct Outbound<'a> {
    destination: Destination,
    method: Method,
    path: &'a str,
    query: Option<&'a str>,
    headers: HeaderMap,
}

impl Outbound<'_> {
    /// Sends it over a kept connection if there is one. Such a one may be closed by its other end just now: what did not
    /// get out at all is sent again over a new one.
    async fn exchange(
        self,
        pool: &Pool,
        body: Body,
    ) -> Result<(http::Response<Incoming>, Arc<Site>), Problem> {
        let told = |error: ConnectError| {
            tracing::debug!(session = %self.destination.session, service = self.destination.service, %error, "no connection to the session");
            connect_problem(&error)
        };
        let mut connection = pool.take(&self.destination).await.map_err(told)?;
        let mut body = body;
        loop {
            let request = self.request(&connection.site, body)?;
            let mut failed = match connection.sender.try_send_request(request).await {
                Ok(answer) => {
                    let site = Arc::clone(&connection.site);
                    self.keep(pool, connection, answer.status());
                    return Ok((answer, site));
                }
                Err(failed) => failed,
            };
            match failed.take_message() {
                Some(unsent) if connection.is_used => {
                    body = unsent.into_body();
                    connection = pool.fresh(&self.destination).await.map_err(told)?;
                }
                _ => {
                    tracing::debug!(session = %self.destination.session, service = self.destination.service, error = %failed.error(), "no answer from the session");
                    return Err(Problem::bad_gateway("the session ended the connection without an answer"));
                }
            }
        }
    }

    fn request(&self, site: &Site, body: Body) -> Result<http::Request<Body>, Problem> {
        let no_path = || Problem::not_found("the session cannot have such a path");
        let path = site.path(self.path).ok_or_else(no_path)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let query = self.query.map(|query| format!("?{query}")).unwrap_or_default();
        let target: PathAndQuery = format!("{slash}{path}{query}").parse().map_err(|_| no_path())?;
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = self.headers.clone();
        site.added.put_into(request.headers_mut());
        Ok(request)
    }

    /// Not where what the controller logged in with is not good any more: the next request asks it anew.
    fn keep(&self, pool: &Pool, connection: Connection, status: StatusCode) {
        if status != StatusCode::UNAUTHORIZED && status != StatusCode::SWITCHING_PROTOCOLS {
            pool.keep(self.destination.clone(), connection);
        }
    }
}

/// How a failed connection is told.
pub(super) fn connect_problem(error: &ConnectError) -> Problem {
    let detail = format!("the session cannot be reached: {error}");
    match error {
        ConnectError::Store(_) => Problem::internal(),
        ConnectError::Changed => {
            Problem::unavailable("session-changed", "the session has just changed; try again")
        }
        ConnectError::Unsupported(_) => Problem::conflict("unsupported", &detail),
        ConnectError::NoWay | ConnectError::Forbidden | ConnectError::Tls(_) => Problem::bad_gateway(detail),
        ConnectError::Controller(_) | ConnectError::Refused | ConnectError::TimedOut => {
            Problem::unavailable("session-unreachable", detail)
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
                _ = sign.tick() => self.shared.activity.used(id),
                () = self.shared.stopping.cancelled() => return,
            }
        }
    }
}
