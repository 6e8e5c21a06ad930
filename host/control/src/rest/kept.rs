//! What requests keep between each other. Memory only, all of it bounded.

use super::registry::Refusals;
use super::usage::Samples;
use crate::ControlConfig;
use crate::slots::Slots;

/// Kept between requests.
pub(crate) struct Kept {
    pub(super) samples: Samples,
    pub(super) listeners: Slots,
    pub(super) followers: Slots,
    /// Controllers that were turned away.
    pub(super) refusals: Refusals,
    /// Connections through the gateway that outlive their request, by session.
    pub(crate) visits: Slots,
}

impl Kept {
    pub(crate) fn new(config: &ControlConfig) -> Self {
        Self {
            samples: Samples::default(),
            listeners: Slots::new(config.event_listeners),
            followers: Slots::new(config.log_followers),
            refusals: Refusals::default(),
            visits: Slots::new(config.gateway_connections),
        }
    }
}
