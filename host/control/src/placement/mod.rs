//! Which controller takes a session. A pure function of the request and of what is known about the controllers.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod verdict;

use serde::Deserialize;

use crate::domain::{
    Amounts, Controller, ControllerId, ControllerStatus, PlacementRequest, Requirement, SessionSpec,
};
use crate::store::{PlacementDecision, Placer};
pub(crate) use verdict::{Obstacle, Verdict};

/// Takes what names no target, if a controller of this type was ever registered.
const DEFAULT_TYPE: &str = "kubernetes";

/// Which of several controllers takes a session that all of them can take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementStrategy {
    /// The one with the fewest sessions.
    #[default]
    LeastLoaded,
    /// The one that has waited longest for its last one.
    RoundRobin,
}

impl PlacementStrategy {
    /// The least is chosen. Ids settle what would be equal: the same controllers give the same choice.
    fn rank(self, controller: &Controller) -> (u64, &ControllerId) {
        let first = match self {
            Self::LeastLoaded => controller.ledger.reserved.sessions,
            Self::RoundRobin => controller.last_placed,
        };
        (first, &controller.id)
    }
}

/// Places one session.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    request: PlacementRequest,
    /// What it will hold of its controller.
    asked: Amounts,
    /// What it holds already, and of which.
    held: Option<(ControllerId, Amounts)>,
    strategy: PlacementStrategy,
}

impl Placement {
    /// What the spec needs is required of the controller as well: a backend that cannot keep a home must not be
    /// given one to lose.
    pub(crate) fn new(request: &PlacementRequest, spec: &SessionSpec, strategy: PlacementStrategy) -> Self {
        let mut request = request.clone();
        if spec.persistent_home && !request.require.contains(&Requirement::PersistentStorage) {
            request.require.push(Requirement::PersistentStorage);
        }
        Self { request, asked: Amounts::asked_by(spec), held: None, strategy }
    }

    /// The same for a session that holds something already: that is in nobody's way where it is.
    pub(crate) fn holding(self, held: Option<(ControllerId, Amounts)>) -> Self {
        Self { held, ..self }
    }

    /// What the session asks of its controller.
    pub(crate) fn asked(&self) -> &Amounts {
        &self.asked
    }
}

impl Placer for Placement {
    fn place(&self, controllers: &[Controller]) -> PlacementDecision {
        self.choose(controllers)
    }
}

impl Placement {
    fn choose(&self, controllers: &[Controller]) -> PlacementDecision {
        if let Some(invalid) = self.invalid_target(controllers) {
            return invalid;
        }
        let mut candidates = self.verdicts(controllers);
        candidates.retain(|verdict| !verdict.obstacle.as_ref().is_some_and(Obstacle::is_other));

        let best = candidates
            .iter()
            .filter(|verdict| verdict.obstacle.is_none())
            .map(|verdict| verdict.controller)
            .min_by_key(|controller| self.strategy.rank(controller));
        if let Some(best) = best {
            return PlacementDecision::On(best.id.clone(), best.controller_type.clone());
        }
        let reasons = verdict::reasons(&candidates, self.wanted_type(controllers));
        if candidates.iter().any(|verdict| verdict.obstacle.as_ref().is_some_and(Obstacle::passes)) {
            PlacementDecision::Later(reasons)
        } else {
            PlacementDecision::Nobody(reasons)
        }
    }

    /// How every controller stands to the request: the same look that decides, in the order given.
    pub(crate) fn verdicts<'a>(&'a self, controllers: &'a [Controller]) -> Vec<Verdict<'a>> {
        let wanted_type = self.wanted_type(controllers);
        let verdict = |controller: &'a Controller| {
            let other_type = wanted_type.filter(|wanted| *wanted != controller.controller_type);
            let obstacle = if self.request.controller_id.as_ref().is_some_and(|id| *id != controller.id) {
                Some(Obstacle::OtherController)
            } else if let Some(wanted) = other_type {
                Some(Obstacle::OtherType(wanted))
            } else {
                self.obstacle(controller)
            };
            Verdict { controller, obstacle }
        };
        controllers.iter().map(verdict).collect()
    }

    /// The type that is named; or the one that the template prefers, or else the default, if such a controller was
    /// ever registered: one that is down is waited for, and not silently replaced by another type.
    fn wanted_type<'a>(&'a self, controllers: &[Controller]) -> Option<&'a str> {
        let request = &self.request;
        if request.controller_id.is_some() || request.controller_type.is_some() {
            return request.controller_type.as_deref();
        }
        let preferred = request.template.as_ref().and_then(|offer| offer.preferred.as_deref());
        [preferred, Some(DEFAULT_TYPE)].into_iter().flatten().find(|wanted| {
            self.template_obstacle(wanted).is_none()
                && controllers.iter().any(|controller| controller.controller_type == *wanted)
        })
    }

    fn template_obstacle(&self, controller_type: &str) -> Option<String> {
        self.request.template.as_ref()?.obstacle(controller_type)
    }

    /// A target that does not exist, or that the template is not for, is the caller's mistake.
    fn invalid_target(&self, controllers: &[Controller]) -> Option<PlacementDecision> {
        let request = &self.request;
        let invalid = |field, message| Some(PlacementDecision::Invalid { field, message });
        if let Some(obstacle) =
            request.controller_type.as_deref().and_then(|kind| self.template_obstacle(kind))
        {
            return invalid("controller_type", obstacle);
        }
        let id = request.controller_id.as_ref()?;
        let Some(target) = controllers.iter().find(|controller| controller.id == *id) else {
            return invalid("controller_id", "no controller with this id is registered".to_owned());
        };
        let kind = &target.controller_type;
        if request.controller_type.as_ref().is_some_and(|wanted| wanted != kind) {
            let message = format!("the controller named by controller_id is of type {kind:?}");
            return invalid("controller_type", message);
        }
        self.template_obstacle(kind).and_then(|obstacle| invalid("controller_id", obstacle))
    }

    /// The first thing in the way. Room comes last: only what could take the session is called draining or full.
    fn obstacle(&self, controller: &Controller) -> Option<Obstacle<'_>> {
        if let Some(why) = self.template_obstacle(&controller.controller_type) {
            return Some(Obstacle::Template(why));
        }
        for (key, value) in &self.request.labels {
            if controller.label(key) != Some(value) {
                return Some(Obstacle::Label(key, value));
            }
        }
        if controller.status != ControllerStatus::Healthy {
            return Some(Obstacle::Health);
        }
        for requirement in &self.request.require {
            if !controller.supports(*requirement) {
                return Some(Obstacle::Capability(*requirement));
            }
        }
        let ledger = self.ledger(controller);
        if let Some(share) = ledger.shares(&self.asked).find(|share| !share.could_be_enough()) {
            return Some(Obstacle::TooSmall(share));
        }
        if controller.draining {
            return Some(Obstacle::Draining);
        }
        ledger.lacks(&self.asked).map(Obstacle::Full)
    }

    /// What a controller has and has given away, but for what this session holds.
    pub(crate) fn ledger(&self, controller: &Controller) -> crate::domain::Ledger {
        match &self.held {
            Some((id, held)) if *id == controller.id => controller.ledger.without(held),
            _ => controller.ledger,
        }
    }
}
