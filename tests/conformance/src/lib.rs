//! The conformance suite: one list of checks over ControllerService, for every backend.
//!
//! A [`Target`] is a controller to be judged: how it is called, what a session on it looks like, and, where there is
//! one, a [`Fixture`] that looks at the backend past the controller. [`checks::all`] is the list, [`Runner`] works
//! through it, and a [`Report`] says what came of it. What cannot be checked on a target is said to be not applicable,
//! with the reason, and never counts as passed.
//!
//! The checks know nothing but the gRPC contract: a controller may be a plugin in this process ([`InProcess`]), a
//! shell on another machine, or a program written by somebody else.

mod check;
pub mod checks;
mod context;
mod controller;
mod fixture;
mod in_process;
mod link;
mod process;
mod recorded;
mod report;
mod runner;
mod target;

pub use check::{Check, Isolation, Need, Stop};
pub use context::{Context, Session};
pub use controller::{Controller, Leaks};
pub use fixture::docker::DockerFixture;
pub use fixture::simulated::SimulatedFixture;
pub use fixture::{Ability, Applied, Fixture, FixtureError, Foreign, Operator, Weather};
pub use in_process::InProcess;
pub use link::connect;
pub use process::{ConfigRefusal, Process};
pub use recorded::{RecordedError, RecordedHandle, Verb};
pub use report::{Format, Report, Row, Verdict};
pub use runner::{Options, RunError, Runner};
pub use streamspace_shell::Transport;
pub use target::{Recipe, Target, Variation};
