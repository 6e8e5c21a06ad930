//! Log lines of plugins.

use std::fmt::Write as _;

use streamspace_bindings::imports::log::{Host, Level};

use crate::call::CallState;

/// Characters of one line that are kept; a plugin cannot flood the log with one line.
const MAX_LINE: usize = 4096;

/// Lines of one call that are kept. Who says more than that has gone astray.
const MAX_LINES: u32 = 1000;

impl Host for CallState {
    fn write(&mut self, level: Level, message: String, fields: Vec<(String, String)>) {
        let plugin = self.context.plugin.as_str();
        let controller = self.context.controller_id.as_str();
        self.log_lines = self.log_lines.saturating_add(1);
        if self.log_lines > MAX_LINES {
            if self.log_lines == MAX_LINES + 1 {
                tracing::warn!(target: "plugin", plugin, controller, "further lines of this call are left out");
            }
            return;
        }
        let line = one_line(&message, &fields);
        match level {
            Level::Trace => tracing::trace!(target: "plugin", plugin, controller, "{line}"),
            Level::Debug => tracing::debug!(target: "plugin", plugin, controller, "{line}"),
            Level::Info => tracing::info!(target: "plugin", plugin, controller, "{line}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, controller, "{line}"),
            Level::Error => tracing::error!(target: "plugin", plugin, controller, "{line}"),
        }
    }
}

/// One line whatever the plugin wrote: a line break could fake an entry of somebody else.
fn one_line(message: &str, fields: &[(String, String)]) -> String {
    let mut line = beginning(message);
    for (key, value) in fields {
        if line.len() >= MAX_LINE {
            break;
        }
        // Cut before it is quoted, which makes some characters many times longer.
        // Writing to a text cannot fail.
        let _ = write!(line, " {}={:?}", beginning(key), beginning(value));
    }
    line.chars().take(MAX_LINE).map(|c| if breaks_a_line(c) { ' ' } else { c }).collect()
}

fn beginning(text: &str) -> String {
    text.chars().take(MAX_LINE).collect()
}

/// Control characters, and what else begins a line or changes the direction of reading.
fn breaks_a_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_and_has_an_end() {
        let field = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(one_line("a\nb", &[field("k\r", "v\u{2028}w")]), r#"a b k ="v\u{2028}w""#);
        assert_eq!(one_line("\u{2029}\u{202e}x", &[]), "  x");
        let long = "\u{1}".repeat(MAX_LINE * 2);
        assert_eq!(one_line("m", &[field("k", &long), field("k", &long)]).chars().count(), MAX_LINE);
        assert_eq!(one_line(&"ä".repeat(MAX_LINE * 2), &[]).chars().count(), MAX_LINE);
    }
}
