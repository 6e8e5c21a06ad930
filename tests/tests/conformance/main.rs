//! The conformance suite: on the plugins and their real backends, and on controllers that are wrong on purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod docker;
mod faults;
mod model;
mod operated;
mod simulated;

/// How long one check may take on a machine with more to do: some make and remove dozens of sessions.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(900);
