//! What the host offers: configuration, secrets, a cache, a log, the typed Docker Engine API, and HTTP
//! (which [`crate::http`] makes pleasant).

use serde::de::DeserializeOwned;

use crate::bindings::streamspace::backend::config as imported;
use crate::{Error, ErrorExt as _, Result};

pub use crate::bindings::streamspace::backend::{docker, http, log, secret, state};

/// This controller's configuration, which fits the plugin's schema.
pub fn config<T: DeserializeOwned>() -> Result<T> {
    parse_config(&imported::get())
}

/// Parses a configuration; for [`Backend::validate_config`](crate::Backend::validate_config).
pub fn parse_config<T: DeserializeOwned>(config: &str) -> Result<T> {
    serde_json::from_str(config).map_err(|error| Error::invalid("", error.to_string()))
}

/// The id of this controller: the mark on everything it makes.
pub fn controller_id() -> String {
    imported::controller_id()
}
