//! How many there are of everything: for whoever watches the server.

/// Counts at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Census {
    /// Sessions by phase and wish (`running`, `hibernated`, `terminated` or `deleted`).
    pub sessions: Vec<(String, String, u32)>,
    /// Objects that no session explains, by what is to become of them (`found`, `ignored` or `deleting`).
    pub drift: Vec<(String, u32)>,
    /// Controllers whose last listing is not believed.
    pub drift_alarms: u32,
    /// Operations that are not settled.
    pub operations_unsettled: u32,
    /// Operations whose next step is due and that nobody works on.
    pub operations_due: u32,
    /// How long the longest of those has been due, in seconds.
    pub oldest_due_seconds: f64,
}
