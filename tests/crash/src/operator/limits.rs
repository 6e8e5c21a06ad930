//! Sessions whose time runs out.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{LIMIT, Operator, session_path};
use crate::driver::{Hand, Held, LIMITED};

/// The longest pause between two looks, in milliseconds.
const THINKS_MS: u64 = 200;

/// Has one session at a time, and deletes it when its time is over.
pub(super) struct Limits {
    by: Operator,
    session: Option<(String, Instant)>,
}

impl Limits {
    pub(super) fn new(by: Operator) -> Self {
        Self { by, session: None }
    }
}

impl Hand for Limits {
    fn name(&self) -> String {
        self.by.name()
    }

    async fn act(&mut self) -> Result<()> {
        let Some((id, since)) = self.session.clone() else {
            let id = self.by.make_limited().await?;
            // It goes on after this chore: nobody who holds still has to wait for its end.
            self.by.wished.lock().await.held.push(Held { id: id.clone(), state: LIMITED });
            self.session = Some((id, Instant::now()));
            return Ok(());
        };
        let session = self.by.read(&session_path(&id)).await?;
        if session["state"] == "running" {
            ensure!(since.elapsed() < LIMIT, "its time does not run out: {session}");
            return Ok(());
        }
        let conditions = session["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let says_why = conditions
            .iter()
            .any(|one| one["type"] == "PolicyApplied" && one["reason"] == "MaxDurationReached");
        ensure!(session["state"] == "terminated" && says_why, "ended otherwise: {session}");
        self.by.wished.lock().await.held.retain(|held| held.id != id);
        self.session = None;
        self.by.delete_session(&id).await
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}

impl Operator {
    async fn make_limited(&mut self) -> Result<String> {
        let place = json!({"controller_labels": {"floor": crate::stage::FLOOR}});
        self.ask_for_session(json!({"max_session_duration": "500ms"}), place).await
    }
}
