//! The simulated infrastructure, and a server over it that can be started again.

use anyhow::Result;
use serde_json::{Value, json};
use streamspace_tests::provided;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;
use tempfile::TempDir;

use super::Kind;

/// Both.
pub(super) struct Stage {
    pub(super) simulated: Simulated,
    pub(super) installation: Installation,
    _plugins: TempDir,
}

impl Stage {
    /// None where something is missing; a line said what.
    pub(super) fn new(database: Kind) -> Result<Option<Self>> {
        let (Some(plugin), Some(database)) =
            (provided("STREAMSPACE_TEST_SIMULATED_PLUGIN"), database.fresh())
        else {
            return Ok(None);
        };
        let plugins = tempfile::tempdir()?;
        std::fs::copy(plugin, plugins.path().join("simulated.wasm"))?;
        let (Some(simulated), Some(installation)) = (Simulated::start(), Installation::new()) else {
            return Ok(None);
        };
        let config = format!(
            "[[controller]]\nname = \"simulated-local\"\nplugin = \"simulated\"\n\
             config = {{ max_sessions = 10000000 }}\n\
             [controller.endpoints.api]\nhttp = \"unix://{}\"\n",
            simulated.socket().display()
        );
        let installation = installation.plugins(plugins.path()).config(&config).database(database);
        Ok(Some(Self { simulated, installation, _plugins: plugins }))
    }

    /// A server whose controller can be used.
    pub(super) async fn start(&self) -> Server {
        let server = self.installation.start();
        let api = server.api();
        streamspace_tests::until("a healthy controller", async || {
            let controllers = api.get("/api/v1/admin/controllers").await;
            let mut all = controllers.body.as_array().into_iter().flatten();
            all.any(|controller| controller["status"] == "healthy").then_some(())
        })
        .await;
        server
    }
}

/// What is asked for again and again.
pub(super) fn request() -> Value {
    json!({
        "user_id": "bench",
        "spec": { "base_image": "any", "resources": { "memory": "256Mi", "cpu": "500m" } },
    })
}
