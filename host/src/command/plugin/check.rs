//! `streamspace plugin check`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;
use streamspace_conformance::{
    DockerFixture, Fixture, InProcess, Recipe, RecordedHandle, SimulatedFixture, Target,
};
use streamspace_runtime::{BackendConfig, EndpointConfig, EndpointKind, Plugin, Runtime, RuntimeConfig};

use crate::command::suite::{RecipeArgs, SuiteArgs};
use crate::targets::{self, Named};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The plugin (*.wasm)
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Target of an endpoint that the plugin asks for, e.g. engine=unix:///var/run/docker.sock
    /// [default: DOCKER_HOST for Docker, else the usual place that the plugin names]
    #[arg(long = "endpoint", value_name = "NAME=TARGET")]
    endpoints: Vec<Named>,

    /// File with a secret that the plugin asks for
    #[arg(long = "secret", value_name = "NAME=FILE")]
    secrets: Vec<Named>,

    /// Settings of the plugin: a JSON object, or @ and the name of a file with one
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,

    #[command(flatten)]
    recipe: RecipeArgs,

    /// Folder with handles that other versions of the plugin gave: <version>/<verb>[-…], the verb being one of create,
    /// delete, hibernate, wake
    #[arg(long, value_name = "DIR")]
    handles: Option<PathBuf>,

    #[command(flatten)]
    suite: SuiteArgs,
}

/// Loads and binds the plugin, runs the suite, and reports.
pub(super) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime
        .load_file(&args.file)
        .await
        .with_context(|| format!("{} is no plugin to be served", args.file.display()))?;
    let target = target(plugin, &args).await?;
    args.suite.judge(target).await
}

/// The plugin behind a shell, with a fixture where there is one for its kind of backend.
async fn target(plugin: Plugin, args: &CheckArgs) -> anyhow::Result<Target> {
    // Before a fixture changes anything.
    let handles = match &args.handles {
        Some(folder) => RecordedHandle::below(folder).context("--handles")?,
        None => Vec::new(),
    };
    let mut config = BackendConfig {
        // Of no other run: what it makes can be told from everything else.
        controller_id: format!("check-{:x}-{:x}", std::process::id(), now_ms()),
        config: settings(args.config.as_deref())?,
        endpoints: targets::endpoints(plugin.manifest(), &args.endpoints)?,
        secrets: targets::secrets(&args.secrets),
        ..Default::default()
    };
    let docker = plugin.manifest().endpoints.iter().find(|asked| asked.kind == EndpointKind::Docker);
    let (recipe, fixture): (Recipe, Option<Arc<dyn Fixture>>) = match docker {
        Some(asked) => {
            let engine = config
                .endpoints
                .get(&asked.name)
                .with_context(|| format!("--endpoint {}=… is missing", asked.name))?
                .to_string();
            let fixture =
                DockerFixture::start(&engine, &config.controller_id, &args.recipe.image).await.with_context(
                    || format!("the engine at {engine} cannot be used with the image {}", args.recipe.image),
                )?;
            let endpoint = EndpointConfig::of_kind(EndpointKind::Docker, &fixture.endpoint())
                .context("this host serves no Docker endpoints")?;
            config.endpoints.insert(asked.name.clone(), endpoint);
            (fixture.recipe(args.recipe.port, args.recipe.talks), Some(Arc::new(fixture)))
        }
        None if plugin.backend_type() == "simulated" => {
            let api = config.endpoints.get("api").context("--endpoint api=… is missing")?.to_string();
            let fixture = SimulatedFixture::start(&api, &config.controller_id, &args.recipe.image)
                .await
                .with_context(|| format!("the simulated infrastructure at {api} cannot be used"))?;
            (fixture.recipe(), Some(Arc::new(fixture)))
        }
        None => (args.recipe.plain(), None),
    };
    let recipe = Recipe { handles, ..recipe };
    let process = Arc::new(InProcess::bind(plugin, config).await?);
    Ok(Target { transport: process.transport(), recipe, fixture, process: Some(process) })
}

fn settings(given: Option<&str>) -> anyhow::Result<Value> {
    let Some(given) = given else { return Ok(Value::Null) };
    let text = match given.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("--config: {file} cannot be read"))?
        }
        None => given.to_owned(),
    };
    match serde_json::from_str(&text).context("--config is no JSON")? {
        object @ Value::Object(_) => Ok(object),
        _ => bail!("--config must be a JSON object"),
    }
}

fn now_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_an_object_or_a_file_with_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"pids": 64}"#).unwrap();
        let name = format!("@{}", file.path().display());
        assert_eq!(settings(Some(&name)).unwrap()["pids"], 64);
        assert_eq!(settings(Some("{}")).unwrap(), serde_json::json!({}));
        assert_eq!(settings(None).unwrap(), Value::Null);
        assert!(settings(Some("[]")).is_err());
        assert!(settings(Some("@/no/such/file")).is_err());
    }
}
