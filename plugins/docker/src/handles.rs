//! What one step leaves for the next. There is little to remember: every step looks at the engine first.
//!
//! `handles/` has those of this version and of others, for the tests of this crate and for the conformance suite.

use serde::{Deserialize, Serialize};
use streamspace_sdk::{Result, handle};

/// Version of the form below. The first one had no number in front: `0` in the folder.
const VERSION: u32 = 1;

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Handle {
    /// An image is being pulled.
    Pull {
        /// How often somebody has looked at it.
        looks: u32,
    },
    /// The engine is removing the container.
    Removal,
}

impl Handle {
    pub(crate) fn write(self) -> Result<Vec<u8>> {
        handle::write(VERSION, &self)
    }

    /// None where another version wrote it, or nobody.
    pub(crate) fn read(bytes: Option<&[u8]>) -> Option<Self> {
        handle::read(VERSION, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever changes these changes what is stored in databases: a new form needs a new version and a new folder.
    #[test]
    fn handles_of_this_version_are_written_and_read_as_they_were() {
        for (golden, handle) in [
            (&include_bytes!("../handles/1/create-pull")[..], Handle::Pull { looks: 3 }),
            (include_bytes!("../handles/1/delete-removal"), Handle::Removal),
        ] {
            assert_eq!(handle.write().unwrap(), golden);
            assert_eq!(Handle::read(Some(golden)), Some(handle));
        }
    }

    #[test]
    fn handles_of_other_versions_are_none() {
        for other in [
            &include_bytes!("../handles/0/create-pull")[..],
            include_bytes!("../handles/0/delete-removal"),
            include_bytes!("../handles/newer/create-pull"),
            include_bytes!("../handles/newer/delete-removal"),
        ] {
            assert_eq!(Handle::read(Some(other)), None);
        }
    }
}
