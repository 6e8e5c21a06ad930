//! `streamspace controller serve --api`: a controller that belongs to an API server. The API server is made up, so that it
//! can refuse, forget and go away at will, and calls can be signed wrongly; the controller is the real process over the
//! simulated infrastructure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod arguments;
mod calls;
mod lease;
mod membership;
mod stage;
mod tls;
