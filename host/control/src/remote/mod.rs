//! Controllers that run elsewhere, as this server calls them.
//!
//! Every server attaches every remote controller at the place of its active process; who drives it is decided as for all
//! controllers. When the place is another one, the controller has another epoch since the same moment: whoever drives it calls
//! the new process under that one, and the old process is not called any more.

mod dial;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use streamspace_call_auth::{SignerLayer, SigningKey};
use tokio::sync::{Mutex, Notify};
use tower::Layer as _;

use crate::domain::{ControllerId, Epoch, Place};
use crate::fleet::{ControllerTransport, Fleet};
use crate::presence::{Presence, Term};
use crate::store::{RemoteController, Store, StoreError};

pub(crate) use dial::trusted;

/// What was not told of is found out so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// After a failure of the database.
const RETRY: Duration = Duration::from_secs(1);

/// Attaches remote controllers.
pub(crate) struct Remotes {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    presence: Arc<Presence>,
    /// Calls are signed with it.
    key: Arc<SigningKey>,
    /// Those that are attached by their addresses. Held over a whole look, so that looks come one after the other.
    attached: Mutex<HashMap<ControllerId, Place>>,
    news: Notify,
}

impl Remotes {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        fleet: Arc<Fleet>,
        presence: Arc<Presence>,
        key: Arc<SigningKey>,
    ) -> Self {
        Self { store, fleet, presence, key, attached: Mutex::default(), news: Notify::new() }
    }

    /// Somebody says that a remote controller came, moved or went.
    pub(crate) fn look_soon(&self) {
        self.news.notify_one();
    }

    /// Keeps up with what is registered. Never ends.
    pub(crate) async fn run(&self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "which remote controllers there are is not known");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let _ = tokio::time::timeout(LOOK_INTERVAL, self.news.notified()).await;
        }
    }

    /// Keeps up with what was just registered. If that cannot be, it is made up for.
    pub(crate) async fn look_now(&self) {
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "a remote controller is not called yet");
            self.look_soon();
        }
    }

    /// Attaches what is new or elsewhere, lets go of what is gone, and calls under the epochs that hold now.
    pub(crate) async fn look(&self) -> Result<(), StoreError> {
        let mut attached = self.attached.lock().await;
        let all = self.store.remote_controllers().await?;
        // One that connects by itself is not called by an address.
        let direct: HashSet<&ControllerId> =
            all.iter().filter(|one| !one.place.endpoint.is_empty()).map(|one| &one.id).collect();
        attached.retain(|id, _| {
            let there = direct.contains(id);
            if !there {
                tracing::info!(controller = %id, "the remote controller is not called any more");
                self.fleet.detach(id);
            }
            there
        });
        for one in &all {
            let moved = direct.contains(&one.id) && attached.get(&one.id) != Some(&one.place);
            if moved {
                // Nothing may come to the new process under what held for the old one.
                self.fleet.stand_down_from(&one.id);
            } else if self.fleet.client(&one.id).is_none() {
                continue;
            }
            let charge = self.charge(one).await?;
            if moved {
                self.attach(one);
                attached.insert(one.id.clone(), one.place.clone());
            }
            if let Some((epoch, term)) = charge
                && self.fleet.standing(&one.id).epoch() < Some(epoch)
            {
                tracing::info!(controller = %one.id, epoch = epoch.get(), "this server drives the controller now");
                self.fleet.take_charge(&one.id, epoch, term);
            }
        }
        Ok(())
    }

    /// Somebody else sees to it how a controller is called.
    pub(crate) async fn let_go(&self, id: &ControllerId) {
        self.attached.lock().await.remove(id);
    }

    fn attach(&self, one: &RemoteController) {
        let RemoteController { id, controller_type, place, .. } = one;
        match dial::dial(&place.endpoint, &place.ca) {
            Ok(transport) => {
                let transport = self.signed(id, transport);
                tracing::info!(controller = %id, endpoint = place.endpoint, instance = place.instance,
                    "the remote controller is called there");
                self.fleet.attach(id.clone(), controller_type.clone(), transport, Arc::clone(&self.store));
            }
            Err(error) => {
                tracing::error!(controller = %id, endpoint = place.endpoint, %error, "it cannot be called");
                self.fleet.detach(id);
            }
        }
    }

    /// The same way to a controller, but one on which it can tell that calls come from this server.
    pub(crate) fn signed(&self, id: &ControllerId, transport: ControllerTransport) -> ControllerTransport {
        let signer = SignerLayer::new(Arc::clone(&self.key), id.as_str());
        ControllerTransport::new(signer.layer(transport))
    }

    /// Under which epoch this server drives a controller: it does, or nobody does.
    async fn charge(&self, one: &RemoteController) -> Result<Option<(Epoch, Arc<Term>)>, StoreError> {
        let Some(term) = self.presence.term() else { return Ok(None) };
        let epoch = match one.active_server.as_deref() {
            Some(server) if server == term.owner() => Some(one.epoch),
            Some(_) => None,
            None => self.store.take_over_controller(term.owner(), &one.id).await?,
        };
        Ok(epoch.map(|epoch| (epoch, term)))
    }
}
