//! Who drives a controller.

use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::Epoch;
use crate::presence::Term;

/// Whether this server drives a controller, and under which epoch. It outlives whatever the controller is called by.
#[derive(Debug, Default)]
pub(crate) struct Standing(RwLock<Option<Charge>>);

#[derive(Debug, Clone)]
struct Charge {
    epoch: Epoch,
    term: Arc<Term>,
}

impl Standing {
    /// This server drives it, as long as the term lasts.
    pub(super) fn take_charge(&self, epoch: Epoch, term: Arc<Term>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Charge { epoch, term });
    }

    /// It does not any more.
    pub(super) fn stand_down(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The epoch under which this server drives it now.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        let charge = self.0.read().unwrap_or_else(PoisonError::into_inner);
        charge.as_ref().filter(|charge| charge.term.is_sure()).map(|charge| charge.epoch)
    }

    /// Whether what was begun under this epoch may change anything now.
    pub(crate) fn holds(&self, epoch: Epoch) -> bool {
        self.epoch() == Some(epoch)
    }
}
