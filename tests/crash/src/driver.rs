//! The load: many users, each with one session at a time, who want something else of it all the time and do not give
//! up until they are told that they will get it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use reqwest::Method;
use serde_json::{Value, json};
use streamspace_tests::api::{Answer, Api};
use tokio::sync::{Mutex, RwLock, RwLockWriteGuard, watch};

use crate::points::chance_of;

/// Between two tries of the same verb.
const AGAIN: Duration = Duration::from_millis(5);
/// The longest that a user waits before the next verb, in milliseconds.
const THINKS_MS: u64 = 60;
/// How users wait for what they want.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// How long they ask a server to wait until it is so.
    pub(crate) wait: &'static str,
    /// How long a server may say nothing before they turn to it, or to another, again.
    pub(crate) patience: Duration,
}

/// Tries of one verb at a server that answers every time and never takes it.
const TRIES: u32 = 2000;

/// What is wanted of a session, as it was acknowledged last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The session.
    pub(crate) id: String,
    /// `running`, `hibernated` or `terminated`.
    pub(crate) state: &'static str,
}

/// One user.
struct User {
    number: usize,
    random: StdRng,
    held: Option<Held>,
    verbs: u64,
}

/// All users.
pub(crate) struct Driver {
    users: Vec<Arc<Mutex<User>>>,
    servers: watch::Sender<Vec<Arc<Api>>>,
    /// Held shared by whoever is in the middle of a verb.
    gate: Arc<RwLock<()>>,
    acknowledged: Arc<AtomicU64>,
    amiss: Arc<Mutex<Vec<String>>>,
}

/// Nobody is in the middle of a verb as long as this is held.
pub(crate) struct Pause<'a>(#[allow(dead_code)] RwLockWriteGuard<'a, ()>);

impl Driver {
    /// Starts them; nothing happens before there is a server.
    pub(crate) fn start(users: usize, seed: u64, manners: Manners) -> Self {
        let (servers, _) = watch::channel(Vec::new());
        let driver = Self {
            users: (0..users)
                .map(|number| {
                    let random = chance_of(seed, number);
                    Arc::new(Mutex::new(User { number, random, held: None, verbs: 0 }))
                })
                .collect(),
            servers,
            gate: Arc::default(),
            acknowledged: Arc::default(),
            amiss: Arc::default(),
        };
        for user in &driver.users {
            let (user, gate) = (Arc::clone(user), Arc::clone(&driver.gate));
            let (count, amiss) = (Arc::clone(&driver.acknowledged), Arc::clone(&driver.amiss));
            let mut desk = Desk { servers: driver.servers.subscribe(), manners };
            tokio::spawn(async move {
                loop {
                    let thinks = {
                        let _busy = gate.read().await;
                        let mut user = user.lock().await;
                        if let Err(error) = user.act(&mut desk).await {
                            amiss.lock().await.push(format!("user {}: {error:#}", user.number));
                            return;
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                        user.random.random_range(0..THINKS_MS)
                    };
                    tokio::time::sleep(Duration::from_millis(thinks)).await;
                }
            });
        }
        driver
    }

    /// Says where the server is now.
    pub(crate) fn serve(&self, api: Option<Api>) {
        self.serve_all(api);
    }

    /// Says where all servers are now: users turn to any of them.
    pub(crate) fn serve_all(&self, apis: impl IntoIterator<Item = Api>) {
        self.servers.send_replace(apis.into_iter().map(Arc::new).collect());
    }

    /// Waits until nobody is in the middle of a verb, and holds them there.
    pub(crate) async fn pause(&self) -> Pause<'_> {
        Pause(self.gate.write().await)
    }

    /// What every user was told last. To be asked during a pause.
    pub(crate) async fn held(&self) -> Vec<Held> {
        let mut all = Vec::new();
        for user in &self.users {
            all.extend(user.lock().await.held.clone());
        }
        all
    }

    /// The server there is.
    pub(crate) fn api(&self) -> Result<Arc<Api>> {
        match self.servers.borrow().first() {
            Some(api) => Ok(Arc::clone(api)),
            None => bail!("there is no server"),
        }
    }

    /// Verbs that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// What users were told that cannot be right.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        self.amiss.lock().await.clone()
    }
}

/// Where verbs are handed in: at whatever server there is.
struct Desk {
    servers: watch::Receiver<Vec<Arc<Api>>>,
    manners: Manners,
}

impl Desk {
    /// Sends a request until a server takes or refuses it, and says whether an earlier try may have been taken.
    async fn send(&mut self, method: Method, path: &str, key: &str, body: &Value) -> Result<(Answer, bool)> {
        let mut unsure = false;
        for _ in 0..TRIES {
            let api = loop {
                if let Some(api) = self.servers.borrow_and_update().choose(&mut rand::rng()) {
                    break Arc::clone(api);
                }
                self.servers.changed().await?;
            };
            let sent = api.try_send(method.clone(), path, Some(key), body);
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
                }
                Ok(answer) => return Ok((answer, unsure)),
                Err(_) => unsure = true,
            }
            tokio::time::sleep(AGAIN).await;
        }
        bail!("{method} {path}: never taken")
    }
}

impl User {
    /// Wants one thing, and is told that it will be so, or that it is.
    async fn act(&mut self, desk: &mut Desk) -> Result<()> {
        self.verbs += 1;
        let key = format!("u{}-{}", self.number, self.verbs);
        // Most wait until it is so: otherwise more would be wished than any backend can do.
        let wait = match self.random.random_ratio(1, 6) {
            true => String::new(),
            false => format!("?wait={}", desk.manners.wait),
        };
        let Some(held) = &mut self.held else {
            let body = json!({
                "user_id": format!("user-{}", self.number),
                "spec": {
                    "base_image": "any",
                    "persistent_home": self.random.random::<bool>(),
                    "resources": {"memory": "64Mi", "cpu": "100m"},
                },
            });
            let (answer, _) =
                desk.send(Method::POST, &format!("/api/v1/sessions{wait}"), &key, &body).await?;
            let id = answer.body["id"].as_str();
            let Some(id) = id.filter(|_| answer.status == 201) else {
                bail!("a creation was answered {}: {}", answer.status, answer.body);
            };
            self.held = Some(Held { id: id.to_owned(), state: "running" });
            return Ok(());
        };
        let path = format!("/api/v1/sessions/{}{wait}", held.id);
        let state = match self.random.random_range(0..10) {
            0..3 => "hibernated",
            3..6 => "running",
            6 => "terminated",
            _ => {
                let (answer, unsure) = desk.send(Method::DELETE, &path, &key, &Value::Null).await?;
                // Gone at the second try: the first one was taken.
                if !(answer.status.is_success() || answer.status == 404 && unsure) {
                    bail!("the deletion of {} was answered {}: {}", held.id, answer.status, answer.body);
                }
                self.held = None;
                return Ok(());
            }
        };
        let (answer, _) = desk.send(Method::PATCH, &path, &key, &json!({"state": state})).await?;
        if !answer.status.is_success() {
            bail!("{state} of {held:?} was answered {}: {}", answer.status, answer.body);
        }
        held.state = state;
        Ok(())
    }
}
