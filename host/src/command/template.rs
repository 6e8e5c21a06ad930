//! `streamspace template …`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::many::Many;
use super::{Remote, whole};
use crate::client::Page;
use crate::executor::on_one_thread;
use crate::table::{Table, fields};

mod apply;

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Make templates, or bring them to what files say.
    ///
    /// A file holds templates as the API takes them (JSON, or YAML) or Template objects as the earlier implementation had
    /// them on Kubernetes (YAML, several divided by ---). What becomes of each is told.
    #[command(after_help = "\
Examples:
  streamspace template apply templates/sample.json templates/desktop.yaml
  kubectl get templates.stream.space -A -o yaml | streamspace template apply -")]
    Apply(apply::ApplyArgs),

    /// List templates.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace template ls
  streamspace template ls --category Desktops --type docker
  streamspace template ls --search office --output json"
    )]
    Ls(LsArgs),

    /// Show one template.
    #[command(after_help = "\
Examples:
  streamspace template get desktop
  streamspace template get desktop --output json > desktop.json")]
    Get(GetArgs),

    /// Remove templates. Sessions made from them stay as they are.
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  streamspace template rm desktop sample"
    )]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,

    /// Only of this category
    #[arg(long)]
    category: Option<String>,

    /// Only with this tag
    #[arg(long)]
    tag: Option<String>,

    /// Only those that can run on controllers of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,

    /// Only desktop or webapp
    #[arg(long, value_name = "TYPE")]
    app_type: Option<String>,

    /// Only with this text in name, display name, description, category or tags
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    remote: Remote,

    /// The template
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    remote: Remote,

    /// The templates
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Template {
    name: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    category: String,
    #[serde(default)]
    app_type: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    images: serde_json::Map<String, Value>,
    #[serde(default)]
    compatible_controllers: Vec<String>,
    #[serde(default)]
    preferred_controller: Option<String>,
    #[serde(default)]
    spec: Value,
}

impl Template {
    /// Where it runs.
    fn runs_on(&self) -> String {
        if self.compatible_controllers.is_empty() {
            // Then it has to be its images that say so.
            let types: Vec<_> = self.images.keys().map(String::as_str).collect();
            return if types.is_empty() { "any".to_owned() } else { types.join(",") };
        }
        self.compatible_controllers.join(",")
    }
}

/// Runs a command.
pub(crate) fn run(command: TemplateCommand) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        match command {
            TemplateCommand::Apply(args) => apply::run(args).await,
            TemplateCommand::Ls(args) => ls(args).await,
            TemplateCommand::Get(args) => get(args).await,
            TemplateCommand::Rm(args) => rm(args).await,
        }
    })
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let filters = [
        ("category", &args.category),
        ("tag", &args.tag),
        ("controller_type", &args.kind),
        ("app_type", &args.app_type),
        ("search", &args.search),
    ];
    let query: Vec<_> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let items = client.all(&["templates"], &query).await?;
    let answer = whole(items);
    args.remote.print(&answer, || {
        let mut table = Table::new(["NAME", "DISPLAY NAME", "CATEGORY", "APP", "RUNS ON"]);
        for template in client.typed::<Page>(&answer)?.items {
            let template: Template = client.typed(&template)?;
            let runs_on = template.runs_on();
            let Template { name, display_name, category, app_type, .. } = template;
            table.row([name.into(), display_name.into(), category.into(), app_type.into(), runs_on.into()]);
        }
        Ok(table.render())
    })
}

async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = client.get(&["templates", &args.name]).await?;
    args.remote.print(&answer, || {
        let template: Template = client.typed(&answer)?;
        let runs_on = template.runs_on();
        let images = template.images.iter().map(|(kind, image)| {
            let image = image.as_str().unwrap_or_default();
            ("IMAGE", format!("{image} ({kind})").into())
        });
        let known = [
            ("NAME", template.name.into()),
            ("DISPLAY NAME", template.display_name.into()),
            ("DESCRIPTION", template.description.into()),
            ("CATEGORY", template.category.into()),
            ("TAGS", template.tags.join(",").into()),
            ("APP", template.app_type.into()),
            ("RUNS ON", runs_on.into()),
            ("PREFERS", template.preferred_controller.unwrap_or_default().into()),
        ];
        let mut text = fields(known.into_iter().chain(images));
        text.push_str(&format!("\n{:#}\n", template.spec));
        Ok(text)
    })
}

async fn rm(args: RmArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "name");
    for name in &args.names {
        match client.call(Method::DELETE, &["templates", name]).send().await {
            Ok(_) => many.done(name, json!({ "name": name, "deleted": true })),
            Err(error) => many.failed(name, &error.into()),
        }
    }
    many.finish()
}
