//! `/api/v1/ws`: events as they happen, and `POST /api/v1/ws/ticket` for those who cannot set a header.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};
use utoipa::ToSchema;

use super::auth::{Caller, bearer, caller_of};
use super::credential::{Credential, fresh_secret, is_secret};
use super::events::{EventView, read_cursor};
use super::extract::{Json, NoParameters, ParameterSet, Parameters, Query};
use super::openapi::Refused;
use super::problem::{FieldError, Problem};
use crate::control::Shared;
use crate::domain::{EventCursor, SessionId, sha256_hex};
use crate::events::{News, Subscription};
use crate::slots::Slot;
use crate::store::EventScope;

/// The subprotocol that this server speaks.
const PROTOCOL: &str = "streamspace.v1";
/// A client that takes nothing for so long is let go; it can come back with its cursor.
const SEND_LIMIT: Duration = Duration::from_secs(60);
/// How long a farewell may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// Clients have nothing to say here.
const LARGEST_MESSAGE: usize = 4096;
/// How long a ticket is good.
const TICKET_LIFE: Duration = Duration::from_secs(30);
/// Tickets that are good at the same time.
const MOST_TICKETS: u32 = 10_000;
/// Sessions that one connection may ask for.
const MOST_SESSIONS: usize = 100;

/// A ticket for the events, at its creation.
#[derive(Serialize, ToSchema)]
#[schema(as = EventTicket)]
struct Issued {
    /// Good once.
    ticket: String,
    /// For how long it is good.
    expires_in_seconds: u64,
}

/// Make a ticket for the events
///
/// For browsers, which cannot set a header: it opens `/api/v1/ws` once, within 30 s.
#[utoipa::path(
    post,
    path = "/api/v1/ws/ticket",
    operation_id = "create_event_ticket",
    tag = "Watching",
    responses(
        (
            status = 201,
            body = Issued,
            description = "The ticket.",
            headers(("Cache-Control" = String, description = "`no-store`: whoever reads it can use it.")),
        ),
        Refused<400>,
        Refused<429>,
        Refused<503>,
    ),
)]
pub(super) async fn ticket(
    State(shared): State<Arc<Shared>>,
    _: Query<NoParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = bearer(&headers).ok_or_else(|| Problem::unauthorized("expected a token"))?;
    let ticket = fresh_secret();
    let (hash, credential) = (sha256_hex(&ticket), Credential::of(token));
    if !shared.store.issue_event_ticket(&hash, credential.hash(), TICKET_LIFE, MOST_TICKETS).await? {
        return Err(Problem::too_many("too many tickets are in use"));
    }
    let body = Json(Issued { ticket, expires_in_seconds: TICKET_LIFE.as_secs() });
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// Which events a connection is for, and whose it is.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Go on behind the event with this cursor. Without it the connection begins with what happens next.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,19}$")]
    pub(crate) after: Option<EventCursor>,
    /// Only events of these sessions, at most 100: ids with commas between them.
    #[param(value_type = Option<String>)]
    pub(crate) session_id: Option<Vec<SessionId>>,
    /// Instead of a token; see `POST /api/v1/ws/ticket`.
    ticket: Option<String>,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        Self {
            after: given.take("after", read_cursor),
            session_id: given.take("session_id", read_sessions),
            ticket: given.take("ticket", |text| Ok(text.to_owned())),
        }
    }
}

