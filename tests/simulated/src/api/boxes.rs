//! What clients do with boxes.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{LONGEST_WAIT_MS, page_size, status_of};
use crate::effect::Caller;
use crate::feed::EventPage;
use crate::knobs::Verb;
use crate::object::NewBox;
use crate::output::LinePage;
use crate::service::Service;

type Shared = State<Arc<Service>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfController {
    #[serde(default)]
    controller: String,
}

pub(super) async fn info(State(service): Shared, Query(query): Query<OfController>) -> Response {
    let act = move |world: &mut crate::world::World, _: &_| {
        Ok((StatusCode::OK, Some(world.info(&query.controller))))
    };
    service.perform(Verb::Info, "", false, act).await
}

pub(super) async fn create(State(service): Shared, caller: Caller, Json(new): Json<NewBox>) -> Response {
    let name = new.name.clone();
    service
        .perform(Verb::BoxCreate, &name, false, move |world, plan| {
            let (progress, record) = world.create_box(new, caller, plan)?;
            Ok((status_of(progress, StatusCode::CREATED), Some(record)))
        })
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    controller: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(State(service): Shared, Query(query): Query<Listing>) -> Response {
    let Listing { controller, after, limit } = query;
    service
        .perform(Verb::BoxList, "", after.is_some(), move |world, plan| {
            let page = world.list_boxes(controller.as_deref(), after.as_deref(), page_size(limit), plan);
            Ok((StatusCode::OK, Some(page)))
        })
        .await
}

pub(super) async fn get(State(service): Shared, Path(name): Path<String>) -> Response {
    service
        .perform(Verb::BoxGet, &name.clone(), false, move |world, _| {
            Ok((StatusCode::OK, Some(world.get_box(&name)?)))
        })
        .await
}

pub(super) async fn start(State(service): Shared, Path(name): Path<String>, caller: Caller) -> Response {
    service
        .perform(Verb::BoxStart, &name.clone(), false, move |world, plan| {
            let (progress, record) = world.start_box(&name, caller, plan)?;
            Ok((status_of(progress, StatusCode::OK), Some(record)))
        })
        .await
}

pub(super) async fn stop(State(service): Shared, Path(name): Path<String>, caller: Caller) -> Response {
    service
        .perform(Verb::BoxStop, &name.clone(), false, move |world, _| {
            let (progress, record) = world.stop_box(&name, caller)?;
            Ok((status_of(progress, StatusCode::OK), Some(record)))
        })
        .await
}

pub(super) async fn delete(State(service): Shared, Path(name): Path<String>, caller: Caller) -> Response {
    service
        .perform(Verb::BoxDelete, &name.clone(), false, move |world, _| {
            let progress = world.delete_box(&name, caller)?;
            Ok((status_of(progress, StatusCode::NO_CONTENT), None::<()>))
        })
        .await
}

pub(super) async fn metrics(State(service): Shared, Path(name): Path<String>) -> Response {
    service
        .perform(Verb::BoxMetrics, &name.clone(), false, move |world, _| {
            Ok((StatusCode::OK, Some(world.metrics(&name)?)))
        })
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lines {
    after: Option<u64>,
    tail: Option<usize>,
    limit: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

pub(super) async fn logs(
    State(service): Shared,
    Path(name): Path<String>,
    Query(query): Query<Lines>,
) -> Response {
    let wait = Duration::from_millis(query.wait_ms.min(LONGEST_WAIT_MS));
    service
        .wait_for(
            Verb::BoxLogs,
            &name,
            wait,
            |world| world.lines(&name, query.after, query.tail, page_size(query.limit)),
            |page: &LinePage| !page.lines.is_empty() || page.ended,
        )
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watching {
    instance: Option<String>,
    after: Option<u64>,
    controller: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

pub(super) async fn events(State(service): Shared, Query(query): Query<Watching>) -> Response {
    let wait = Duration::from_millis(query.wait_ms.min(LONGEST_WAIT_MS));
    let position = query.after.map(|after| (query.instance.unwrap_or_default(), after));
    service
        .wait_for(
            Verb::Events,
            "",
            wait,
            |world| {
                let position = position.as_ref().map(|(instance, after)| (instance.as_str(), *after));
                Ok(world.feed().read(position, query.controller.as_deref(), page_size(query.limit)))
            },
            |page: &EventPage| position.is_none() || page.lost || !page.events.is_empty(),
        )
        .await
}
