//! Reading and setting quotas.

use crate::domain::{Limits, QuotaOverride, Usage};

/// How a user stands with their quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaState {
    /// The user.
    pub user_id: String,
    /// What applies to them.
    pub limits: Limits,
    /// What was set for them alone.
    pub set: QuotaOverride,
    /// What their sessions take.
    pub used: Usage,
}
