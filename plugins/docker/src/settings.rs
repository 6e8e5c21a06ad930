//! The controller's configuration, and a session's own settings for this backend.

use serde::Deserialize;
use streamspace_sdk::{Error, ErrorExt as _, Result, host};

/// JSON Schema of the configuration.
pub(crate) const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "Docker controller",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "max_sessions": {
      "description": "Sessions that this controller takes at most; 0 = no limit of its own.",
      "type": "integer", "minimum": 0, "maximum": 100000, "default": 0
    },
    "pids": {
      "description": "Processes and threads that a session may have.",
      "type": "integer", "minimum": 16, "maximum": 4194304, "default": 4096
    },
    "shm_mib": {
      "description": "MiB of shared memory (/dev/shm) of a session. Browsers need more than the engine's 64.",
      "type": "integer", "minimum": 1, "maximum": 65536, "default": 256
    }
  }
}"#;

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) max_sessions: u32,
    pub(crate) pids: u32,
    pub(crate) shm_mib: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_sessions: 0, pids: 4096, shm_mib: 256 }
    }
}

impl Settings {
    pub(crate) fn parse(config: &str) -> Result<Self> {
        host::parse_config(config)
    }

    pub(crate) fn load() -> Result<Self> {
        host::config()
    }
}

/// What a session's `controller_config` may say to this backend.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Options {
    /// Command and arguments instead of the image's.
    pub(crate) command: Option<Vec<String>>,
}

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|error| Error::invalid("controller_config", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_and_the_settings_agree_on_names_and_defaults() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let defaults: serde_json::Map<_, _> = schema["properties"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, property)| (name.clone(), property["default"].clone()))
            .collect();
        let settings = Settings::parse(&serde_json::Value::Object(defaults).to_string()).unwrap();
        let built_in = Settings::default();
        assert_eq!(
            (settings.max_sessions, settings.pids, settings.shm_mib),
            (built_in.max_sessions, built_in.pids, built_in.shm_mib)
        );
    }

    #[test]
    fn unknown_options_are_named() {
        let error = Options::parse(r#"{"privileged": true}"#).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("controller_config"));
        assert!(error.message.contains("privileged"));
    }
}