/// Events as they happen
///
/// A WebSocket (RFC 6455) with the subprotocol `streamspace.v1`. The server sends text frames, each a JSON object with a
/// `type` and a `cursor`: an event (as in the list of a session's events), or one of the notices `ready`, `bookmark` and
/// `resync`. Clients have nothing to say.
#[utoipa::path(
    get,
    path = "/api/v1/ws",
    operation_id = "watch_events",
    tag = "Watching",
    params(
        Wanted,
        ("Sec-WebSocket-Protocol" = Option<String>, Header, nullable = false, description = "`streamspace.v1`, and after a comma \
            `bearer.<token>` where no header can be set."),
    ),
    responses(
        (status = 101, description = "The connection is a WebSocket from now on, with events in it."),
        Refused<400>,
        Refused<401>,
        Refused<429>,
        Refused<503>,
    ),
    security(("token" = []), ("event_ticket" = []), ("event_protocol" = [])),
)]
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    Query(Wanted { after, session_id, ticket }): Query<Wanted>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let sessions = session_id.unwrap_or_default();
    let credential = credential(&shared, &parts.headers, ticket.as_deref()).await?;
    let caller = caller_of(&shared, &credential).await?;
    tracing::Span::current().record("user", &caller.user_id);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &shared).await.map_err(|_| {
        Problem::bad_request(vec![FieldError::new("", "expected the opening of a WebSocket (RFC 6455)")])
    })?;
    let (subscription, slot) = subscribe(&shared, &caller, sessions, after)?;
    let fresh = after.is_none();
    let listener =
        Listener { shared: Arc::clone(&shared), caller, credential, subscription, fresh, _slot: slot };
    // Counted from now on: the server waits for it when it stops.
    let connection = shared.connections.token();
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(LARGEST_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        listener.serve(socket).await;
        drop(connection);
    }))
}

/// A place among those who listen, and what is heard there.
pub(crate) fn subscribe(
    shared: &Shared,
    caller: &Caller,
    sessions: Vec<SessionId>,
    after: Option<EventCursor>,
) -> Result<(Subscription, Slot), Problem> {
    let slot = shared.kept.listeners.take(&caller.user_id);
    let slot = slot.ok_or_else(|| Problem::too_many("too many connections listen to events"))?;
    let user_id = (!caller.sees_all()).then(|| caller.user_id.clone());
    Ok((shared.feed.subscribe(EventScope { user_id, sessions }, after), slot))
}

/// Whether a connection that was opened may go on. That nobody can tell at the moment does not end it.
pub(crate) async fn may_go_on(shared: &Shared, caller: &Caller, credential: &Credential) -> bool {
    match caller_of(shared, credential).await {
        Ok(now) => now.sees_as(caller),
        Err(problem) => problem.status().is_server_error(),
    }
}

/// Who opens a connection: by the header, by a subprotocol next to ours, or by a ticket.
async fn credential(
    shared: &Shared,
    headers: &HeaderMap,
    ticket: Option<&str>,
) -> Result<Credential, Problem> {
    if headers.contains_key(header::AUTHORIZATION) {
        let token = bearer(headers).map(Credential::of);
        return token
            .ok_or_else(|| Problem::unauthorized("expected the header Authorization: Bearer <token>"));
    }
    if let Some(ticket) = ticket {
        let redeemed = match is_secret(ticket) {
            true => shared.store.redeem_event_ticket(&sha256_hex(ticket)).await?,
            false => None,
        };
        return redeemed
            .map(Credential::with_hash)
            .ok_or_else(|| Problem::unauthorized("the ticket is not valid, or not any more"));
    }
    let offered: Vec<_> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    match offered.iter().find_map(|protocol| protocol.strip_prefix("bearer.")) {
        // The server has to choose one, and must not repeat the token.
        Some(_) if !offered.contains(&PROTOCOL) => Err(Problem::bad_request(vec![FieldError::new(
            "Sec-WebSocket-Protocol",
            format!("{PROTOCOL:?} has to be offered beside the token"),
        )])),
        Some(token) => Ok(Credential::of(token)),
        None => Err(Problem::unauthorized(
            "expected the header Authorization: Bearer <token>, the subprotocol bearer.<token>, or a ticket",
        )),
    }
}

fn read_sessions(text: &str) -> Result<Vec<SessionId>, String> {
    let ids: Result<Vec<_>, _> = text.split(',').map(SessionId::parse).collect();
    match ids {
        Ok(ids) if ids.len() <= MOST_SESSIONS => Ok(ids),
        _ => Err(format!("must be 1 to {MOST_SESSIONS} ids of sessions, with commas between them")),
    }
}

/// A message that is no event.
#[derive(Serialize)]
struct Notice {
    #[serde(rename = "type")]
    kind: &'static str,
    cursor: String,
}

/// The server's side of one connection.
struct Listener {
    shared: Arc<Shared>,
    caller: Caller,
    credential: Credential,
    subscription: Subscription,
    /// The client named no place to go on from.
    fresh: bool,
    _slot: Slot,
}

