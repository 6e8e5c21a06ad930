//! The schema of a plugin's configuration. It is the plugin's own, and so not to be trusted with anybody's time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::error::BindError;

/// Bytes of a schema; some kilobytes are much already.
const MAX_SCHEMA: usize = 256 << 10;

/// Bytes that a compiled pattern may take.
const MAX_PATTERN: usize = 1 << 20;

/// Time for compiling a schema, and for looking at a configuration with it.
const TIME: Duration = Duration::from_secs(10);

/// A compiled schema. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Schema(Arc<Validator>);

impl Schema {
    /// Compiles the schema that a plugin has told. The error continues "its config-schema".
    pub(crate) async fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_SCHEMA {
            return Err(format!("has {} bytes, more than the {MAX_SCHEMA} that it may have", text.len()));
        }
        let text = text.to_owned();
        aside(move || compile(&text)).await?.map(|validator| Self(Arc::new(validator)))
    }

    /// Looks at a configuration.
    pub(crate) async fn check(&self, settings: &Value) -> Result<(), BindError> {
        let (schema, settings) = (self.clone(), settings.clone());
        aside(move || schema.first_error(&settings)).await.map_err(BindError::Schema)?
    }

    fn first_error(&self, settings: &Value) -> Result<(), BindError> {
        match self.0.iter_errors(settings).next() {
            None => Ok(()),
            Some(error) => Err(BindError::Config {
                path: error.instance_path().to_string().replace('/', "."),
                // Not the value itself: it may be a password that stands in the wrong place.
                message: error.masked_with("the value").to_string(),
            }),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

fn compile(text: &str) -> Result<Validator, String> {
    let schema: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    jsonschema::options()
        // Patterns that take linear time, and as much memory as is said.
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN))
        .build(&schema)
        .map_err(|error| format!("is not a JSON Schema: {error}"))
}

/// Work that must not hold up anybody else. It cannot be ended, but nobody waits for it for longer than a while.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(TIME, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => Err(format!("cannot be used: {panic}")),
        Err(_) => Err(format!("takes more than {} s", TIME.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn refused(schema: &str) -> String {
        Schema::compile(schema).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_schema_that_would_take_much_is_refused() {
        let long = format!(r#"{{"description": "{}"}}"#, "x".repeat(MAX_SCHEMA));
        assert!(refused(&long).await.contains("more than"));
        let pattern = json!({"type": "string", "pattern": "(?:(?:a{100}){100}){100}"}).to_string();
        let reason = refused(&pattern).await;
        assert!(reason.starts_with("is not a JSON Schema"), "{reason}");
        assert!(refused("{").await.starts_with("is not JSON"));
        assert!(refused(r#"{"type": "whatever"}"#).await.starts_with("is not a JSON Schema"));
    }

    #[tokio::test]
    async fn a_pattern_that_could_take_for_ever_is_refused_and_others_are_looked_at() {
        let with = |pattern: &str| json!({"properties": {"a": {"pattern": pattern}}}).to_string();
        let reason = refused(&with(r"^(a+)+\1$")).await;
        assert!(reason.starts_with("is not a JSON Schema"), "{reason}");
        let schema = Schema::compile(&with("^(a+)+$")).await.unwrap();
        assert!(schema.check(&json!({"a": "aa"})).await.is_ok());
        let error = schema.check(&json!({"a": "ab"})).await.unwrap_err();
        assert!(matches!(&error, BindError::Config { path, .. } if path == ".a"), "{error:?}");
    }
}
