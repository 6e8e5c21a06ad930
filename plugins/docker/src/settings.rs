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
    },
    "registries": {
      "description": "Registries, as image references name them, whose login the secret `registry` has.",
      "type": "array", "items": { "type": "string", "minLength": 1 }, "maxItems": 100, "default": []
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
    pub(crate) registries: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_sessions: 0, pids: 4096, shm_mib: 256, registries: Vec::new() }
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
    /// User (and group) instead of the image's.
    pub(crate) user: Option<String>,
    /// Whether a small init is process 1; without it an image brings its own. On by default.
    pub(crate) init: Option<bool>,
    /// Graphics processors.
    pub(crate) gpus: u32,
    /// What holds a Windows container apart from its machine.
    pub(crate) isolation: Option<Isolation>,
    /// Health check instead of the image's.
    pub(crate) health_check: Option<HealthCheck>,
}

/// Isolation of Windows containers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Isolation {
    Process,
    HyperV,
}

impl Isolation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::HyperV => "hyperv",
        }
    }
}

/// A command that the engine runs in the container from time to time; it is healthy when that ends with 0.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthCheck {
    /// The command and its arguments.
    pub(crate) command: Vec<String>,
    /// Milliseconds between two runs.
    #[serde(default = "HealthCheck::interval")]
    pub(crate) interval_ms: u32,
    /// Milliseconds one run may take.
    #[serde(default = "HealthCheck::timeout")]
    pub(crate) timeout_ms: u32,
    /// Failures in a row that make it unhealthy.
    #[serde(default = "HealthCheck::retries")]
    pub(crate) retries: u32,
    /// Milliseconds in which failures do not count.
    #[serde(default)]
    pub(crate) start_period_ms: u32,
}

impl HealthCheck {
    fn interval() -> u32 {
        30_000
    }

    fn timeout() -> u32 {
        30_000
    }

    fn retries() -> u32 {
        3
    }
}

/// Where a session's settings are in the request.
pub(crate) const OPTIONS: &str = "controller_config";

impl Options {
    pub(crate) fn parse(json: &str) -> Result<Self> {
        let mut parser = serde_json::Deserializer::from_str(json);
        let options: Self = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
            let field = match error.path().to_string().as_str() {
                "." | "?" => OPTIONS.to_owned(),
                path => format!("{OPTIONS}.{path}"),
            };
            Error::invalid(field, error.into_inner().to_string())
        })?;
        let wrong = |field: &str, message: &str| Err(Error::invalid(format!("{OPTIONS}.{field}"), message));
        if options.command.as_ref().is_some_and(Vec::is_empty) {
            return wrong("command", "must not be empty");
        }
        if options.user.as_ref().is_some_and(String::is_empty) {
            return wrong("user", "must not be empty");
        }
        if let Some(check) = &options.health_check {
            // The engine takes 0 for its own default, and refuses less than a millisecond.
            if check.command.is_empty() {
                return wrong("health_check.command", "must not be empty");
            }
            if check.interval_ms == 0 {
                return wrong("health_check.interval_ms", "must be at least 1");
            }
            if check.timeout_ms == 0 {
                return wrong("health_check.timeout_ms", "must be at least 1");
            }
        }
        Ok(options)
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
            (settings.max_sessions, settings.pids, settings.shm_mib, settings.registries),
            (built_in.max_sessions, built_in.pids, built_in.shm_mib, built_in.registries)
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path() {
        for (json, field) in [
            (r#"{"isolation": "none"}"#, "controller_config.isolation"),
            (r#"{"gpus": -1}"#, "controller_config.gpus"),
            (r#"{"command": []}"#, "controller_config.command"),
            (r#"{"command": ["a", 1]}"#, "controller_config.command[1]"),
            (r#"{"user": ""}"#, "controller_config.user"),
            (
                r#"{"health_check": {"command": ["a"], "interval_ms": "x"}}"#,
                "controller_config.health_check.interval_ms",
            ),
            (
                r#"{"health_check": {"command": ["a"], "timeout_ms": 0}}"#,
                "controller_config.health_check.timeout_ms",
            ),
            (r#"{"health_check": {"command": []}}"#, "controller_config.health_check.command"),
            ("1", "controller_config"),
        ] {
            assert_eq!(Options::parse(json).unwrap_err().field.as_deref(), Some(field), "{json}");
        }
        let error = Options::parse(r#"{"privileged": true}"#).unwrap_err();
        assert!(error.field.is_some_and(|field| field.starts_with(OPTIONS)));
        assert!(error.message.contains("privileged"));
    }

    #[test]
    fn what_is_left_out_is_the_engines_usual() {
        let options =
            Options::parse(r#"{"isolation": "hyperv", "health_check": {"command": ["true"]}}"#).unwrap();
        assert_eq!(options.isolation, Some(Isolation::HyperV));
        assert_eq!(options.health_check.unwrap().interval_ms, 30_000);
        assert_eq!((options.gpus, options.init, options.command), (0, None, None));
    }
}
