//! `WatchService`: what the WebSocket tells, over a stream.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use streamspace_proto::api::v1 as proto;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Request, Response, Status};

use super::call::{Reply, Source, opened, told};
use crate::control::Shared;
use crate::domain::{Event, EventCursor};
use crate::events::{News, Subscription};
use crate::rest::auth::Caller;
use crate::rest::credential::Credential;
use crate::rest::events::EventView;
use crate::rest::extract::parameters;
use crate::rest::problem::Problem;
use crate::rest::ws;
use crate::slots::Slot;

/// The service.
pub(super) struct Watch(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl proto::watch_service_server::WatchService for Watch {
    type WatchStream = BoxStream<'static, Result<proto::WatchResponse, Status>>;

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Reply<Self::WatchStream> {
        let credential = request.extensions().get::<Credential>().cloned().ok_or_else(Problem::internal)?;
        let (caller, proto::WatchRequest { after, session_id }) = opened(request)?;
        let sessions = (!session_id.is_empty()).then(|| session_id.join(","));
        let ws::Wanted { after, session_id, .. } = parameters([("after", after), ("session_id", sessions)])?;
        let sessions = session_id.unwrap_or_default();
        let (subscription, slot) = ws::subscribe(&self.0, &caller, sessions, after)?;
        let pause = self.0.config.event_heartbeat;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + pause, pause);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watcher = Watcher {
            told: subscription.position(),
            fresh: after.is_none(),
            untold: VecDeque::new(),
            shared: Arc::clone(&self.0),
            caller,
            credential,
            subscription,
            heartbeat,
            _slot: slot,
        };
        Ok(Response::new(told(&self.0, watcher)))
    }
}

/// The server's side of one stream.
struct Watcher {
    shared: Arc<Shared>,
    caller: Caller,
    credential: Credential,
    subscription: Subscription,
    /// Where to come back to.
    told: EventCursor,
    /// The client named no place to go on from, and was not told one yet.
    fresh: bool,
    /// Events that came together with the last one.
    untold: VecDeque<Arc<Event>>,
    heartbeat: Interval,
    _slot: Slot,
}

#[async_trait]
impl Source<proto::WatchResponse> for Watcher {
    async fn next(&mut self) -> Option<Result<proto::WatchResponse, Problem>> {
        Some(self.hear().await)
    }
}

impl Watcher {
    async fn hear(&mut self) -> Result<proto::WatchResponse, Problem> {
        if std::mem::take(&mut self.fresh) {
            return Ok(notice(proto::WatchKind::Ready, self.told));
        }
        let stopping = self.shared.stopping.clone();
        loop {
            if let Some(event) = self.untold.pop_front() {
                return self.event(&event);
            }
            tokio::select! {
                // In this order: a flood of events keeps nobody from looking at the token.
                biased;
                () = stopping.cancelled() => {
                    return Err(Problem::unavailable("stopping", "the server is stopping"));
                }
                _ = self.heartbeat.tick() => {
                    if !ws::may_go_on(&self.shared, &self.caller, &self.credential).await {
                        return Err(Problem::unauthorized("the token is not valid any more"));
                    }
                    let position = self.subscription.position();
                    if position > std::mem::replace(&mut self.told, position) {
                        // What was passed over belongs to others.
                        return Ok(notice(proto::WatchKind::Bookmark, position));
                    }
                }
                news = self.subscription.next() => {
                    let news = news?;
                    self.told = self.subscription.position();
                    match news {
                        News::Lost => return Ok(notice(proto::WatchKind::Resync, self.told)),
                        News::Events(events) => self.untold.extend(events),
                    }
                }
            }
        }
    }

    fn event(&self, event: &Event) -> Result<proto::WatchResponse, Problem> {
        let shown = self.shared.contract.message(&EventView::new(event))?;
        Ok(proto::WatchResponse { event: Some(shown), ..notice(proto::WatchKind::Event, event.cursor) })
    }
}

fn notice(kind: proto::WatchKind, cursor: EventCursor) -> proto::WatchResponse {
    proto::WatchResponse { kind: kind.into(), cursor: cursor.to_string(), event: None }
}
