//! The trace of what plugins ask of the outside: one line for each host call, without queries, headers and bodies.

use std::sync::Arc;
use std::time::Instant;

use streamspace_bindings::types::{Error, ErrorKind};

use super::text::printable;
use crate::call::Context;
use crate::fence::CallFence;

/// What a host call does to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Looks at it. Whoever waits for something to see may leave at any time.
    Looks,
    /// Changes something. Given up half-way, nobody knows what it did.
    Changes,
}

/// One host call, from its beginning to what became of it. Dropped before that, it notes one that was given up.
pub(super) struct Audit {
    context: Arc<Context>,
    fence: CallFence,
    operation: &'static str,
    effect: Effect,
    endpoint: String,
    /// What it is about: the name of an object, or a method and a path.
    object: String,
    started: Instant,
    /// Whether something may have been sent and its answer was not seen.
    pending: bool,
}

impl Audit {
    pub(super) fn begin(
        (context, fence): (&Arc<Context>, &CallFence),
        operation: &'static str,
        effect: Effect,
        endpoint: &str,
        object: &str,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            fence: fence.clone(),
            operation,
            effect,
            endpoint: printable(endpoint),
            object: printable(object),
            started: Instant::now(),
            pending: false,
        }
    }

    /// From now on it matters whether it comes to its end. Refused, if the call may not change anything any more.
    pub(super) fn sending(&mut self) -> Result<(), Error> {
        self.may_go_on()?;
        self.pending = true;
        Ok(())
    }

    /// Whether more of it may be sent.
    pub(super) fn may_go_on(&self) -> Result<(), Error> {
        match self.effect {
            Effect::Looks => Ok(()),
            Effect::Changes => self.fence.check(),
        }
    }

    /// Notes what came of it; the status is none where there is no such thing.
    pub(super) fn end(mut self, result: Result<Option<u16>, &Error>) {
        streamspace_failpoint::hit(self.operation);
        if let Err(Error { kind: ErrorKind::TimedOut, .. }) = result
            && self.pending
        {
            // Nobody waits for the answer any more: the same as if the call had been dropped.
            return;
        }
        self.pending = false;
        let (plugin, controller) = (self.context.plugin.as_str(), self.context.controller_id.as_str());
        let Self { operation, endpoint, object, .. } = &self;
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        match result {
            Ok(status) => tracing::debug!(
                plugin,
                controller,
                endpoint,
                operation,
                object,
                status,
                elapsed_us,
                "host call"
            ),
            Err(failure) => tracing::debug!(
                plugin, controller, endpoint, operation, object, elapsed_us,
                error.kind = ?failure.kind, error.message = failure.message, "host call failed"
            ),
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if !self.pending {
            return;
        }
        let (plugin, controller) = (self.context.plugin.as_str(), self.context.controller_id.as_str());
        let Self { operation, endpoint, object, .. } = &*self;
        let elapsed_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        match self.effect {
            Effect::Looks => tracing::debug!(
                plugin,
                controller,
                endpoint,
                operation,
                object,
                elapsed_us,
                "host call given up"
            ),
            Effect::Changes => tracing::warn!(
                plugin,
                controller,
                endpoint,
                operation,
                object,
                elapsed_us,
                "host call given up; its effect is unknown"
            ),
        }
    }
}
