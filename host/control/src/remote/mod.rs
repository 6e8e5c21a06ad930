//! Controllers that run elsewhere, as this server calls them.
//!
//! Every server attaches every remote controller at the place of its active process; who drives it is decided as for all
//! controllers. When the place is another one, whoever drives it takes it over anew, under an epoch under which nobody was ever
//! called, and calls the new process under that one. The old process is not called any more.
//!
//! What was begun at the old process may still be under way, and is not waited for here. It is enough that it changes nothing
//! any more, which does not depend on whether the old process, or this server, can be reached:
//!
//! - Another process becomes active when the lease of the old one is over, or when the old one has said that it ends. Its own
//!   clock ends the lease earlier than the database does: it counts from when the old process sent its sign of life, and leaves
//!   a part of it unused for a request to the backend that is under way. Before each such request it looks at that clock, also
//!   in the middle of a call. And it says that it ends only after its mutations have.
//! - If it can be reached it hears of the higher epoch, with its next sign of life, and is told that it is not the active one.
//! - A step that this server began there holds its claim until its call has come back or its time is over: no other step of the
//!   same session is begun at the new process before.
//!
//! A controller in another language that does not keep its lease is not held back by any of this; docs/api.md asks it to.

mod dial;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use streamspace_call_auth::{SignerLayer, SigningKey};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
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
/// After the first failure to find a way to a controller; twice as long after every further one …
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Attaches remote controllers.
pub(crate) struct Remotes {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    presence: Arc<Presence>,
    /// Calls are signed with it.
    key: Arc<SigningKey>,
    /// Those that are called by their addresses. Held over a whole look, so that looks come one after the other.
    seats: Mutex<HashMap<ControllerId, Seat>>,
    /// Calls may leave this machine unencrypted.
    insecure: bool,
    news: Notify,
}

/// How a controller is called by its address.
struct Seat {
    place: Place,
    /// When the way there is looked for again; none = it was found.
    retry: Option<Retry>,
}

struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    fn after(earlier: Option<&Self>) -> Self {
        let pause = earlier.map_or(FIRST_PAUSE, |earlier| LONGEST_PAUSE.min(earlier.pause * 2));
        Self { at: Instant::now() + pause, pause }
    }
}

impl Seat {
    /// Whether there is nothing to do for a controller at this place now.
    fn rests_at(&self, place: &Place) -> bool {
        self.place == *place && self.retry.as_ref().is_none_or(|retry| Instant::now() < retry.at)
    }
}

impl Remotes {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        fleet: Arc<Fleet>,
        presence: Arc<Presence>,
        key: Arc<SigningKey>,
        insecure: bool,
    ) -> Self {
        Self { store, fleet, presence, key, seats: Mutex::default(), insecure, news: Notify::new() }
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
        let mut seats = self.seats.lock().await;
        let all = self.store.remote_controllers().await?;
        // One that connects by itself is not called by an address.
        let direct: HashSet<&ControllerId> =
            all.iter().filter(|one| !one.place.endpoint.is_empty()).map(|one| &one.id).collect();
        seats.retain(|id, _| {
            let there = direct.contains(id);
            if !there {
                tracing::info!(controller = %id, "the remote controller is not called any more");
                self.fleet.detach(id);
            }
            there
        });
        for one in &all {
            let seat = seats.get(&one.id);
            let due = direct.contains(&one.id) && !seat.is_some_and(|seat| seat.rests_at(&one.place));
            let mut way = None;
            if due {
                // Nothing may come to the new process under what held for the old one.
                self.fleet.stand_down_from(&one.id);
                way = self.way(one);
                if way.is_none() {
                    self.fleet.detach(&one.id);
                    let earlier =
                        seat.filter(|seat| seat.place == one.place).and_then(|seat| seat.retry.as_ref());
                    let retry = Some(Retry::after(earlier));
                    seats.insert(one.id.clone(), Seat { place: one.place.clone(), retry });
                    continue;
                }
            } else if self.fleet.client(&one.id).is_none()
                || self.fleet.standing(&one.id).epoch() >= Some(one.epoch)
            {
                continue;
            }
            let charge = self.charge(one).await?;
            if let Some(transport) = way {
                let RemoteController { id, controller_type, place, .. } = one;
                tracing::info!(controller = %id, endpoint = place.endpoint, instance = place.instance,
                    "the remote controller is called there");
                self.fleet.attach(id.clone(), controller_type.clone(), transport, Arc::clone(&self.store));
                seats.insert(id.clone(), Seat { place: place.clone(), retry: None });
            }
            if let Some((epoch, term)) = charge {
                tracing::info!(controller = %one.id, epoch = epoch.get(), "this server drives the controller now");
                self.fleet.take_charge(&one.id, epoch, term);
            }
        }
        Ok(())
    }

    /// Somebody else sees to it how a controller is called.
    pub(crate) async fn let_go(&self, id: &ControllerId) {
        self.seats.lock().await.remove(id);
    }

    /// The way to a controller, if there is one.
    fn way(&self, one: &RemoteController) -> Option<ControllerTransport> {
        let RemoteController { id, place, .. } = one;
        match dial::dial(&place.endpoint, &place.ca, self.insecure) {
            Ok(transport) => Some(self.signed(id, &place.instance, transport)),
            Err(error) => {
                tracing::error!(controller = %id, endpoint = place.endpoint, %error, "it cannot be called");
                None
            }
        }
    }

    /// The same way to a process of a controller, but one on which it can tell that calls come from this server, and are meant
    /// for it.
    pub(crate) fn signed(
        &self,
        id: &ControllerId,
        instance: &str,
        transport: ControllerTransport,
    ) -> ControllerTransport {
        let signer = SignerLayer::new(Arc::clone(&self.key), id.as_str()).for_instance(instance);
        ControllerTransport::new(signer.layer(transport))
    }

    /// Takes a controller over, unless another server drives it. The epoch is always a new one, also where this server drives
    /// it already: under the one that is stored the old process may have been called, by this server or by another.
    async fn charge(&self, one: &RemoteController) -> Result<Option<(Epoch, Arc<Term>)>, StoreError> {
        let Some(term) = self.presence.term() else { return Ok(None) };
        if one.active_server.as_deref().is_some_and(|server| server != term.owner()) {
            return Ok(None);
        }
        let epoch = self.store.take_over_controller(term.owner(), &one.id).await?;
        Ok(epoch.map(|epoch| (epoch, term)))
    }
}
