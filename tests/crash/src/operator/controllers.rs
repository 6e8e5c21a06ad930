//! What is said about controllers: labels, whether they take sessions, and the end of one.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Chore, Operator, session_path, wait};
use crate::driver::Hand;
use crate::stage::{FLOOR, MAIN, SPARE};

/// The longest pause between two chores, in milliseconds.
const THINKS_MS: u64 = 150;
/// How long a controller takes no sessions, at most, in milliseconds.
const DRAINED_MS: usize = 30;

/// What is said about a controller.
#[derive(Clone, Copy)]
enum Order {
    Label,
    Drain,
    Move,
    Remove,
}

const CHORES: [Chore<Order>; 4] = [
    Chore { what: Order::Label, points: &["change_controller", "ping"] },
    Chore { what: Order::Drain, points: &["place_session", "retry_unplaced"] },
    Chore { what: Order::Move, points: &["migrate"] },
    Chore { what: Order::Remove, points: &["delete_controller", "forget_sessions_of"] },
];

/// Looks after controllers.
pub(super) struct Controllers {
    by: Operator,
    /// What the operator's label says.
    label: Option<String>,
}

impl Controllers {
    pub(super) fn new(by: Operator) -> Self {
        Self { by, label: None }
    }

    /// Changes the label.
    async fn label(&mut self, path: &str) -> Result<()> {
        self.by.read("/readyz").await?;
        self.check(path).await.context("as it was left")?;
        let label = match self.label {
            Some(_) if self.by.one_of(3) == 0 => None,
            _ => Some(self.by.key()),
        };
        self.by.tell(Method::PATCH, path, &json!({"labels": {"shelf": label}}), &[200]).await?;
        self.label = label;
        self.check(path).await.context("as it was told")
    }

    async fn check(&mut self, path: &str) -> Result<()> {
        let controller = self.by.read(path).await?;
        let found = controller["labels"]["shelf"].as_str();
        ensure!(found == self.label.as_deref(), "not labelled {:?}: {controller}", self.label);
        Ok(())
    }
}

impl Hand for Controllers {
    fn name(&self) -> String {
        self.by.name()
    }

    async fn act(&mut self) -> Result<()> {
        let main = self.by.controller(MAIN).await?.context("the controller is not there")?;
        let path = format!("/api/v1/admin/controllers/{main}");
        match self.by.choose(&CHORES) {
            Some(Order::Drain) => self.by.drain(&path).await,
            Some(Order::Move) => match self.by.controller(SPARE).await? {
                Some(spare) => self.by.move_one(&main, &spare).await,
                None => self.label(&path).await,
            },
            Some(Order::Remove) => match self.by.controller(SPARE).await? {
                Some(spare) => self.by.remove(&spare).await,
                // It is back when a server starts.
                None => self.label(&path).await,
            },
            Some(Order::Label) | None => self.label(&path).await,
        }
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}

impl Operator {
    /// The id of a controller that can take sessions.
    pub(super) async fn controller(&mut self, name: &str) -> Result<Option<String>> {
        let all = self.read("/api/v1/admin/controllers").await?;
        let found = all.as_array().context("no list of controllers")?.iter().find(|one| one["name"] == name);
        let usable = found.filter(|one| one["status"] == "healthy" || name == MAIN);
        Ok(usable.and_then(|one| one["id"].as_str()).map(str::to_owned))
    }

    /// Lets a controller take nothing for a moment: what is asked for meanwhile waits until it does again.
    async fn drain(&mut self, path: &str) -> Result<()> {
        self.tell(Method::PATCH, path, &json!({"draining": true}), &[200]).await?;
        let place = json!({"controller_labels": {"floor": FLOOR}});
        let waiting = self.ask_for_session(json!({}), place).await?;
        let pause = self.one_of(DRAINED_MS) as u64;
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        let controller = self.read(path).await?;
        ensure!(controller["draining"] == true, "not draining: {controller}");
        let session = self.read(&session_path(&waiting)).await?;
        ensure!(
            session["controller_id"].as_str().is_none_or(str::is_empty),
            "placed all the same: {session}"
        );
        self.tell(Method::PATCH, path, &json!({"draining": false}), &[200]).await?;
        self.session_is(&waiting, "Running").await?;
        self.delete_session(&waiting).await
    }

    /// Moves a session from one controller to the other. There is one box of it then, and that is the other one's.
    async fn move_one(&mut self, from: &str, to: &str) -> Result<()> {
        let id = self.ask_for_session(json!({}), json!({"controller_id": from})).await?;
        self.session_is(&id, "Running").await?;
        let (path, wish) = (format!("{}/migrate", session_path(&id)), json!({"controller_id": to}));
        let begun = Instant::now();
        loop {
            let answer = self.tell(Method::POST, &path, &wish, &[200, 202, 409]).await?;
            if answer.status != 409 {
                break;
            }
            // A server that has just started does not know yet how its controllers are.
            wait(begun, || format!("{id} is not to be moved: {}", answer.body)).await?;
        }
        let session = self.session_is(&id, "Running").await?;
        ensure!(session["controller_id"] == to, "not moved to {to}: {session}");
        let found = self.box_of(&id).await?.context("it is moved, and its box is not there")?;
        ensure!(found["labels"]["streamspace.controller"] == to, "another controller's box: {found}");
        self.delete_session(&id).await
    }

    /// Removes a controller with the one session that it has. Nothing is left of that at the infrastructure, where nobody
    /// would look for it any more.
    async fn remove(&mut self, id: &str) -> Result<()> {
        let session = self.ask_for_session(json!({}), json!({"controller_id": id})).await?;
        self.session_is(&session, "Running").await?;
        self.terminate(&session).await?;
        let path = format!("/api/v1/admin/controllers/{id}");
        let force = format!("{path}?force=true");
        self.tell_once(Method::DELETE, &force, &Value::Null, (&[200], 404)).await?;
        self.missing(&path).await?;
        self.missing(&session_path(&session)).await
    }
}
