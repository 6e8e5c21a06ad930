//! A plugin behind a shell in this process.

use async_trait::async_trait;
use serde_json::Value;
use streamspace_runtime::{Backend, BackendConfig, BindError, Manifest, Plugin};
use streamspace_shell::{Shell, Transport};

use crate::process::{ConfigRefusal, Process};

/// A plugin that was bound to a backend, and a shell over it.
pub struct InProcess {
    plugin: Plugin,
    config: BackendConfig,
    backend: Backend,
}

impl InProcess {
    /// Binds a plugin.
    ///
    /// # Errors
    ///
    /// When the configuration is refused.
    pub async fn bind(plugin: Plugin, config: BackendConfig) -> Result<Self, BindError> {
        let backend = Backend::bind(plugin.clone(), config.clone()).await?;
        Ok(Self { plugin, config, backend })
    }

    /// The way to the shell.
    pub fn transport(&self) -> Transport {
        Shell::new(self.backend.clone()).into_transport()
    }
}

#[async_trait]
impl Process for InProcess {
    fn wipe_state(&self) {
        self.backend.wipe_state();
    }

    async fn fresh(&self) -> Result<Transport, String> {
        let backend = Backend::bind(self.plugin.clone(), self.config.clone())
            .await
            .map_err(|error| error.to_string())?;
        Ok(Shell::new(backend).into_transport())
    }

    async fn try_config(&self, config: Value) -> Option<ConfigRefusal> {
        let config = BackendConfig { config, ..self.config.clone() };
        let refused = Backend::bind(self.plugin.clone(), config).await.err()?;
        Some(ConfigRefusal { message: refused.to_string() })
    }

    fn config_schema(&self) -> Value {
        // It was parsed when the plugin was loaded.
        serde_json::from_str(self.plugin.config_schema()).unwrap_or_default()
    }

    fn undeclared_imports(&self) -> Vec<String> {
        self.plugin
            .imports()
            .iter()
            .filter(|import| !is_declared(import, self.plugin.manifest()))
            .cloned()
            .collect()
    }
}

/// Whether a manifest asks for what is imported, seen independently of the loader.
fn is_declared(import: &str, manifest: &Manifest) -> bool {
    const WASI: &[&str] = &["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/"];
    let Some(interface) = import.strip_prefix("streamspace:backend/") else {
        return WASI.iter().any(|prefix| import.starts_with(prefix));
    };
    match interface.split('@').next().unwrap_or_default() {
        "types" | "config" | "state" | "log" => true,
        "secret" => !manifest.secrets.is_empty(),
        kind => manifest.endpoints.iter().any(|endpoint| endpoint.kind.key() == kind),
    }
}
