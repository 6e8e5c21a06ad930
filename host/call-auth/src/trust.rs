//! Whom a controller trusts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot};

use crate::replay::Used;
use crate::token::unix_now;
use crate::{Jwks, PublicKey, Refusal};

/// How long a call with an unknown key waits for newer keys.
const KEY_PATIENCE: Duration = Duration::from_secs(5);

/// Calls that may wait for them at once. Whoever calls with a key that nobody has must not fill the memory.
const MOST_WAITING: usize = 64;

/// What the calls to a controller are measured by: its id, the keys of the API servers, and which signatures were used.
/// All of it is told from outside, when the controller registers and with every heartbeat; until then every call is
/// refused as [`Refusal::NotRegistered`].
pub struct Trust {
    controller_id: ArcSwapOption<String>,
    /// Which process of it this is; none = any.
    instance: ArcSwapOption<String>,
    keys: ArcSwap<HashMap<String, PublicKey>>,
    missing: mpsc::Sender<oneshot::Sender<()>>,
    pub(crate) used: Used,
    pub(crate) since: u64,
}

impl Trust {
    /// Trusts nobody yet. Whoever can bring newer keys takes the requests for them; when nobody does any more, an
    /// unknown key is refused at once.
    pub fn new() -> (Arc<Self>, KeyRequests) {
        let (missing, requests) = mpsc::channel(MOST_WAITING);
        let trust = Self {
            controller_id: ArcSwapOption::empty(),
            instance: ArcSwapOption::empty(),
            keys: ArcSwap::default(),
            missing,
            used: Used::default(),
            since: unix_now(),
        };
        (Arc::new(trust), KeyRequests(requests))
    }

    /// Which controller this is from now on: the audience of its calls.
    pub fn registered_as(&self, controller_id: impl Into<String>) {
        self.controller_id.store(Some(Arc::new(controller_id.into())));
    }

    /// Which process of the controller this is: what is signed for another one is refused. To be said before
    /// [`registered_as`](Self::registered_as), with which calls are let in; who never says it takes what is signed for any.
    pub fn serves_as(&self, instance: impl Into<String>) {
        self.instance.store(Some(Arc::new(instance.into())));
    }

    /// Who may call from now on, and nobody else.
    pub fn replace_keys(&self, keys: &Jwks) {
        let named = keys.keys().iter().map(|key| (key.kid(), *key)).collect();
        self.keys.store(Arc::new(named));
    }

    pub(crate) fn controller_id(&self) -> Result<Arc<String>, Refusal> {
        self.controller_id.load_full().ok_or(Refusal::NotRegistered)
    }

    /// Whether this process is the one that a call is signed for.
    pub(crate) fn is_meant(&self, instance: Option<&str>) -> bool {
        self.instance.load().as_ref().is_none_or(|own| instance == Some(own.as_str()))
    }

    /// The key of this name. For one that is not known newer keys are asked for, once: an API server may have come.
    pub(crate) async fn key(&self, kid: &str) -> Result<PublicKey, Refusal> {
        if let Some(key) = self.known(kid) {
            return Ok(key);
        }
        let (ask, answered) = oneshot::channel();
        if self.missing.try_send(ask).is_ok() {
            // Whether in time or not: what counts is which keys there are then.
            let _ = tokio::time::timeout(KEY_PATIENCE, answered).await;
        }
        self.known(kid).ok_or(Refusal::UnknownKey)
    }

    fn known(&self, kid: &str) -> Option<PublicKey> {
        self.keys.load().get(kid).copied()
    }
}

/// Calls that wait for newer keys.
pub struct KeyRequests(mpsc::Receiver<oneshot::Sender<()>>);

/// Calls that go on, with the keys that there are then, when this is dropped.
#[must_use = "the calls go on when this is dropped"]
pub struct Missed(Vec<oneshot::Sender<()>>);

impl KeyRequests {
    /// Waits until a call waits. Nothing is lost if this is not waited for to its end.
    pub async fn next(&mut self) -> Missed {
        match self.0.recv().await {
            Some(first) => Missed(vec![first]),
            // Nobody can call any more.
            None => std::future::pending().await,
        }
    }

    /// Adds the calls that have come to wait meanwhile: right before the keys are asked for, so that the answer is newer
    /// than they are.
    pub fn gather(&mut self, missed: &mut Missed) {
        while let Ok(one) = self.0.try_recv() {
            missed.0.push(one);
        }
    }
}

impl Missed {
    /// No call.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether a call waits.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}
