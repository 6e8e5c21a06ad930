//! Controllers that run elsewhere, as far as the server knows: they join, give signs of life, and are removed.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Chore, Operator};
use crate::driver::Hand;

/// The longest pause between two chores, in milliseconds.
const THINKS_MS: u64 = 80;
/// No session asks for this.
const TYPE: &str = "elsewhere";
/// Nobody listens there: such a controller is never healthy, and gets no sessions.
const ENDPOINT: &str = "grpc://127.0.0.1:1";
const JOIN_TOKENS: &str = "/api/v1/admin/join-tokens";

/// What happens to a controller that has joined.
#[derive(Clone, Copy)]
enum Event {
    SignOfLife,
    Removal,
}

const CHORES: [Chore<Event>; 2] = [
    Chore { what: Event::SignOfLife, points: &["heard"] },
    Chore {
        what: Event::Removal,
        points: &["create_join_token", "enroll", "delete_join_token", "delete_controller"],
    },
];

/// Looks after a controller elsewhere.
pub(super) struct Members {
    by: Operator,
    joined: Option<Member>,
}

struct Member {
    name: String,
    id: String,
    /// Its own token.
    token: String,
    join_token: JoinToken,
}

struct JoinToken {
    id: String,
    secret: String,
}

impl Members {
    pub(super) fn new(by: Operator) -> Self {
        Self { by, joined: None }
    }

    async fn join(&mut self) -> Result<Member> {
        let name = self.by.key();
        let join_token = self.invite(&name).await?;
        let answer = self.register(&name, &join_token).await?;
        ensure!(answer["role"] == "active", "{name} is the only one, and not active: {answer}");
        let text = |field: &str| answer[field].as_str().map(str::to_owned);
        let (id, token) = text("controller_id").zip(text("auth_token")).context("no id, or no token")?;
        Ok(Member { name, id, token, join_token })
    }

    /// Makes a join token for this controller, and is sure that there is no other.
    async fn invite(&mut self, name: &str) -> Result<JoinToken> {
        let body = json!({"name": name, "controller_type": TYPE, "controller_name": name});
        let (made, unsure) = self.by.tell_once(Method::POST, JOIN_TOKENS, &body, (&[201], 201)).await?;
        let text = |field: &str| made.body[field].as_str().map(str::to_owned);
        let (id, secret) = text("id").zip(text("secret")).context("a join token without a secret")?;
        if unsure {
            // One whose secret nobody has heard.
            for other in self.join_tokens(name).await?.into_iter().filter(|other| *other != id) {
                self.revoke(&other).await?;
            }
        }
        Ok(JoinToken { id, secret })
    }

    async fn join_tokens(&mut self, name: &str) -> Result<Vec<String>> {
        let all = self.by.read(JOIN_TOKENS).await?;
        let all = all["items"].as_array().or_else(|| all.as_array()).context("no list of join tokens")?;
        let own = all.iter().filter(|token| token["name"] == name);
        Ok(own.filter_map(|token| token["id"].as_str().map(str::to_owned)).collect())
    }

    async fn revoke(&mut self, id: &str) -> Result<()> {
        let path = format!("{JOIN_TOKENS}/{id}");
        self.by.tell_once(Method::DELETE, &path, &Value::Null, (&[204], 404)).await?;
        Ok(())
    }

    async fn register(&mut self, name: &str, with: &JoinToken) -> Result<Value> {
        let path = "/api/v1/controllers/register";
        let body = json!({"type": TYPE, "name": name, "endpoint": ENDPOINT});
        let answer = self.by.desk.send_as(Method::POST, path, &body, &with.secret).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// The server knows the controller, and takes its token.
    async fn sign_of_life(&mut self, member: &Member) -> Result<()> {
        let found = self.by.read(&format!("/api/v1/admin/controllers/{}", member.id)).await?;
        ensure!(found["name"] == member.name.as_str(), "not {}: {found}", member.name);
        let path = format!("/api/v1/controllers/{}/heartbeat", member.id);
        let answer = self.by.desk.send_as(Method::POST, &path, &sign_of_life(), &member.token).await?;
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
        ensure!(answer.body["role"] == "active", "{}: {}", member.name, answer.body);
        Ok(())
    }

    /// Neither the controller nor a way to join as it is left.
    async fn remove(&mut self, Member { id, join_token, token, name }: Member) -> Result<()> {
        self.revoke(&join_token.id).await?;
        let left = self.join_tokens(&name).await?;
        ensure!(left.is_empty(), "revoked, and still there: {left:?}");
        let path = format!("/api/v1/admin/controllers/{id}");
        let force = format!("{path}?force=true");
        self.by.tell_once(Method::DELETE, &force, &Value::Null, (&[200], 404)).await?;
        self.by.missing(&path).await?;
        let beat = format!("/api/v1/controllers/{id}/heartbeat");
        let answer = self.by.desk.send_as(Method::POST, &beat, &sign_of_life(), &token).await?;
        ensure!(answer.status == 401 || answer.status == 404, "{beat}: {} {}", answer.status, answer.body);
        Ok(())
    }
}

fn sign_of_life() -> Value {
    json!({"status": "healthy", "current_sessions": 0})
}

impl Hand for Members {
    fn name(&self) -> String {
        self.by.name()
    }

    async fn act(&mut self) -> Result<()> {
        let member = match self.joined.take() {
            Some(member) => member,
            None => self.join().await?,
        };
        self.sign_of_life(&member).await?;
        match self.by.choose(&CHORES) {
            Some(Event::Removal) => self.remove(member).await?,
            Some(Event::SignOfLife) | None => self.joined = Some(member),
        }
        Ok(())
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}
