//! RFB of a remote desktop, in binary frames of a WebSocket: what noVNC speaks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts as _, Path, Request, State};
use axum::response::Response;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Gateway;
use super::authorize::authorize;
use super::connect::Destination;
use super::forward::connect_problem;
use super::service::{Service, Speech, choose, is_up};
use super::ticket;
use crate::domain::{Session, SessionId};
use crate::rest::openapi::Refused;
use crate::rest::problem::Problem;

/// Bytes taken from the desktop for one frame.
const FRAME: usize = 64 * 1024;
/// How long a farewell may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// The subprotocol that older clients ask for.
const PROTOCOL: &str = "binary";

/// The desktop of a session
///
/// RFB in the binary frames of a WebSocket (RFC 6455), as noVNC speaks it, for desktops with `"protocol": "rfb"`. For clients
/// with an API token, a ticket, or the cookie that a ticket was exchanged for.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}/vnc",
    operation_id = "open_desktop",
    tag = "Access",
    params(("id" = SessionId, Path, description = "The session's id.")),
    responses(
        (status = 101, description = "The connection is a WebSocket from now on, with RFB in it."),
        Refused<401>,
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
    if !ticket::admit(&gateway, &id, request.uri()).await? {
        authorize(&gateway.shared, &id, request.headers()).await?;
    }
    let session = gateway.shared.store.session(&id).await?.ok_or_else(unknown)?.session;
    is_up(&session)?;
    let service = choose(&session, Some("vnc"))?;
    if service.speech != Speech::Rfb {
        return Err(Problem::conflict(
            "unsupported",
            "the desktop of this session brings its own web client; open the session's url",
        ));
    }
    gateway.activity.used(&session.id);
    over_websocket(&gateway, &session, &service, request).await
}

/// Connects first, so that a desktop that cannot be reached is an answer and not a connection that breaks.
pub(super) async fn over_websocket(
    gateway: &Arc<Gateway>,
    session: &Session,
    service: &Service,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|_| {
        Problem::upgrade_required(
            "the desktop of this session speaks RFB over a WebSocket: use a client for it",
        )
    })?;
    let slot = gateway.slot(&session.id)?;
    let destination = Destination::new(session, &service.name);
    let desktop = gateway.connector.connect(&destination).await.map_err(|error| connect_problem(&error))?;
    let (gateway, id, generation) = (Arc::clone(gateway), session.id.clone(), session.generation);
    // Counted from now on: the server waits for it when it stops.
    let connection = gateway.shared.connections.token();
    Ok(upgrade.protocols([PROTOCOL]).on_upgrade(move |socket| async move {
        let over = gateway.until_over(&id, generation);
        bridge(socket, desktop, over).await;
        drop((slot, connection));
    }))
}

/// Carries bytes both ways until one side ends or the session is over.
async fn bridge(socket: WebSocket, desktop: TcpStream, over: impl Future<Output = ()>) {
    let (mut to_viewer, mut from_viewer) = socket.split();
    let (mut from_desktop, mut to_desktop) = desktop.into_split();
    let down = async {
        let mut buffer = vec![0; FRAME];
        loop {
            match from_desktop.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    let frame =
                        Message::Binary(Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default()));
                    if to_viewer.send(frame).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let up = async {
        while let Some(Ok(message)) = from_viewer.next().await {
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
    tokio::select! {
        () = down => {}
        () = up => {}
        () = over => {}
    }
    let frame = CloseFrame { code: close_code::NORMAL, reason: "the desktop's connection ended".into() };
    // The viewer may have gone first, or take nothing any more.
    let _ = tokio::time::timeout(GOODBYE_LIMIT, to_viewer.send(Message::Close(Some(frame)))).await;
}
