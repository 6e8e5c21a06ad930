//! Steps under way, and the room they leave.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::task::{Id, JoinError, JoinSet};

use super::Reconciler;
use crate::domain::{ControllerId, Lane, Room, SessionId};
use crate::store::Claimed;

/// What a step is about.
struct Work {
    session: SessionId,
    controller: Option<ControllerId>,
    lane: Lane,
}

/// Steps under way. Those of one controller take no room from those of another.
#[derive(Default)]
pub(super) struct InFlight {
    tasks: JoinSet<()>,
    work: HashMap<Id, Work>,
    rooms: HashMap<Option<ControllerId>, Room>,
}

impl InFlight {
    /// Begins a step.
    pub(super) fn start(&mut self, reconciler: &Arc<Reconciler>, claimed: Claimed) {
        let work = Work {
            session: claimed.session.id.clone(),
            controller: claimed.session.controller_id().cloned(),
            lane: Lane::of(claimed.step),
        };
        let reconciler = Arc::clone(reconciler);
        let task = self.tasks.spawn(async move { reconciler.step(claimed).await });
        self.rooms.entry(work.controller.clone()).or_default().take(work.lane);
        self.work.insert(task.id(), work);
    }

    /// Returns when a step has ended, and others that have ended as well are seen to; never, if there is none.
    pub(super) async fn ended(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        self.see_to(ended);
        // Each would begin a round of its own.
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.see_to(ended);
        }
    }

    fn see_to(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                // Its claim runs out, and the step is made again.
                tracing::error!(%error, "a step ended without recording anything");
                error.id()
            }
        };
        let Some(Work { controller, lane, .. }) = self.work.remove(&id) else { return };
        if let Some(room) = self.rooms.get_mut(&controller) {
            room.leave(lane);
            if room.is_idle() {
                self.rooms.remove(&controller);
            }
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What is being worked on.
    pub(super) fn sessions(&self) -> HashSet<SessionId> {
        self.work.values().map(|work| work.session.clone()).collect()
    }

    /// The room there is at a controller that takes so many steps at once.
    pub(super) fn room(&self, controller: &Option<ControllerId>, limit: u32) -> Room {
        match self.rooms.get(controller) {
            Some(room) => room.with_limit(limit),
            None => Room::for_steps(limit),
        }
    }
}
