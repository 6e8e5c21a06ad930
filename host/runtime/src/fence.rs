//! Whether a call may still change anything.

use std::fmt;
use std::sync::Arc;

use streamspace_bindings::types::{Error, ErrorKind};

/// Says of an epoch whether calls under it may change anything now. Whoever makes the calls may be replaced at any time
/// without anybody telling this process, which may have been stopped for a while: so it is asked before each change.
#[derive(Clone, Default)]
pub struct Fence(Option<Arc<dyn Fn(u64) -> bool + Send + Sync>>);

impl Fence {
    /// A fence that asks this. It must not wait for anything.
    pub fn new(holds: impl Fn(u64) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(holds)))
    }

    /// What belongs to a call under this epoch.
    pub(crate) fn of_call(&self, epoch: u64) -> CallFence {
        CallFence { fence: self.clone(), epoch }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Fence" } else { "no Fence" })
    }
}

/// The fence of one call. Epoch 0 = its caller takes no part in fencing.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallFence {
    fence: Fence,
    epoch: u64,
}

impl CallFence {
    /// To be asked before anything is changed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.fence.0 {
            Some(holds) if self.epoch != 0 && !holds(self.epoch) => Err(Error {
                kind: ErrorKind::StaleEpoch,
                message: format!("epoch {} is over: somebody else may have taken over", self.epoch),
                field: None,
                retry_after_ms: None,
                ext: Vec::new(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_is_over_changes_nothing() {
        let fence = Fence::new(|epoch| epoch == 7);
        assert!(fence.of_call(7).check().is_ok());
        assert_eq!(fence.of_call(6).check().unwrap_err().kind, ErrorKind::StaleEpoch);
        assert!(fence.of_call(0).check().is_ok(), "takes no part");
        assert!(Fence::default().of_call(6).check().is_ok(), "there is no fence");
    }
}
