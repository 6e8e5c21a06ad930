//! ControllerService over one plugin.
//!
//! A [`Shell`] turns the calls of the gRPC contract into calls of the plugin contract and back. It keeps nothing but
//! the highest epoch it has seen: it can be killed and replaced at any time. So can its plugin: see [`Slot`].

mod breaker;
mod convert;
mod deadline;
mod service;
mod slot;
mod status;

pub use breaker::Failing;
pub use service::{Service, Shell, Transport};
pub use slot::Slot;
