//! RFB of a remote desktop, in binary frames of a WebSocket: what noVNC speaks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts as _, Path, Request, State};
use axum::response::Response;
use futures::{SinkExt as _, StreamExt as _};
use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::Gateway;
use super::address::Address;
use super::authorize::{Visitor, authorize};
use super::connect::{ConnectError, Destination, Stream};
use super::forward::{browsers_host, connect_problem, send};
use super::service::{Service, Speech, choose, is_up};
use super::ticket;
use crate::domain::{Session, SessionId, VncProtocol};
use crate::rest::openapi::Refused;
use crate::rest::problem::Problem;

/// Bytes taken from the desktop for one frame.
const FRAME: usize = 64 * 1024;
/// How long a desktop may take to greet.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// The largest message of a viewer: some keys, or a clipboard.
const LARGEST_MESSAGE: usize = 1 << 20;
/// A viewer of whom nothing was heard for so many heartbeats is gone.
const SILENT_HEARTBEATS: u32 = 3;
/// How long a farewell may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// The subprotocol that older clients ask for.
const PROTOCOL: &str = "binary";

/// The desktop of a session
///
/// RFB in the binary frames of a WebSocket (RFC 6455), as noVNC speaks it, for desktops with `"protocol": "rfb"` or
/// `"websocket"`. For clients with an API token, a ticket, or the cookie that a ticket was exchanged for.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}/vnc",
    operation_id = "open_desktop",
    tag = "Access",
    params(("id" = SessionId, Path, description = "The session's id.")),
    responses(
        (status = 101, description = "The connection is a WebSocket from now on, with RFB in it."),
        Refused<401>,
        Refused<403>,
        Refused<404>,
        Refused<409>,
        Refused<426>,
        Refused<429>,
        Refused<502>,
        Refused<503>,
    ),
    security(("token" = []), ("session_ticket" = [])),
)]
pub(super) async fn api(
    State(gateway): State<Arc<Gateway>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("there is no session with this id");
    let Path(id) = path.map_err(|_| unknown())?;
    let id = SessionId::parse(&id).map_err(|_| unknown())?;
    // Neither a ticket nor a token is the session's business.
    let visitor = match ticket::admit(&gateway, &id, request.uri()).await? {
        true => Visitor::Token,
        false => authorize(&gateway.shared, &id, request.headers()).await?,
    };
    let session = gateway.shared.store.session(&id).await?.ok_or_else(unknown)?.session;
    is_up(&session)?;
    let service = choose(&session, Some("vnc"))?;
    let protocol = session.spec.vnc.as_ref().map(|vnc| vnc.protocol);
    match (service.speech, protocol) {
        (Speech::Rfb, _) => {
            gateway.shared.activity.used(&session.id);
            over_websocket(&gateway, &session, &service, &visitor, request).await
        }
        (Speech::Http, Some(VncProtocol::Websocket)) => {
            gateway.shared.activity.used(&session.id);
            to_websocket(&gateway, &session, &service, &visitor, request).await
        }
        (Speech::Http, _) => Err(Problem::conflict(
            "unsupported",
            "the desktop of this session brings its own web client; open the session's url",
        )),
    }
}

/// The desktop speaks RFB over a WebSocket itself: where its controller says, without anything behind it.
async fn to_websocket(
    gateway: &Arc<Gateway>,
    session: &Session,
    service: &Service,
    visitor: &Visitor,
    mut request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    // Looked at only: it is the desktop's own to answer.
    let asked = WebSocketUpgrade::from_request_parts(&mut parts.clone(), &()).await;
    drop(asked.map_err(|_| needs_a_client())?);
    // The query has the ticket.
    parts.uri = Uri::from_static("/");
    request = Request::from_parts(parts, body);
    let address =
        Address { session: session.id.clone(), service: Some(service.name.clone()), path: String::new() };
    send(gateway, session, service, &address, visitor, request).await
}

fn needs_a_client() -> Problem {
    Problem::upgrade_required("the desktop of this session speaks RFB over a WebSocket: use a client for it")
}

/// Connects first, so that a desktop that cannot be reached is an answer and not a connection that breaks.
pub(super) async fn over_websocket(
    gateway: &Arc<Gateway>,
    session: &Session,
    service: &Service,
    visitor: &Visitor,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let upgrade =
        WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|_| needs_a_client())?;
    visitor.check_origin(&parts.headers, browsers_host(&parts.headers, &parts.uri).as_ref())?;
    let slot = gateway.slot(&session.id)?;
    let destination = Destination::new(session, &service.name);
    let connecting = gateway.connector.connect(&destination, Speech::Rfb);
    let (mut desktop, _) = connecting.await.map_err(|error| connect_problem(&error))?;
    let greeting = greeting(&mut desktop).await.map_err(|error| connect_problem(&error))?;
    let (gateway, id, generation) = (Arc::clone(gateway), session.id.clone(), session.generation);
    // Counted from now on: the server waits for it when it stops.
    let connection = gateway.shared.connections.token();
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(LARGEST_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let over = gateway.until_over(&id, generation);
        bridge(socket, greeting, desktop, gateway.shared.config.event_heartbeat, over).await;
        drop((slot, connection));
    }))
}

/// The first bytes of a desktop: it is the one to speak first (RFC 6143, section 7.1.1). A connection alone says little,
/// for what forwards a port accepts before anybody listens behind it.
async fn greeting(desktop: &mut Stream) -> Result<Bytes, ConnectError> {
    let mut buffer = vec![0; FRAME];
    match tokio::time::timeout(GREETING_LIMIT, desktop.read(&mut buffer)).await {
        Err(_) => Err(ConnectError::TimedOut),
        Ok(Ok(0) | Err(_)) => Err(ConnectError::Refused),
        Ok(Ok(read)) => {
            buffer.truncate(read);
            Ok(buffer.into())
        }
    }
}

/// Carries bytes both ways until one side ends, the session is over, or the viewer does not even answer pings: what went
/// without a farewell must not count as use for ever.
async fn bridge(
    socket: WebSocket,
    greeting: Bytes,
    desktop: Stream,
    heartbeat: Duration,
    over: impl Future<Output = ()>,
) {
    let (mut to_viewer, mut from_viewer) = socket.split();
    let (mut from_desktop, mut to_desktop) = tokio::io::split(desktop);
    let heard = watch::Sender::new(Instant::now());
    let down = async {
        if to_viewer.send(Message::Binary(greeting)).await.is_err() {
            return;
        }
        let mut buffer = vec![0; FRAME];
        let mut beat = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                read = from_desktop.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        Message::Binary(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default()))
                    }
                },
                _ = beat.tick() => Message::Ping(Bytes::new()),
            };
            if to_viewer.send(message).await.is_err() {
                return;
            }
        }
    };
    let up = async {
        while let Some(Ok(message)) = from_viewer.next().await {
            heard.send_replace(Instant::now());
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                // Answered by the library.
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Text(_) | Message::Close(_) => return,
            };
            if to_desktop.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let silence = async {
        let limit = heartbeat * SILENT_HEARTBEATS;
        loop {
            let last = *heard.borrow();
            if last.elapsed() >= limit {
                return;
            }
            tokio::time::sleep_until(last + limit).await;
        }
    };
    tokio::select! {
        () = down => {}
        () = up => {}
        () = silence => {}
        () = over => {}
    }
    let frame = CloseFrame { code: close_code::NORMAL, reason: "the desktop's connection ended".into() };
    // The viewer may have gone first, or take nothing any more.
    let _ = tokio::time::timeout(GOODBYE_LIMIT, to_viewer.send(Message::Close(Some(frame)))).await;
}
