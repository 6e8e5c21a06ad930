//! The simulated infrastructure and the server over it, which dies and is started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use streamspace_tests::provided;
use streamspace_tests::server::{Installation, Server};
use streamspace_tests::simulated::Simulated;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::driver::Driver;
use crate::operator::Vault;
use crate::points::Moment;

/// The controller of the load.
pub(crate) const MAIN: &str = "simulated-local";
/// Its label: the load keeps to it.
pub(crate) const FLOOR: &str = "users";
/// The controller that operators remove. It comes back whenever a server starts.
pub(crate) const SPARE: &str = "simulated-spare";

/// A server that has not come to its point by then is killed where it is. Limits in time it looks at every five seconds.
const PATIENCE: Duration = Duration::from_secs(6);
/// One that is asked to stop serves so long before.
const SERVES: Duration = Duration::from_millis(150);
/// How often a dying server is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Everything but the load.
pub(crate) struct Stage {
    pub(crate) simulated: Arc<Simulated>,
    installation: Installation,
    plugins: TempDir,
}

impl Stage {
    /// None where something is missing; a line said what.
    pub(crate) async fn new() -> Option<Self> {
        let plugin = provided("STREAMSPACE_TEST_SIMULATED_PLUGIN")?;
        let simulated = Arc::new(Simulated::start()?);
        let plugins = tempfile::tempdir().ok()?;
        std::fs::copy(plugin, plugins.path().join("simulated.wasm")).ok()?;
        let config = config(&simulated);
        let seen = plugins.path().join("seen");
        let installation = Installation::new()?
            .plugins(plugins.path())
            .config(&config)
            .environment("STREAMSPACE_LOG", "warn,streamspace=info")
            .environment("STREAMSPACE_FAILPOINTS_SEEN", &seen.display().to_string());
        Some(Self { simulated, installation, plugins })
    }

    /// How the infrastructure behaves from now on: changes always take a moment, so that kills come in the middle of
    /// them as well; with faults it also loses answers, refuses connections and fails.
    pub(crate) async fn weather(&self, seed: u64, faults: bool) {
        weather(&self.simulated, seed, faults).await;
    }

    /// Where the server writes the points it passes.
    pub(crate) fn seen(&self) -> PathBuf {
        self.plugins.path().join("seen")
    }

    /// The directory with everything the server keeps.
    pub(crate) fn data(&self) -> &Path {
        self.installation.data()
    }

    /// Its database.
    pub(crate) fn vault(&self) -> Vault {
        match self.installation.database_url() {
            Some(url) => Vault::Server(url.to_owned()),
            None => Vault::File(self.data().join("streamspace.db")),
        }
    }

    /// A server that nobody kills.
    pub(crate) fn start(&mut self) -> Result<Server> {
        match self.installation.try_start(None) {
            Ok(server) => Ok(server),
            Err(ended) => bail!("the server did not start ({}):\n{}", ended.status, ended.log),
        }
    }

    fn forget_token(&self) -> Result<()> {
        let file = self.data().join("admin.token");
        match std::fs::remove_file(&file) {
            // A server died before it had written it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("{} cannot be removed", file.display())),
        }
    }

    /// Lets the load have a server until that dies; whether it died where it should.
    pub(crate) async fn kill_at(&mut self, driver: &Driver, moment: &Moment) -> Result<bool> {
        if let Moment::At { point, .. } = moment
            && point.contains("token")
        {
            // Written at the first start, and its use once a minute: a server without its file makes a new one.
            self.forget_token()?;
        }
        let mut server = match self.installation.try_start(moment.wish().as_deref()) {
            Ok(server) => server,
            // On its way up.
            Err(ended) if ended.was_killed() => return Ok(true),
            Err(ended) => bail!("{moment:?}: the server ended otherwise ({}):\n{}", ended.status, ended.log),
        };
        driver.seek(match moment {
            Moment::At { point, .. } => point,
            Moment::After(_) => "",
        });
        driver.serve(Some(server.api()));
        let patience = match moment {
            Moment::At { .. } => PATIENCE,
            Moment::After(moment) => *moment,
        };
        // What is passed at the end of a server only needs one that is asked to stop.
        let is_asked = matches!(moment, Moment::At { point, .. } if point.ends_with(".leave"));
        if is_asked {
            tokio::time::sleep(SERVES).await;
            server.signal("TERM");
        }
        let deadline = Instant::now() + patience;
        let died = loop {
            if let Some(ended) = server.ended() {
                if is_asked && ended.status.success() {
                    driver.serve(None);
                    return Ok(false);
                }
                if !ended.was_killed() {
                    bail!("{moment:?}: the server ended otherwise ({}):\n{}", ended.status, ended.log);
                }
                break true;
            }
            if Instant::now() >= deadline {
                break false;
            }
            tokio::time::sleep(LOOK).await;
        };
        driver.serve(None);
        if !died {
            server.kill();
        }
        Ok(died)
    }
}

/// The configuration of a server with two controllers over the infrastructure: one for the load, and a spare one.
pub(crate) fn config(simulated: &Simulated) -> String {
    let controller = |name: &str, labels: &str| {
        format!(
            "[[controller]]\nname = \"{name}\"\nplugin = \"simulated\"\nlabels = {{ {labels} }}\n\
             config = {{ max_sessions = 100000 }}\n[controller.endpoints.api]\nhttp = \"unix://{}\"\n",
            simulated.socket().display()
        )
    };
    controller(MAIN, &format!("floor = \"{FLOOR}\"")) + &controller(SPARE, "")
}

/// How an infrastructure behaves: see [`Stage::weather`].
pub(crate) async fn weather(simulated: &Simulated, seed: u64, faults: bool) {
    // A creation takes so long that it is written down as accepted before its end is told, and ends before it is looked
    // at in turn.
    let settings = json!({"create_ms": 90, "start_ms": 10, "stop_ms": 10, "delete_ms": 5});
    let rules = if faults {
        json!([
            {"verb": "box.*", "probability": 0.02, "fault": "lost_reply"},
            {"verb": "box.*", "probability": 0.02, "fault": "refused"},
            {"verb": "box.*", "probability": 0.02, "fault": {"error": {"status": 503}}},
            {"verb": "home.*", "probability": 0.02, "fault": "lost_reply"},
            {"verb": "event", "probability": 0.1, "fault": "drop"},
        ])
    } else {
        json!([])
    };
    simulated.knobs(json!({"seed": seed, "settings": settings, "rules": rules})).await;
}

/// Keeps what is needed to find out what happened.
pub(crate) fn keep_evidence(simulated: &Simulated, data: Option<&Path>) -> Result<PathBuf> {
    let kept = std::env::temp_dir().join(format!("streamspace-crash-{}", std::process::id()));
    std::fs::create_dir_all(&kept)?;
    std::fs::copy(simulated.effects_file(), kept.join("effects.jsonl"))
        .context("the log of effects cannot be kept")?;
    for name in ["streamspace.db", "streamspace.db-wal"] {
        let Some(file) = data.map(|data| data.join(name)) else { continue };
        if file.exists() {
            std::fs::copy(&file, kept.join(name))?;
        }
    }
    Ok(kept)
}
