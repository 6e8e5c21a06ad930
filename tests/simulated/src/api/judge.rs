//! What tests do: never disturbed by any knob.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page_size;
use crate::knobs::{Plan, Setup};
use crate::object::{BoxRecord, NewBox};
use crate::service::Service;
use crate::world::{BoxPage, Deed, Refusal};

type Shared = State<Arc<Service>>;

pub(super) async fn show_knobs(State(service): Shared) -> Json<Setup> {
    Json(service.with(|world| world.knobs.show()))
}

pub(super) async fn set_knobs(
    State(service): Shared,
    Json(setup): Json<Setup>,
) -> Result<Json<Setup>, Refusal> {
    service.with(|world| {
        world.knobs.replace(setup)?;
        Ok(Json(world.knobs.show()))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

pub(super) async fn effects(State(service): Shared, Query(query): Query<After>) -> Json<Value> {
    let effects = service.with(|world| world.effects(query.after, page_size(query.limit)));
    let next = effects.last().map_or(query.after, |effect| effect.seq);
    Json(json!({"effects": effects, "next": next}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Truth {
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn boxes(State(service): Shared, Query(query): Query<Truth>) -> Json<BoxPage> {
    let limit = page_size(query.limit);
    Json(service.with(|world| world.list_boxes(None, query.after.as_deref(), limit, &Plan::default())))
}

pub(super) async fn homes(State(service): Shared) -> Json<Value> {
    Json(json!({"homes": service.with(|world| world.homes())}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByHand {
    r#do: Deed,
}

pub(super) async fn by_hand(
    State(service): Shared,
    Path(name): Path<String>,
    Json(body): Json<ByHand>,
) -> Result<StatusCode, Refusal> {
    service.with(|world| world.by_hand(&name, body.r#do))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    message: String,
    #[serde(default = "stdout")]
    source: String,
}

fn stdout() -> String {
    "stdout".to_owned()
}

pub(super) async fn say(
    State(service): Shared,
    Path(name): Path<String>,
    Json(line): Json<Line>,
) -> Result<StatusCode, Refusal> {
    service.with(|world| world.speak(&name, &line.source, line.message))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFile {
    path: String,
    content: String,
}

pub(super) async fn write_file(
    State(service): Shared,
    Path(name): Path<String>,
    Json(file): Json<NewFile>,
) -> Result<StatusCode, Refusal> {
    service.with(|world| world.write_file(&name, file.path, file.content))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    path: String,
}

pub(super) async fn read_file(
    State(service): Shared,
    Path(name): Path<String>,
    Query(file): Query<Of>,
) -> Result<Json<Value>, Refusal> {
    let content = service.with(|world| world.read_file(&name, &file.path))?;
    Ok(Json(json!({"content": content})))
}

pub(super) async fn foreign(
    State(service): Shared,
    Json(new): Json<NewBox>,
) -> Result<(StatusCode, Json<Arc<BoxRecord>>), Refusal> {
    let record = service.with(|world| world.make_foreign(new))?;
    Ok((StatusCode::CREATED, Json(record)))
}

pub(super) async fn forget_events(State(service): Shared) -> StatusCode {
    service.with(|world| world.forget_events());
    StatusCode::NO_CONTENT
}
