//! The Docker plugin over a real engine, through the client that control has: every call of the contract, and what the
//! engine itself says became of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod labels;
mod lifecycle;
mod observing;
mod pulling;
mod renamed;
mod stage;
mod trouble;