/// What to do next with a connection.
type Next = ControlFlow<(u16, &'static str)>;

const GONE: Next = ControlFlow::Break((close_code::ABNORMAL, ""));

impl Listener {
    async fn serve(mut self, mut socket: WebSocket) {
        let stopping = self.shared.stopping.clone();
        let end = tokio::select! {
            end = self.talk(&mut socket) => end,
            () = stopping.cancelled() => (close_code::AWAY, "the server is stopping"),
        };
        if end.0 != close_code::ABNORMAL {
            let farewell = Message::Close(Some(CloseFrame { code: end.0, reason: end.1.into() }));
            let _ = tokio::time::timeout(GOODBYE_LIMIT, async {
                if socket.send(farewell).await.is_ok() {
                    // The other side's farewell.
                    while let Some(Ok(_)) = socket.recv().await {}
                }
            })
            .await;
        }
    }

    async fn talk(&mut self, socket: &mut WebSocket) -> (u16, &'static str) {
        let pause = self.shared.config.event_heartbeat;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + pause, pause);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Where to come back to, even if nothing is ever said.
        let mut told = self.subscription.position();
        if self.fresh
            && let ControlFlow::Break(end) = notice(socket, "ready", told).await
        {
            return end;
        }
        // It took or said something since the last heartbeat.
        let mut alive = true;
        loop {
            let next = tokio::select! {
                // In this order: an answer that has come counts before its absence does, and a flood of events does
                // not keep the heartbeat from looking at the token.
                biased;
                message = socket.recv() => {
                    alive = true;
                    match message {
                        Some(Ok(Message::Close(_))) | Some(Err(_)) | None => GONE,
                        Some(Ok(_)) => ControlFlow::Continue(()),
                    }
                }
                _ = heartbeat.tick() => {
                    if !std::mem::take(&mut alive) {
                        return (close_code::POLICY, "no answer to a ping");
                    }
                    self.beat(socket, &mut told).await
                }
                news = self.subscription.next() => match news {
                    Ok(news) => {
                        told = self.subscription.position();
                        alive = true;
                        deliver(socket, news, told).await
                    }
                    Err(error) => {
                        tracing::error!(%error, "events cannot be read");
                        ControlFlow::Break((close_code::ERROR, "events cannot be read"))
                    }
                },
            };
            if let ControlFlow::Break(end) = next {
                return end;
            }
        }
    }

    /// Shows that the connection lives, and sees whether it still may.
    async fn beat(&self, socket: &mut WebSocket, told: &mut EventCursor) -> Next {
        if !may_go_on(&self.shared, &self.caller, &self.credential).await {
            return ControlFlow::Break((close_code::POLICY, "the token is not valid any more"));
        }
        let position = self.subscription.position();
        if position > std::mem::replace(told, position) {
            // What was passed over belongs to others. Whoever comes back need not begin before it.
            notice(socket, "bookmark", position).await?;
        }
        send(socket, Message::Ping(Default::default())).await
    }
}

async fn deliver(socket: &mut WebSocket, news: News, position: EventCursor) -> Next {
    match news {
        News::Lost => notice(socket, "resync", position).await,
        News::Events(events) => {
            for event in events {
                write(socket, &EventView::new(&event)).await?;
            }
            ControlFlow::Continue(())
        }
    }
}

async fn notice(socket: &mut WebSocket, kind: &'static str, cursor: EventCursor) -> Next {
    write(socket, &Notice { kind, cursor: cursor.to_string() }).await
}

async fn write(socket: &mut WebSocket, message: &impl Serialize) -> Next {
    match serde_json::to_string(message) {
        Ok(text) => send(socket, Message::Text(text.into())).await,
        Err(error) => {
            tracing::error!(%error, "an event cannot be written");
            ControlFlow::Break((close_code::ERROR, "an event cannot be written"))
        }
    }
}

/// Waits for a slow client: meanwhile events stay in the table, and none is kept here.
async fn send(socket: &mut WebSocket, message: Message) -> Next {
    match tokio::time::timeout(SEND_LIMIT, socket.send(message)).await {
        Ok(Ok(())) => ControlFlow::Continue(()),
        Ok(Err(_)) | Err(_) => GONE,
    }
}
