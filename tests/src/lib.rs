//! What the end-to-end tests share: the server under test as a process of its own, its REST API, and the Docker
//! Engine as the judge of what really happened.
//!
//! `cargo xtask test` provides everything and says where it is in `STREAMSPACE_TEST_*`. A test whose variable is missing
//! says that it is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod api;
pub mod certificates;
pub mod controller;
pub mod database;
pub mod docker;
pub mod network;
pub mod own_engine;
pub mod rfb;
pub mod server;
pub mod simulated;
pub mod stage;

use std::time::Duration;

/// How long anything may take before a test gives up on it. Far beyond what it takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A variable that `cargo xtask test` sets, or a line that says why the test is skipped.
pub fn provided(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        println!("skipped: {variable} is not set (cargo xtask test sets it where it can)");
    }
    value
}

/// Waits until a question has an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    holds(what, PATIENCE, async || ask().await.ok_or("there is no answer".to_owned())).await
}

/// Waits until something that was asked for holds, and says at the end of the patience what was still amiss.
pub async fn holds<T>(what: &str, patience: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match look().await {
            Ok(answer) => return answer,
            Err(amiss) if tokio::time::Instant::now() > deadline => {
                panic!("{what}: not within {} s: {amiss}", patience.as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
