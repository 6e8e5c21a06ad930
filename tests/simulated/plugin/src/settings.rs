//! The controller's configuration, and a session's own settings for this backend.

use serde::Deserialize;
use streamspace_sdk::{Error, ErrorExt as _, Result, host};

/// JSON Schema of the configuration.
pub(crate) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "Simulated controller",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "max_sessions": {
      "description": "Sessions that this controller takes at most; 0 = as many as the infrastructure has room for.",
      "type": "integer", "minimum": 0, "maximum": 10000000, "default": 0
    }
  }
}"#;

/// The configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) max_sessions: u32,
}

impl Settings {
    pub(crate) fn parse(config: &str) -> Result<Self> {
        host::parse_config(config)
    }

    pub(crate) fn load() -> Result<Self> {
        host::config()
    }
}

/// What a session's `controller_config` may say to this backend: nothing, and what it says in vain is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {}

/// Refuses settings that would have no effect.
pub(crate) fn check_options(json: &str) -> Result<()> {
    serde_json::from_str(json)
        .map(|Options {}| ())
        .map_err(|error| Error::invalid("controller_config", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_named() {
        assert_eq!(Settings::parse(r#"{"max_sessions": 5}"#).unwrap().max_sessions, 5);
        assert!(Settings::parse(r#"{"max": 5}"#).unwrap_err().message.contains("max"));
        check_options("{}").unwrap();
        let error = check_options(r#"{"command": []}"#).unwrap_err();
        assert!(error.field.as_deref() == Some("controller_config") && error.message.contains("command"));
    }
}
