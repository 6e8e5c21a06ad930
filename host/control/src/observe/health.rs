//! Says at the sessions of each controller whether it can be reached.
//!
//! What is said is compared with what is so again and again: a change can be missed, and a controller that was never
//! there since the server started has none.

use std::collections::HashMap;

use tokio::sync::Mutex;

use super::Observer;
use crate::domain::{
    Condition, ConditionStatus, Controller, ControllerId, ControllerStatus, condition_type, now,
};
use crate::fleet::{CallError, Health};

/// What the sessions of each controller were told last.
#[derive(Debug, Default)]
pub(crate) struct Noted(Mutex<HashMap<ControllerId, Said>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    status: ConditionStatus,
    reason: String,
    message: String,
}

impl Said {
    fn of(health: Option<Health>) -> Self {
        let Some(Health { status, message }) = health else {
            let CallError { reason, message, .. } = CallError::unattached();
            return Self { status: ConditionStatus::False, reason, message };
        };
        let (known, reason, message) = match status {
            ControllerStatus::Healthy => (ConditionStatus::True, "Answers", String::new()),
            ControllerStatus::Unhealthy => (ConditionStatus::False, "ControllerUnhealthy", message),
            ControllerStatus::Offline => (ConditionStatus::False, "ControllerOffline", message),
        };
        Self { status: known, reason: reason.to_owned(), message }
    }
}

impl Observer {
    /// Acts on a change of health.
    pub(crate) async fn health_changed(&self, id: ControllerId) {
        if self.fleet.client(&id).is_some() && self.fleet.driven(&id).is_none() {
            // Whoever drives it says so. What is said meanwhile is not known here.
            self.noted.0.lock().await.remove(&id);
            return;
        }
        self.note_health(&id).await;
        if !self.fleet.health(&id).is_some_and(|health| health.is_good()) {
            return;
        }
        let woken = async {
            self.store.retry_failing(&id).await?;
            self.store.retry_unplaced(u32::MAX).await
        };
        if let Err(error) = woken.await {
            tracing::error!(%error, "waiting sessions were not woken");
        }
        self.wake.notify_one();
        self.asked.put(id);
    }

    /// Makes up for what was missed. A server that has just started (`early`) may be about to attach a controller.
    pub(super) async fn note_all(&self, controllers: &[Controller], early: bool) {
        for controller in controllers {
            let attached = self.fleet.client(&controller.id).is_some();
            if attached && self.fleet.driven(&controller.id).is_none() {
                self.noted.0.lock().await.remove(&controller.id);
            } else if attached || !(early || controller.active_server.is_some()) {
                self.note_health(&controller.id).await;
            }
        }
    }

    /// Says at a controller's sessions how it does, unless they were told already.
    async fn note_health(&self, id: &ControllerId) {
        // Held until it is stored: what is said last is what was found last.
        let mut noted = self.noted.0.lock().await;
        let health = self.fleet.health(id);
        if health.is_none() && self.fleet.client(id).is_some() {
            // It has not been probed yet.
            return;
        }
        let said = Said::of(health);
        if noted.get(id) == Some(&said) {
            return;
        }
        let Said { status, reason, message } = said.clone();
        let kind = condition_type::CONTROLLER_REACHABLE.to_owned();
        let condition = Condition { kind, status, reason, message, since: now() };
        match self.store.set_controller_condition(id, condition).await {
            Ok(changed) => {
                changed.iter().for_each(|id| self.changes.changed(id));
                noted.insert(id.clone(), said);
            }
            Err(error) => {
                tracing::error!(%error, "the health of a controller was not noted at its sessions");
                noted.remove(id);
            }
        }
    }
}
