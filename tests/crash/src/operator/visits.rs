//! A session's way in, what is said about it, what somebody does to it by hand, and its end without its controller's
//! word.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use chrono::{Duration, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Chore, Operator, THINKS_MS, Vault, session_path, wait};
use crate::driver::{Hand, Held};

/// A cookie with so little time left is given more when it is used …
const LITTLE: Duration = Duration::minutes(10);
/// … and then has at least so much.
const MUCH: Duration = Duration::minutes(50);

/// A ticket for the events is good for so long.
const TICKET_LIFE: std::time::Duration = std::time::Duration::from_secs(30);

/// What is done with a session.
#[derive(Clone, Copy)]
enum Visit {
    Use,
    Open,
    Listen,
    Disturb,
    Forget,
}

const CHORES: [Chore<Visit>; 5] = [
    Chore {
        what: Visit::Use,
        points: &["record_activity", "retry", "get_session_metrics", "get_session_access"],
    },
    Chore { what: Visit::Open, points: &["grant_access", "redeem_ticket", "extend_access"] },
    Chore { what: Visit::Listen, points: &["issue_event_ticket", "redeem_event_ticket"] },
    Chore { what: Visit::Disturb, points: &["record_observed"] },
    Chore { what: Visit::Forget, points: &["forget_session"] },
];

/// Makes a session, uses it and has it forgotten.
pub(super) struct Visits {
    by: Operator,
    vault: Vault,
    /// What they use at present.
    session: Option<String>,
}

impl Visits {
    pub(super) fn new(by: Operator, vault: Vault) -> Self {
        Self { by, vault, session: None }
    }
}

impl Hand for Visits {
    fn name(&self) -> String {
        self.by.name()
    }

    async fn act(&mut self) -> Result<()> {
        let Some(id) = self.session.clone() else {
            // Ready for whatever is to be done next.
            let id = self.by.make_session(json!({})).await?;
            self.by.wished.lock().await.held.push(Held { id: id.clone(), state: "running" });
            self.session = Some(id);
            return Ok(());
        };
        match self.by.choose(&CHORES) {
            Some(Visit::Use) => return self.by.use_session(&id).await,
            Some(Visit::Open) => return self.by.open_session(&id, &self.vault).await,
            Some(Visit::Listen) => return self.by.ask_for_events().await,
            // What is disturbed again and again is set right later and later: that one goes.
            Some(Visit::Disturb) => self.by.disturb_session(&id).await?,
            Some(Visit::Forget) | None => {}
        }
        self.by.wished.lock().await.held.retain(|held| held.id != id);
        self.session = None;
        self.by.terminate(&id).await?;
        let path = session_path(&id);
        self.by.tell_once(Method::POST, &format!("{path}/forget"), &Value::Null, (&[204], 404)).await?;
        self.by.missing(&path).await
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}

impl Operator {
    /// Says that it is used, and asks about it.
    async fn use_session(&mut self, id: &str) -> Result<()> {
        let path = session_path(id);
        self.tell(Method::POST, &format!("{path}/heartbeat"), &Value::Null, &[204]).await?;
        let session = self.read(&path).await?;
        ensure!(session["status"]["last_activity"].is_string(), "nobody used it: {session}");
        for about in ["metrics", "access", "logs", "explain"] {
            // What its controller has to say to that is its own affair.
            let answer = self.desk.read(&format!("{path}/{about}"), None).await?;
            ensure!(answer.status != 404, "nothing about {id}: {}", answer.body);
        }
        self.tell(Method::POST, &format!("{path}/retry"), &Value::Null, &[200, 202]).await?;
        self.session_is(id, "Running").await?;
        Ok(())
    }

    /// Opens it as a browser does, for so long that the right to it is given anew.
    async fn open_session(&mut self, id: &str, vault: &Vault) -> Result<()> {
        let cookie = self.enter(id).await?;
        vault.let_expire_in(id, LITTLE).await?;
        let begun = Instant::now();
        loop {
            // What the application answers, if it answers at all, is its own affair.
            let visited = self.desk.visit(&format!("/s/{id}/"), Some(&cookie)).await?;
            if let Some((status, _)) = visited {
                ensure!(status != 401, "the cookie of {id} is not good: {status}");
            }
            let expire = vault.expire(id).await?;
            if expire.iter().any(|at| *at > Utc::now() + MUCH) {
                return Ok(());
            }
            wait(begun, || format!("the cookie of {id} is not given more time: {expire:?}")).await?;
        }
    }

    /// Exchanges a ticket for a cookie.
    async fn enter(&mut self, id: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            let path = format!("{}/tickets", session_path(id));
            let ticket = self.tell(Method::POST, &path, &Value::Null, &[201]).await?;
            let url = ticket.body["url"].as_str().context("a ticket without a URL")?.to_owned();
            let mut unsure = false;
            loop {
                match self.desk.visit(&url, None).await? {
                    Some((status, Some(cookie))) if status == 303 => return Ok(cookie),
                    Some((status, _)) if status == 401 && unsure => break,
                    Some((status, _)) => {
                        ensure!(status.is_server_error(), "a new ticket for {id} is not good: {status}");
                    }
                    None => unsure = true,
                }
                wait(begun, || format!("no ticket opens {id}")).await?;
            }
        }
    }

    /// Gets a ticket for the events and shows it, which is good once.
    async fn ask_for_events(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let ticket = self.tell(Method::POST, "/api/v1/ws/ticket", &Value::Null, &[201]).await?;
            let ticket = ticket.body["ticket"].as_str().context("no ticket")?.to_owned();
            let path = format!("/api/v1/ws?ticket={ticket}");
            let mut unsure = false;
            loop {
                match self.desk.visit(&path, None).await? {
                    // It was taken, and this opens no WebSocket.
                    Some((status, _)) if status == 400 => return Ok(()),
                    // Taken by a server that did not live to say so, or too late.
                    Some((status, _)) if status == 401 && (unsure || begun.elapsed() > TICKET_LIFE) => break,
                    Some((status, _)) => {
                        ensure!(
                            status.is_server_error(),
                            "a new ticket for the events is not good: {status}"
                        );
                    }
                    None => unsure = true,
                }
                wait(begun, || "no ticket opens the events".to_owned()).await?;
            }
        }
    }

    /// Stops it behind the servers' back, and waits until they have set that right.
    async fn disturb_session(&mut self, id: &str) -> Result<()> {
        let deed = json!({"do": "stop"});
        self.by_hand(&format!("/boxes/ss-{id}/by-hand"), &deed).await?;
        let begun = Instant::now();
        loop {
            let found = self.box_of(id).await?;
            if found.as_ref().is_some_and(|found| found["state"] == "running") {
                break;
            }
            // Whoever asks has it looked at.
            let path = format!("{}/retry", session_path(id));
            self.tell(Method::POST, &path, &Value::Null, &[200, 202]).await?;
            wait(begun, || format!("{id} was stopped by hand, and is not set right: {found:?}")).await?;
        }
        self.session_is(id, "Running").await?;
        Ok(())
    }
}
