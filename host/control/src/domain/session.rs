//! A session: what is wanted, what was observed, and what it is made of.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Conditions, ControllerId, Generation, SessionId, SessionSpec, TemplateOffer, merge_objects};

/// What the session's owner wants (`state` in the API).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WishedState {
    /// It runs.
    Running,
    /// It is stopped, and can go on later.
    Hibernated,
    /// Its objects at the backend are gone; the row and the home stay.
    Terminated,
}

impl WishedState {
    /// The name in the API and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Hibernated => "hibernated",
            Self::Terminated => "terminated",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Hibernated, Self::Terminated].into_iter().find(|state| state.as_str() == text)
    }
}

/// What was last observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub enum Phase {
    /// Not there yet.
    Pending,
    /// It runs.
    Running,
    /// It is stopped, and can go on later.
    Hibernated,
    /// It does not run and will not without a new wish.
    Failed,
    /// Its objects at the backend are gone.
    Terminated,
}

impl Phase {
    /// The name in the API, in the store and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Hibernated => "Hibernated",
            Self::Failed => "Failed",
            Self::Terminated => "Terminated",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Hibernated, Self::Failed, Self::Terminated]
            .into_iter()
            .find(|phase| phase.as_str() == text)
    }
}

/// Everything that is wanted of a session, deletion included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A state to be reached and kept.
    State(WishedState),
    /// Nothing is to be left, not even the row.
    Gone {
        /// The user's home goes too.
        purge_home: bool,
    },
}

impl Wish {
    /// Whether nothing is left to wish for in that phase.
    pub fn is_fulfilled_by(self, phase: Phase) -> bool {
        match self {
            Self::State(WishedState::Running) => phase == Phase::Running,
            Self::State(WishedState::Hibernated) => phase == Phase::Hibernated,
            Self::State(WishedState::Terminated) | Self::Gone { .. } => phase == Phase::Terminated,
        }
    }
}

/// A capability that a caller may require of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// Sessions can be stopped and go on later.
    Hibernation,
    /// Sessions can use a GPU.
    Gpu,
    /// Homes can outlive their session.
    PersistentStorage,
    /// Sessions have a network.
    Networking,
}

impl Requirement {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Hibernation, Self::Gpu, Self::PersistentStorage, Self::Networking];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hibernation => "hibernation",
            Self::Gpu => "gpu",
            Self::PersistentStorage => "persistent_storage",
            Self::Networking => "networking",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|requirement| requirement.as_str() == text)
    }
}

/// Where the caller wants the session; kept, because placement may have to wait for room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PlacementRequest {
    /// This controller and no other.
    pub controller_id: Option<ControllerId>,
    /// A controller of this type.
    pub controller_type: Option<String>,
    /// A controller with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// A controller that can do all of this.
    pub require: Vec<Requirement>,
    /// A controller that the session's template has something for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateOffer>,
}

/// A session as the store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its name, for ever.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: String,
    /// What it was made from; empty = nothing but its spec.
    pub template_id: String,
    /// What is wanted.
    pub wish: Wish,
    /// The wished state, which a deletion leaves as it was; the API shows it in `state`.
    pub state: WishedState,
    /// What was last observed.
    pub phase: Phase,
    /// Where it was placed, and that controller's type. Absent until there was room.
    pub placed: Option<(ControllerId, String)>,
    /// Where it is moved to: another controller of the same type. It is made there once nothing is left of it where it
    /// is placed.
    pub moving_to: Option<ControllerId>,
    /// Where it may be placed.
    pub placement: PlacementRequest,
    /// The backend's own name of its main object: a cache, never a key.
    pub node_id: String,
    /// What it is made of.
    pub spec: SessionSpec,
    /// Settings that only its controller type understands.
    pub controller_config: Map<String, Value>,
    /// See [`SessionSpec::hash`].
    pub spec_hash: String,
    /// Why it is as it is.
    pub conditions: Conditions,
    /// Counts the changes of the wish.
    pub generation: Generation,
    /// When it goes without its controller's word, if it is to be gone by force.
    pub forget_after: Option<DateTime<Utc>>,
    /// The last wish that was fulfilled or finally failed.
    pub observed_generation: Option<Generation>,
    /// The last sign of a user that anybody reported.
    pub last_activity: Option<DateTime<Utc>>,
    /// When it last began to run; absent while it does not.
    pub running_since: Option<DateTime<Utc>>,
    /// When its present life began: it first ran since it was made, or since it was terminated.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its row last changed.
    pub updated_at: DateTime<Utc>,
}

impl Session {
    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        matches!(self.wish, Wish::Gone { .. })
    }

    /// Notes what was observed, and what that says about its time.
    pub fn observe_phase(&mut self, phase: Phase, at: DateTime<Utc>) {
        self.running_since = match phase {
            Phase::Running => self.running_since.or(Some(at)),
            Phase::Pending | Phase::Hibernated | Phase::Failed | Phase::Terminated => None,
        };
        self.started_at = match phase {
            Phase::Running => self.started_at.or(Some(at)),
            Phase::Pending | Phase::Hibernated | Phase::Failed => self.started_at,
            Phase::Terminated => None,
        };
        self.phase = phase;
    }

    /// Where browsers reach it: always through this server.
    pub fn url(&self) -> String {
        format!("/s/{}/", self.id)
    }

    /// Places it, and takes what its template has for that type of controller. From here on it is known what the
    /// session is made of, and that is what its hash is of.
    pub fn place_on(&mut self, id: ControllerId, controller_type: String) -> Result<(), serde_json::Error> {
        if let Some(offer) = &mut self.placement.template {
            if let Some(image) = offer.images.get(&controller_type) {
                self.spec.base_image.clone_from(image);
            }
            if let Some(defaults) = offer.controller_config.get(&controller_type) {
                let own = std::mem::take(&mut self.controller_config);
                self.controller_config = merge_objects(own, defaults.clone());
            }
            self.spec_hash = self.spec.hash(&self.controller_config)?;
        }
        self.placed = Some((id, controller_type));
        Ok(())
    }

    /// The id of the controller it was placed on.
    pub fn controller_id(&self) -> Option<&ControllerId> {
        self.placed.as_ref().map(|(id, _)| id)
    }
}
