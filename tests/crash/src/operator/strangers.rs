//! Boxes that no session explains.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Chore, Operator, THINKS_MS, session_path, wait};
use crate::driver::{Hand, Held};
use crate::stage::MAIN;

/// So many are left alone at once.
const KEPT: usize = 4;

/// What becomes of a box.
#[derive(Clone, Copy)]
enum Fate {
    Ignored,
    Adopted,
    Removed,
}

const CHORES: [Chore<Fate>; 3] = [
    Chore { what: Fate::Ignored, points: &["order_drift"] },
    Chore { what: Fate::Adopted, points: &["adopt", "get_session"] },
    Chore { what: Fate::Removed, points: &["order_drift", "drift_removed"] },
];

/// Finds boxes on the drift list, and decides about them.
pub(super) struct Strangers {
    by: Operator,
    /// A session of their own: whoever asks about it has its controller listed.
    own: Option<String>,
    /// Those that are ignored: the entry, and the session id that the box bears.
    kept: VecDeque<(String, String)>,
    made: u32,
}

impl Strangers {
    pub(super) fn new(by: Operator) -> Self {
        Self { by, own: None, kept: VecDeque::new(), made: 0 }
    }

    /// Has somebody else make a box that looks like one of the controller's.
    async fn make(&mut self, controller: &str) -> Result<String> {
        self.made += 1;
        let id = format!("01900000-0000-7000-8000-{:012}", self.made);
        let body = json!({"name": format!("ss-{id}"), "labels": {
            "streamspace.controller": controller,
            "streamspace.session_id": id,
            "streamspace.user_id": format!("operator-{}", self.by.name),
        }});
        self.by.by_hand("/foreign", &body).await?;
        Ok(id)
    }

    /// Waits until the list shows it, or does not any more; the entry.
    async fn listed(&mut self, id: &str, own: &str, there: bool) -> Result<Option<String>> {
        let begun = Instant::now();
        loop {
            let list = self.by.read("/api/v1/admin/drift?limit=500").await?;
            let items = list["items"].as_array().context("no drift list")?;
            let found = items.iter().find(|entry| entry["session_id"] == id);
            if found.is_some() == there {
                return Ok(found.and_then(|entry| entry["id"].as_str()).map(str::to_owned));
            }
            let path = format!("{}/retry", session_path(own));
            self.by.tell(Method::POST, &path, &Value::Null, &[200, 202]).await?;
            wait(begun, || format!("{id} listed: {}, and should be: {there}", !there)).await?;
        }
    }

    /// Removes a box through its entry.
    async fn remove(&mut self, entry: &str, id: &str, own: &str) -> Result<()> {
        let path = format!("/api/v1/admin/drift/{entry}");
        self.by.tell_once(Method::DELETE, &path, &Value::Null, (&[202, 204], 404)).await?;
        self.listed(id, own, false).await?;
        let left = self.by.box_of(id).await?;
        ensure!(left.is_none(), "{id} was removed, and is there: {left:?}");
        Ok(())
    }

    /// Makes a session of a box.
    async fn adopt(&mut self, entry: &str, id: &str) -> Result<()> {
        let path = format!("/api/v1/admin/drift/{entry}/adopt");
        let body = json!({"spec": {"base_image": "any"}});
        let key = self.by.key();
        let (answer, unsure) = self.by.desk.send(Method::POST, &path, Some(&key), &body).await?;
        let status = answer.status.as_u16();
        // The second time there is a session of its id, or no entry any more.
        let taken = status == 201 || unsure && (status == 409 || status == 404);
        ensure!(taken, "{path}: {status} {}", answer.body);
        self.by.session_is(id, "Running").await?;
        self.by.delete_session(id).await
    }

    /// Leaves a box alone for as long as it is among the last that were.
    async fn ignore(&mut self, entry: String, id: String, own: &str) -> Result<()> {
        let path = format!("/api/v1/admin/drift/{entry}/ignore");
        self.by.tell(Method::POST, &path, &Value::Null, &[200]).await?;
        self.by.wished.lock().await.strangers.push(id.clone());
        self.kept.push_back((entry, id));
        if self.kept.len() <= KEPT {
            return Ok(());
        }
        let Some((entry, id)) = self.kept.pop_front() else { return Ok(()) };
        self.by.wished.lock().await.strangers.retain(|one| *one != id);
        self.remove(&entry, &id, own).await
    }

    /// Whether those that were left alone still are.
    async fn check(&mut self) -> Result<()> {
        for (entry, id) in &self.kept {
            let found = self.by.read(&format!("/api/v1/admin/drift/{entry}")).await?;
            let as_left = found["state"] == "ignored" && found["session_id"] == id.as_str();
            ensure!(as_left, "not ignored any more: {found}");
        }
        Ok(())
    }
}

impl Hand for Strangers {
    fn name(&self) -> String {
        self.by.name()
    }

    async fn act(&mut self) -> Result<()> {
        let own = match &self.own {
            Some(own) => own.clone(),
            None => {
                let own = self.by.make_session(json!({})).await?;
                self.by.wished.lock().await.held.push(Held { id: own.clone(), state: "running" });
                self.own.insert(own).clone()
            }
        };
        self.check().await?;
        let controller = self.by.controller(MAIN).await?.context("the controller is not there")?;
        let id = self.make(&controller).await?;
        let entry = self.listed(&id, &own, true).await?.context("an entry without an id")?;
        match self.by.choose(&CHORES) {
            Some(Fate::Ignored) => self.ignore(entry, id, &own).await,
            Some(Fate::Adopted) => self.adopt(&entry, &id).await,
            Some(Fate::Removed) | None => self.remove(&entry, &id, &own).await,
        }
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}
