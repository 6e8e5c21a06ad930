//! ControllerService over one plugin.
//!
//! A [`Shell`] turns the calls of the gRPC contract into calls of the plugin contract and back. It keeps nothing but
//! the highest epoch it has seen: it can be killed and replaced at any time.

mod convert;
mod deadline;
mod service;
mod status;
mod streams;

pub use service::{Service, Shell, Transport};
