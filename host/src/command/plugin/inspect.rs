//! `streamspace plugin inspect`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use streamspace_runtime::{Plugin, Runtime, RuntimeConfig};

use crate::output::Output;
use crate::print;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The plugin (*.wasm)
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What there is to know of a plugin.
#[derive(Debug, Serialize)]
struct Description {
    name: String,
    version: String,
    /// The type of controller it makes.
    r#type: String,
    /// The contract it is written for.
    api: String,
    /// SHA-256 of the file.
    digest: String,
    imports: Vec<String>,
    endpoints: Vec<Endpoint>,
    secrets: Vec<Secret>,
    /// What it needs at least, where that is more than usual.
    limits: Limits,
    /// JSON Schema of its configuration.
    config_schema: Value,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    name: String,
    kind: &'static str,
    description: String,
    default: Option<String>,
}

#[derive(Debug, Serialize)]
struct Secret {
    name: String,
    description: String,
}

#[derive(Debug, Serialize)]
struct Limits {
    memory: Option<String>,
    cpu_ms: Option<u64>,
    calls: Option<u32>,
}

impl Description {
    fn of(plugin: &Plugin) -> anyhow::Result<Self> {
        let manifest = plugin.manifest();
        Ok(Self {
            name: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            r#type: plugin.backend_type().to_owned(),
            api: manifest.plugin.api.clone(),
            digest: plugin.digest().to_string(),
            imports: plugin.imports().to_vec(),
            endpoints: manifest
                .endpoints
                .iter()
                .map(|endpoint| Endpoint {
                    name: endpoint.name.clone(),
                    kind: endpoint.kind.key(),
                    description: endpoint.description.clone(),
                    default: endpoint.default.clone(),
                })
                .collect(),
            secrets: manifest
                .secrets
                .iter()
                .map(|secret| Secret { name: secret.name.clone(), description: secret.description.clone() })
                .collect(),
            limits: Limits {
                memory: manifest.limits.memory.map(|memory| memory.to_string()),
                cpu_ms: manifest.limits.cpu_ms,
                calls: manifest.limits.calls,
            },
            config_schema: serde_json::from_str(plugin.config_schema())
                .context("its config-schema is not JSON")?,
        })
    }

    fn table(&self) -> String {
        let mut lines = vec![
            row("name", &self.name),
            row("version", &self.version),
            row("type", &self.r#type),
            row("api", &self.api),
            row("digest", &format!("sha256:{}", self.digest)),
        ];
        for endpoint in &self.endpoints {
            let default = endpoint.default.as_ref().map(|default| format!(", usually {default}"));
            let text = format!("{} ({}{})", endpoint.name, endpoint.kind, default.unwrap_or_default());
            lines.push(row("endpoint", &with_description(text, &endpoint.description)));
        }
        for secret in &self.secrets {
            lines.push(row("secret", &with_description(secret.name.clone(), &secret.description)));
        }
        let Limits { memory, cpu_ms, calls } = &self.limits;
        let limits = [
            memory.as_ref().map(|memory| format!("memory {memory}")),
            cpu_ms.map(|ms| format!("processor time {ms} ms")),
            calls.map(|calls| format!("{calls} mutations at once")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        let all = limits.join(", ");
        lines.push(row("limits", if limits.is_empty() { "as usual" } else { &all }));
        lines.extend(self.imports.iter().map(|import| row("import", import)));
        let settings = self.config_schema["properties"].as_object().into_iter().flatten();
        for (name, property) in settings {
            let text = format!("{name} ({})", property["type"].as_str().unwrap_or("any"));
            let description = property["description"].as_str().unwrap_or_default();
            lines.push(row("setting", &with_description(text, description)));
        }
        lines.concat()
    }
}

fn row(key: &str, value: &str) -> String {
    // What a plugin says of itself is not to move the cursor.
    format!("{key:10}{}\n", value.replace(char::is_control, " "))
}

fn with_description(text: String, description: &str) -> String {
    if description.is_empty() { text } else { format!("{text}: {description}") }
}

/// Loads the plugin and prints what it is.
pub(super) async fn run(args: InspectArgs) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime
        .load_file(&args.file)
        .await
        .with_context(|| format!("{} is no plugin to be served", args.file.display()))?;
    let description = Description::of(&plugin)?;
    let text = match args.output {
        Output::Table => description.table(),
        Output::Json => serde_json::to_string_pretty(&description)? + "\n",
    };
    print::text(&text)?;
    Ok(ExitCode::SUCCESS)
}
