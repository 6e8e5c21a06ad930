//! The world, its clock, and what knobs make of requests.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::knobs::{Plan, Verb};
use crate::server::Cut;
use crate::world::{Refusal, Timer, World, now_ms};

/// Pieces of a slow body.
const PIECES: usize = 16;

/// What an act gives: a status and, unless that means "no content", what to tell.
pub(crate) type Answer<T> = Result<(StatusCode, Option<T>), Refusal>;

/// The one world, shared by all requests.
pub(crate) struct Service {
    world: Mutex<World>,
    changed: watch::Sender<()>,
}

impl Service {
    pub(crate) fn new(mut world: World) -> Arc<Self> {
        world.reopen_pages();
        let service = Arc::new(Self { world: Mutex::new(world), changed: watch::Sender::new(()) });
        // Jobs that an earlier process did not finish.
        service.with(|_| ());
        service
    }

    /// Does something under the lock, then wakes those who wait and sets clocks for new jobs.
    pub(crate) fn with<T>(self: &Arc<Self>, act: impl FnOnce(&mut World) -> T) -> T {
        let (outcome, timers, changed) = {
            // A panic in here is a bug that ends its request; what was written down stays true.
            let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            (act(&mut world), world.take_timers(), world.take_changed())
        };
        for timer in timers {
            tokio::spawn(Arc::clone(self).finish(timer));
        }
        if changed {
            self.changed.send_replace(());
        }
        outcome
    }

    async fn finish(self: Arc<Self>, timer: Timer) {
        sleep(Duration::from_millis(timer.due_ms.saturating_sub(now_ms()))).await;
        self.with(|world| world.finish(&timer));
    }

    /// A request that acts once.
    pub(crate) async fn perform<T: Serialize + Send + 'static>(
        self: &Arc<Self>,
        verb: Verb,
        name: &str,
        later_page: bool,
        act: impl FnOnce(&mut World, &Plan) -> Answer<T> + Send + 'static,
    ) -> Response {
        let plan = Arc::new(self.with(|world| world.knobs.plan(verb, name, later_page)));
        let work = {
            let (service, plan) = (Arc::clone(self), Arc::clone(&plan));
            async move {
                match before(&plan).await {
                    Some(early) => Err(early),
                    None => Ok(service.with(|world| act(world, &plan))),
                }
            }
        };
        let outcome = if plan.before.is_zero() {
            work.await
        } else {
            // A machine that has begun does not stop because nobody waits any more.
            match tokio::spawn(work).await {
                Ok(outcome) => outcome,
                Err(error) => return Refusal::Stuck(error.to_string()).into_response(),
            }
        };
        match outcome {
            Ok(answer) => after(&plan, answer).await,
            Err(early) => early,
        }
    }

    /// A request that looks again whenever something has changed, until there is something to tell or its time is up.
    pub(crate) async fn wait_for<T: Serialize>(
        self: &Arc<Self>,
        verb: Verb,
        name: &str,
        wait: Duration,
        look: impl Fn(&mut World) -> Result<T, Refusal>,
        worth_telling: impl Fn(&T) -> bool,
    ) -> Response {
        let plan = self.with(|world| world.knobs.plan(verb, name, false));
        if let Some(early) = before(&plan).await {
            return early;
        }
        let deadline = Instant::now() + wait;
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let answer = self.with(&look);
            let tell = match &answer {
                Ok(found) => worth_telling(found),
                Err(_) => true,
            };
            let over = tell || timeout_at(deadline, changed.changed()).await.is_err();
            if over {
                return after(&plan, answer.map(|found| (StatusCode::OK, Some(found)))).await;
            }
        }
    }
}

/// What happens before any effect. An answer that comes from here is all there is.
async fn before(plan: &Plan) -> Option<Response> {
    sleep_unless_zero(plan.before).await;
    if plan.hang_before {
        return pending().await;
    }
    if plan.cut_before {
        return Some(Cut.into_response());
    }
    let (status, retry_after_s, message) = plan.error.as_ref()?;
    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = error(status, "made_to_fail", message);
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
    }
    Some(response)
}

/// What happens once the effect is there.
async fn after<T: Serialize>(plan: &Plan, answer: Answer<T>) -> Response {
    sleep_unless_zero(plan.after).await;
    if plan.hang_after {
        return pending().await;
    }
    if plan.cut_after {
        return Cut.into_response();
    }
    let (status, value) = match answer {
        Ok((status, Some(value))) => (status, value),
        Ok((status, None)) => return status.into_response(),
        Err(refusal) => return refusal.into_response(),
    };
    let body = match serde_json::to_vec(&value) {
        Ok(body) => Bytes::from(body),
        Err(error) => return Refusal::Stuck(error.to_string()).into_response(),
    };
    let body = if plan.garbage { Bytes::from_static(b"<html>It works!</html>{\"boxes\":[") } else { body };
    let length = body.len();
    let body = if plan.torn || plan.slow.is_some() { bad_body(body, plan) } else { Body::from(body) };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
    ];
    (status, headers, body).into_response()
}

/// A body that comes in pieces and may break off in the middle.
fn bad_body(body: Bytes, plan: &Plan) -> Body {
    let every = plan.slow.unwrap_or_default();
    let piece = body.len().div_ceil(PIECES).max(1);
    let ends_at = if plan.torn { body.len() / 2 } else { body.len() };
    let torn = plan.torn;
    Body::from_stream(stream::try_unfold(0, move |sent| {
        let body = body.clone();
        async move {
            sleep_unless_zero(every).await;
            if sent >= ends_at {
                return if torn { Err(std::io::Error::other("torn on purpose")) } else { Ok(None) };
            }
            let end = (sent + piece).min(ends_at);
            Ok(Some((body.slice(sent..end), end)))
        }
    }))
}

async fn sleep_unless_zero(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": {"code": code, "message": message}}))).into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::Taken(_) => (StatusCode::CONFLICT, "taken"),
            Self::Busy(_) => (StatusCode::CONFLICT, "busy"),
            Self::NoHome(_) => (StatusCode::CONFLICT, "no_home"),
            Self::InUse(_) => (StatusCode::CONFLICT, "in_use"),
            Self::NotRunning(_) => (StatusCode::CONFLICT, "not_running"),
            Self::NoImage(_) => (StatusCode::CONFLICT, "no_image"),
            Self::TooLarge(_) => (StatusCode::CONFLICT, "too_large"),
            Self::Exhausted(_) => (StatusCode::TOO_MANY_REQUESTS, "exhausted"),
            Self::Stuck(_) => (StatusCode::INTERNAL_SERVER_ERROR, "stuck"),
        };
        error(status, code, &self.to_string())
    }
}
