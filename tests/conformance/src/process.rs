//! A controller in the same process: what only there can be done to it.

use async_trait::async_trait;
use serde_json::Value;
use streamspace_shell::Transport;

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRefusal {
    /// What was said, with the path of the setting.
    pub message: String,
}

/// The process around the controller under test.
#[async_trait]
pub trait Process: Send + Sync {
    /// Empties the controller's cache (`state`), as a restart would.
    fn wipe_state(&self);

    /// A second controller over the same backend and with the same identity, which remembers nothing.
    async fn fresh(&self) -> Result<Transport, String>;

    /// Tries a configuration: none when it is accepted.
    async fn try_config(&self, config: Value) -> Option<ConfigRefusal>;

    /// JSON Schema of the configuration.
    fn config_schema(&self) -> Value;

    /// Imports of the plugin that its manifest does not ask for; empty = none.
    fn undeclared_imports(&self) -> Vec<String>;

    /// File descriptors that this process has open.
    fn open_files(&self) -> Option<usize> {
        std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
    }
}
