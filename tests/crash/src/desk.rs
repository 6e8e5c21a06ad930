//! Where verbs are handed in: at whatever server there is, again and again until one takes them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use rand::seq::IndexedRandom as _;
use reqwest::Method;
use serde_json::Value;
use streamspace_tests::api::{Answer, Api, Visited};
use tokio::sync::watch;

/// Between two tries of the same verb.
const AGAIN: Duration = Duration::from_millis(5);
/// Tries of one verb at a server that answers every time and never takes it: one whose controller was slow to answer a
/// probe takes some of them only after the next.
const TRIES: u32 = 10_000;

/// How users wait for what they want.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// How long they ask a server to wait until it is so.
    pub(crate) wait: &'static str,
    /// How long a server may say nothing before they turn to it, or to another, again.
    pub(crate) patience: Duration,
}

/// Where verbs are handed in.
#[derive(Clone)]
pub(crate) struct Desk {
    servers: watch::Receiver<Vec<Arc<Api>>>,
    manners: Manners,
}

/// An answer, and whether an earlier try may have been taken.
pub(crate) type Told = (Answer, bool);

impl Desk {
    pub(crate) fn new(servers: watch::Receiver<Vec<Arc<Api>>>, manners: Manners) -> Self {
        Self { servers, manners }
    }

    /// What is added to a path to wait until it is so.
    pub(crate) fn wait(&self) -> String {
        format!("?wait={}", self.manners.wait)
    }

    /// One of the servers, as soon as there is one.
    async fn server(&mut self) -> Result<Arc<Api>> {
        loop {
            if let Some(api) = self.servers.borrow_and_update().choose(&mut rand::rng()) {
                return Ok(Arc::clone(api));
            }
            self.servers.changed().await?;
        }
    }

    /// Sends a request until a server takes or refuses it.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Told> {
        self.ask(&Request { method, path, key, body, token: None }).await
    }

    /// The same, as somebody with a token of their own.
    pub(crate) async fn send_as(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        token: &str,
    ) -> Result<Answer> {
        Ok(self.ask(&Request { method, path, key: None, body, token: Some(token) }).await?.0)
    }

    /// Reads something, as somebody with a token of their own or as the administrator.
    pub(crate) async fn read(&mut self, path: &str, token: Option<&str>) -> Result<Answer> {
        let request = Request { method: Method::GET, path, key: None, body: &Value::Null, token };
        Ok(self.ask(&request).await?.0)
    }

    /// Opens a page below a session as a browser does, and gets the status and the cookie that is set; none without an
    /// answer. Redirections are not followed.
    pub(crate) async fn visit(&mut self, path: &str, cookie: Option<&str>) -> Result<Option<Visited>> {
        let api = self.server().await?;
        let visit = api.try_visit(path, cookie);
        Ok(tokio::time::timeout(self.manners.patience, visit).await.ok().and_then(Result::ok))
    }

    async fn ask(&mut self, request: &Request<'_>) -> Result<Told> {
        let Request { method, path, key, body, token } = request;
        let mut unsure = false;
        for _ in 0..TRIES {
            let api = self.server().await?;
            let api = match token {
                Some(token) => &api.with_token(token),
                None => &*api,
            };
            let sent = api.try_send(method.clone(), path, *key, body);
            let Ok(answered) = tokio::time::timeout(self.manners.patience, sent).await else {
                unsure = true;
                continue;
            };
            match answered {
                // What a server that begins or stops cannot do yet or any more.
                Ok(answer) if answer.status.is_server_error() => {
                    if answer.status == 500 {
                        bail!("{method} {path}: {}", answer.body);
                    }
                    // Nobody knows what became of a change that was on its way to the database.
                    unsure |= answer.body["type"] == "urn:streamspace:problem:database-uncertain";
                }
                Ok(answer) => return Ok((answer, unsure)),
                Err(_) => unsure = true,
            }
            tokio::time::sleep(AGAIN).await;
        }
        bail!("{method} {path}: never taken")
    }
}

struct Request<'a> {
    method: Method,
    path: &'a str,
    key: Option<&'a str>,
    body: &'a Value,
    token: Option<&'a str>,
}
