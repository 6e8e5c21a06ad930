//! The routes.

mod boxes;
mod homes;
mod judge;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post, put};

use crate::service::Service;
use crate::world::Progress;

/// Entries of a page when nobody says how many, and at most.
const PAGE: usize = 1000;

/// Longest wait of a request.
const LONGEST_WAIT_MS: u64 = 60_000;

pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/info", get(boxes::info))
        .route("/boxes", get(boxes::list).post(boxes::create))
        .route("/boxes/{name}", get(boxes::get).delete(boxes::delete))
        .route("/boxes/{name}/start", post(boxes::start))
        .route("/boxes/{name}/stop", post(boxes::stop))
        .route("/boxes/{name}/metrics", get(boxes::metrics))
        .route("/boxes/{name}/logs", get(boxes::logs))
        .route("/events", get(boxes::events))
        .route("/homes/{name}", put(homes::put).get(homes::get).delete(homes::delete))
        .route("/boxes/{name}/by-hand", post(judge::by_hand))
        .route("/boxes/{name}/say", post(judge::say))
        .route("/boxes/{name}/file", put(judge::write_file).get(judge::read_file))
        .route("/foreign", post(judge::foreign))
        .route("/events/forget", post(judge::forget_events))
        .route("/knobs", get(judge::show_knobs).put(judge::set_knobs))
        .route("/effects", get(judge::effects))
        .route("/truth/boxes", get(judge::boxes))
        .route("/truth/homes", get(judge::homes))
        .with_state(service)
}

fn status_of(progress: Progress, done: StatusCode) -> StatusCode {
    match progress {
        Progress::Done => done,
        Progress::Already => StatusCode::OK,
        Progress::Accepted => StatusCode::ACCEPTED,
    }
}

fn page_size(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE).clamp(1, PAGE)
}
