//! ControllerService over one plugin.
//!
//! A [`Shell`] turns the calls of the gRPC contract into calls of the plugin contract and back. It keeps nothing but
//! the highest epoch it has seen: it can be killed and replaced at any time, and its successor is told where to begin
//! ([`Shell::fenced_from`]); one that is not told refuses no epoch before it has seen a higher one. So can its plugin:
//! see [`Slot`].
//!
//! A shell that is a process of its own is known to an API server by its [`registration`].

mod breaker;
mod convert;
mod deadline;
mod high_water;
pub mod registration;
mod service;
mod slot;
mod status;
mod streams;
mod tenure;

pub use breaker::Failing;
pub use high_water::HighWater;
pub use service::{Service, Shell, Transport};
pub use slot::Slot;
pub use tenure::{Moment, Tenure};
