//! Reading the audit log.

use chrono::{DateTime, Utc};

/// Which entries of the audit log are asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Done by this user, or by this rule of the server.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// Done to what.
    pub target: Option<String>,
    /// Not before.
    pub since: Option<DateTime<Utc>>,
    /// Before.
    pub until: Option<DateTime<Utc>>,
}
