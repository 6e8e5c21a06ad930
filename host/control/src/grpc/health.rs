//! `grpc.health.v1`: what `/readyz` says. Every service is as well as the server.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response};

use super::call::{Reply, Source, told};
use crate::control::Shared;
use crate::rest::health;
use crate::rest::problem::Problem;
use crate::slots::{Slot, Slots};

/// How often it is looked for whoever watches.
const LOOK: Duration = Duration::from_secs(5);
/// Nobody says who they are to watch this: there may be so many.
const WATCHERS: usize = 64;

/// The service.
pub(super) fn service(shared: Arc<Shared>) -> HealthServer<impl Health> {
    HealthServer::new(Readiness { shared, watchers: Slots::new((WATCHERS, WATCHERS)) })
}

struct Readiness {
    shared: Arc<Shared>,
    watchers: Slots,
}

type State = health_check_response::ServingStatus;

impl Readiness {
    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.shared.contract.services().any(|known| known == service)
    }
}

async fn look(shared: &Shared) -> State {
    if shared.stopping.is_cancelled() || health::look(shared).await.is_err() {
        State::NotServing
    } else {
        State::Serving
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Reply<HealthCheckResponse> {
        if !self.knows(&request.get_ref().service) {
            return Err(Status::not_found("there is no such service"));
        }
        Ok(Response::new(said(look(&self.shared).await)))
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Reply<Self::WatchStream> {
        let slot = self.watchers.take("");
        let slot = slot.ok_or_else(|| Problem::too_many("too many watch the health of the server"))?;
        let known = self.knows(&request.get_ref().service);
        let watcher = Watcher { shared: Arc::clone(&self.shared), known, told: None, _slot: slot };
        Ok(Response::new(told(&self.shared, watcher)))
    }
}

fn said(state: State) -> HealthCheckResponse {
    HealthCheckResponse { status: state.into() }
}

struct Watcher {
    shared: Arc<Shared>,
    known: bool,
    told: Option<State>,
    _slot: Slot,
}

#[async_trait]
impl Source<HealthCheckResponse> for Watcher {
    /// The next state that is another than before. A server that stops says so, and no more.
    async fn next(&mut self) -> Option<Result<HealthCheckResponse, Problem>> {
        let stopping = self.shared.stopping.clone();
        loop {
            let stopped = stopping.is_cancelled();
            let state = if self.known { look(&self.shared).await } else { State::ServiceUnknown };
            if self.told != Some(state) {
                self.told = Some(state);
                return Some(Ok(said(state)));
            }
            if stopped {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stopping.cancelled() => {}
            }
        }
    }
}
