//! What a handler asks of a request, each as a type of its own: its query, its body, the thing that its path names, what
//! its headers say. A handler runs only if all of them are there, and whoever calls learns what is not. The order of a
//! handler's arguments is the order of the checks.

mod json;
mod path;
mod query;

use std::sync::Arc;

#[cfg(test)]
pub(crate) use json::read_body;
pub(crate) use json::{Body, Json, JsonText, media_type, read, read_strictly, whole};
pub(crate) use path::{Found, InPath, Path, find};
pub(crate) use query::{NoParameters, ParameterSet, Parameters, Query, Waiting, parameters};

use crate::control::Shared;

/// The state of a router, as far as the types here need it.
pub(crate) trait Serves: Send + Sync {
    /// What everything shares.
    fn shared(&self) -> &Arc<Shared>;
}

impl Serves for Arc<Shared> {
    fn shared(&self) -> &Arc<Shared> {
        self
    }
}
