//! `streamspace plugin check`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;
use streamspace_conformance::{
    DockerFixture, Fixture, Format, InProcess, Options, Recipe, RecordedHandle, Runner, SimulatedFixture,
    Target, Variation,
};
use streamspace_proto::controller::v1::{Port, ResourceRequirements, SessionSpec};
use streamspace_runtime::{BackendConfig, EndpointConfig, EndpointKind, Plugin, Runtime, RuntimeConfig};

use crate::print;
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

    /// Image of the sessions; it has to be on the backend, and to serve HTTP
    #[arg(long, value_name = "IMAGE")]
    image: String,

    /// Port on which the image serves HTTP
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    port: u16,

    /// The image writes a line to its log every few seconds
    #[arg(long)]
    talks: bool,

    /// Folder with handles that other versions of the plugin gave: <version>/<verb>[-…], the verb being one of create,
    /// delete, hibernate, wake
    #[arg(long, value_name = "DIR")]
    handles: Option<PathBuf>,

    /// Run only checks with this in their id
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,

    /// Whatever is left to chance derives from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Checks at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    concurrency: usize,

    /// Seconds that a backend may take for one step
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,

    /// Form of the report: text, json or junit
    #[arg(long, value_name = "FORM", default_value_t = Format::Text)]
    report: Format,

    /// Write the report to a file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Loads and binds the plugin, runs the suite, and reports.
pub(super) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime
        .load_file(&args.file)
        .await
        .with_context(|| format!("{} is no plugin to be served", args.file.display()))?;
    let target = target(plugin, &args).await?;
    let patience = Duration::from_secs(args.patience.max(1));
    let options = Options {
        filter: args.filter.clone(),
        seed: args.seed,
        concurrency: args.concurrency,
        patience,
        limit: patience * 5,
    };
    let report = Runner::new(target, options).run().await?;
    let text = report
        .render(args.report)
        .map_err(|reason| anyhow::anyhow!("the report cannot be written as {}: {reason}", args.report))?;
    match &args.out {
        Some(file) => {
            std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
        }
        None => print::even_unread(print::text(&text))?,
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
                DockerFixture::start(&engine, &config.controller_id, &args.image).await.with_context(
                    || format!("the engine at {engine} cannot be used with the image {}", args.image),
                )?;
            let endpoint = EndpointConfig::of_kind(EndpointKind::Docker, &fixture.endpoint())
                .context("this host serves no Docker endpoints")?;
            config.endpoints.insert(asked.name.clone(), endpoint);
            (fixture.recipe(args.port, args.talks), Some(Arc::new(fixture)))
        }
        None if plugin.backend_type() == "simulated" => {
            let api = config.endpoints.get("api").context("--endpoint api=… is missing")?.to_string();
            let fixture = SimulatedFixture::start(&api, &config.controller_id, &args.image)
                .await
                .with_context(|| format!("the simulated infrastructure at {api} cannot be used"))?;
            (fixture.recipe(), Some(Arc::new(fixture)))
        }
        None => (plain_recipe(args), None),
    };
    let recipe = Recipe { handles, ..recipe };
    let process = Arc::new(InProcess::bind(plugin, config).await?);
    Ok(Target { transport: process.transport(), recipe, fixture, process: Some(process) })
}

/// A session on a backend of which nothing else is known.
fn plain_recipe(args: &CheckArgs) -> Recipe {
    let spec = SessionSpec {
        base_image: args.image.clone(),
        resources: Some(ResourceRequirements {
            memory: "512Mi".to_owned(),
            cpu: "1".to_owned(),
            storage: String::new(),
        }),
        ports: vec![Port {
            name: "web".to_owned(),
            container_port: args.port.into(),
            protocol: String::new(),
        }],
        ..Default::default()
    };
    let running = Variation { spec, controller_config: String::new() };
    Recipe { running, talks: args.talks, ..Default::default() }
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
