//! The load: many users, each with one session at a time, who want something else of it all the time and do not give
//! up until they are told that they will get it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rand::RngExt as _;
use rand::rngs::StdRng;
use reqwest::Method;
use serde_json::{Value, json};
use streamspace_tests::api::Api;
use tokio::sync::{Mutex, RwLock, RwLockWriteGuard, watch};

use crate::desk::{Desk, Manners};
use crate::points::chance_of;
use crate::stage::FLOOR;

/// The longest that a user waits before the next verb, in milliseconds.
const THINKS_MS: u64 = 60;
/// What is wanted of a session, as it was acknowledged last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The session.
    pub(crate) id: String,
    /// `running`, `hibernated`, `terminated`, or [`LIMITED`].
    pub(crate) state: &'static str,
}

/// What runs until a limit in time ends it: it is running or terminated.
pub(crate) const LIMITED: &str = "running or terminated";

/// What has to be there beside the users' sessions.
#[derive(Debug, Default)]
pub(crate) struct Wished {
    /// Sessions.
    pub(crate) held: Vec<Held>,
    /// Boxes that nobody may touch, by the session id that they bear.
    pub(crate) strangers: Vec<String>,
}

/// Somebody who does one thing after the other.
pub(crate) trait Hand: Send + 'static {
    /// Who it is.
    fn name(&self) -> String;

    /// Does one thing, from its beginning to its end.
    fn act(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// The longest that they wait before the next thing, in milliseconds.
    fn thinks_ms(&self) -> u64;
}

/// One user.
struct User {
    number: usize,
    random: StdRng,
    held: Option<Held>,
    verbs: u64,
}

/// A user at a desk.
struct Seat {
    user: Arc<Mutex<User>>,
    desk: Desk,
    acknowledged: Arc<AtomicU64>,
}

impl Hand for Seat {
    fn name(&self) -> String {
        "a user".to_owned()
    }

    async fn act(&mut self) -> Result<()> {
        let mut user = self.user.lock().await;
        let number = user.number;
        user.act(&mut self.desk).await.with_context(|| format!("user {number}"))?;
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn thinks_ms(&self) -> u64 {
        THINKS_MS
    }
}

/// All users, and whoever else is at work.
pub(crate) struct Driver {
    users: Vec<Arc<Mutex<User>>>,
    wished: Arc<Mutex<Wished>>,
    manners: Manners,
    /// The point at which the server is to die.
    sought: watch::Sender<String>,
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
            wished: Arc::default(),
            manners,
            sought: watch::Sender::default(),
            servers,
            gate: Arc::default(),
            acknowledged: Arc::default(),
            amiss: Arc::default(),
        };
        for user in &driver.users {
            let (user, acknowledged) = (Arc::clone(user), Arc::clone(&driver.acknowledged));
            driver.employ(Seat { user, desk: driver.desk(), acknowledged });
        }
        driver
    }

    /// Has somebody work from now on, until something is not as they were told.
    pub(crate) fn employ(&self, mut hand: impl Hand) {
        let (gate, amiss) = (Arc::clone(&self.gate), Arc::clone(&self.amiss));
        tokio::spawn(async move {
            loop {
                {
                    let _busy = gate.read().await;
                    if let Err(error) = hand.act().await {
                        amiss.lock().await.push(format!("{}: {error:#}", hand.name()));
                        return;
                    }
                }
                let thinks = rand::rng().random_range(0..=hand.thinks_ms());
                tokio::time::sleep(Duration::from_millis(thinks)).await;
            }
        });
    }

    /// Says at which point the server is to die: whoever can have it come there may do that first.
    pub(crate) fn seek(&self, point: &str) {
        self.sought.send_replace(point.to_owned());
    }

    /// That point.
    pub(crate) fn sought(&self) -> watch::Receiver<String> {
        self.sought.subscribe()
    }

    /// A desk at the servers that there are.
    pub(crate) fn desk(&self) -> Desk {
        Desk::new(self.servers.subscribe(), self.manners)
    }

    /// What has to be there beside the users' sessions, to be added to.
    pub(crate) fn wished(&self) -> Arc<Mutex<Wished>> {
        Arc::clone(&self.wished)
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

    /// What everybody was told last. To be asked during a pause.
    pub(crate) async fn told(&self) -> Wished {
        let wished = self.wished.lock().await;
        let mut told = Wished { held: wished.held.clone(), strangers: wished.strangers.clone() };
        for user in &self.users {
            told.held.extend(user.lock().await.held.clone());
        }
        told
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

impl User {
    /// Wants one thing, and is told that it will be so, or that it is.
    async fn act(&mut self, desk: &mut Desk) -> Result<()> {
        self.verbs += 1;
        let key = format!("u{}-{}", self.number, self.verbs);
        // Most wait until it is so: otherwise more would be wished than any backend can do.
        let wait = match self.random.random_ratio(1, 6) {
            true => String::new(),
            false => desk.wait(),
        };
        let Some(held) = &mut self.held else {
            let body = json!({
                "user_id": format!("user-{}", self.number),
                "controller_labels": {"floor": FLOOR},
                "spec": {
                    "base_image": "any",
                    "persistent_home": self.random.random::<bool>(),
                    "resources": {"memory": "64Mi", "cpu": "100m"},
                },
            });
            let (answer, _) =
                desk.send(Method::POST, &format!("/api/v1/sessions{wait}"), Some(&key), &body).await?;
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
                let (answer, unsure) = desk.send(Method::DELETE, &path, Some(&key), &Value::Null).await?;
                // Gone at the second try: the first one was taken.
                if !(answer.status.is_success() || answer.status == 404 && unsure) {
                    bail!("the deletion of {} was answered {}: {}", held.id, answer.status, answer.body);
                }
                self.held = None;
                return Ok(());
            }
        };
        let (answer, _) = desk.send(Method::PATCH, &path, Some(&key), &json!({"state": state})).await?;
        if !answer.status.is_success() {
            bail!("{state} of {held:?} was answered {}: {}", answer.status, answer.body);
        }
        held.state = state;
        Ok(())
    }
}
