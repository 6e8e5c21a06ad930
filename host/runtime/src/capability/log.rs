//! Log lines of plugins.

use streamspace_bindings::imports::log::{Host, Level};

use crate::call::CallState;

/// Characters of one line that are kept; a plugin cannot flood the log with one call.
const MAX_LINE: usize = 4096;

impl Host for CallState {
    fn write(&mut self, level: Level, message: String, fields: Vec<(String, String)>) {
        let plugin = self.context.plugin.as_str();
        let controller = self.context.controller_id.as_str();
        let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value:?}")).collect();
        // One line whatever the plugin wrote: a line break could fake an entry of somebody else.
        let line: String = message
            .chars()
            .chain(fields.chars())
            .take(MAX_LINE)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match level {
            Level::Trace => tracing::trace!(target: "plugin", plugin, controller, "{line}"),
            Level::Debug => tracing::debug!(target: "plugin", plugin, controller, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, controller, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, controller, "{line}"),
            Level::Error => tracing::error!(target: "plugin", plugin, controller, "{line}"),
        }
    }
}
