//! The trace of what plugins request: one line for each request, without queries, headers and bodies.

use std::sync::Arc;
use std::time::Instant;

use streamspace_bindings::types::Error;

use super::request::without_query;
use crate::call::Context;

/// Characters of a path that are noted.
const ENOUGH: usize = 256;

/// One request, from its beginning to what became of it. Dropped before that, it notes a request that was given up
/// half-way: the one case in which nobody knows what it did.
pub(super) struct Audit {
    context: Arc<Context>,
    operation: &'static str,
    endpoint: String,
    method: String,
    path: String,
    started: Instant,
    /// Whether something may have been sent of which nobody knows what it did.
    pending: bool,
}

impl Audit {
    pub(super) fn begin(
        context: &Arc<Context>,
        operation: &'static str,
        endpoint: &str,
        method: &str,
        path: &str,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            operation,
            endpoint: printable(endpoint),
            method: printable(method),
            path: printable(without_query(path)),
            started: Instant::now(),
            pending: false,
        }
    }

    /// From now on it matters whether it comes to its end.
    pub(super) fn sending(&mut self) {
        self.pending = true;
    }

    /// Notes what came of it; the status is none where the answer's head is not what was waited for.
    pub(super) fn end(mut self, result: Result<Option<u16>, &Error>) {
        self.pending = false;
        streamspace_failpoint::hit(self.operation);
        let (plugin, controller) = (self.context.plugin.as_str(), self.context.controller_id.as_str());
        let Self { operation, endpoint, method, path, .. } = &self;
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        match result {
            Ok(status) => {
                tracing::debug!(plugin, controller, endpoint, operation, method, path, status, elapsed_us, "host call")
            }
            Err(failure) => tracing::debug!(
                plugin, controller, endpoint, operation, method, path, elapsed_us,
                error.kind = ?failure.kind, error.message = failure.message, "host call failed"
            ),
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if self.pending {
            let Self { operation, endpoint, method, path, .. } = &*self;
            tracing::warn!(endpoint, operation, method, path, "host call given up; its effect is unknown");
        }
    }
}

/// The beginning of a plugin's text, as one line.
fn printable(text: &str) -> String {
    text.chars().take(ENOUGH).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
