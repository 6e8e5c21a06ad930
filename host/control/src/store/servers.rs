//! Servers that share a database: their places, and who drives which controller.

use std::time::Duration;

use crate::domain::{ControllerId, Epoch};

/// What a server sees of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outlook {
    /// In what time the next lease of another server ends, unless that one renews it; absent = there is no other.
    pub next_end: Option<Duration>,
    /// Nobody drives one of the controllers asked for.
    pub vacant: bool,
}

/// What a server took over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Succession {
    /// Servers whose leases were over: they are not among the servers any more, and what they had claimed is free.
    pub ended: Vec<String>,
    /// Controllers that the server drives from now on, and under which epoch.
    pub taken: Vec<(ControllerId, Epoch)>,
}
