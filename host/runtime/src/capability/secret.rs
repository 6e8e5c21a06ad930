//! Secrets that a protocol forces into the sandbox.

use streamspace_bindings::imports::secret::Host;
use streamspace_bindings::types::{Error, ErrorKind};

use super::deadline::{TimeIsOver, until};
use super::error;
use crate::call::CallState;

impl Host for CallState {
    async fn get(&mut self, name: String) -> Result<String, Error> {
        let Some(source) = self.context.secrets.get(&name) else {
            return Err(error(ErrorKind::Denied, format!("no secret `{name}` is granted")));
        };
        tracing::debug!(plugin = self.context.plugin, secret = name, "secret read");
        let read = until(self.answer_by, source.read()).await;
        let read = read.unwrap_or_else(|TimeIsOver| Err("reading it takes too long".to_owned()));
        read.map_err(|reason| {
            error(ErrorKind::FailedPrecondition, format!("the secret `{name}` cannot be had: {reason}"))
        })
    }
}
