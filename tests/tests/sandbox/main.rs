//! The sandbox, seen from outside: whatever a plugin does, its call ends with an error that says what happened, and
//! nothing else is touched. A plugin that misbehaves on demand is called through gRPC, as control calls it.
//!
//! How quick anything is, is no question here: time limits are judged with a slack of three times their length.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod calls;
mod deadlines;
mod engine;
mod load;
mod neighbours;
mod stage;
mod swap;
