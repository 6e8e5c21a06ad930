//! What clients do with homes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::status_of;
use crate::effect::Caller;
use crate::knobs::Verb;
use crate::object::Labels;
use crate::service::Service;

type Shared = State<Arc<Service>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewHome {
    #[serde(default)]
    labels: Labels,
}

pub(super) async fn put(
    State(service): Shared,
    Path(name): Path<String>,
    caller: Caller,
    Json(new): Json<NewHome>,
) -> Response {
    service
        .perform(Verb::HomePut, &name.clone(), false, move |world, _| {
            let (progress, home) = world.put_home(&name, new.labels, caller)?;
            Ok((status_of(progress, StatusCode::CREATED), Some(home)))
        })
        .await
}

pub(super) async fn get(State(service): Shared, Path(name): Path<String>) -> Response {
    service
        .perform(Verb::HomeGet, &name.clone(), false, move |world, _| {
            Ok((StatusCode::OK, Some(world.get_home(&name)?)))
        })
        .await
}

pub(super) async fn delete(State(service): Shared, Path(name): Path<String>, caller: Caller) -> Response {
    service
        .perform(Verb::HomeDelete, &name.clone(), false, move |world, _| {
            world.delete_home(&name, caller)?;
            Ok((StatusCode::NO_CONTENT, None::<()>))
        })
        .await
}
