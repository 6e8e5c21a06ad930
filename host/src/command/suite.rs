//! Runs of the conformance suite, whatever is judged.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use streamspace_conformance::{Format, Options, Recipe, Runner, Target, Variation};
use streamspace_proto::controller::v1::{Port, ResourceRequirements, SessionSpec};

use crate::print;

/// What sessions are made of.
#[derive(Debug, Args)]
pub(super) struct RecipeArgs {
    /// Image of the sessions; it has to be on the backend, and to serve HTTP
    #[arg(long, value_name = "IMAGE")]
    pub(super) image: String,

    /// Port on which the image serves HTTP
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    pub(super) port: u16,

    /// The image writes a line to its log every few seconds
    #[arg(long)]
    pub(super) talks: bool,
}

impl RecipeArgs {
    /// A session on a backend of which nothing else is known.
    pub(super) fn plain(&self) -> Recipe {
        let spec = SessionSpec {
            base_image: self.image.clone(),
            resources: Some(ResourceRequirements {
                memory: "512Mi".to_owned(),
                cpu: "1".to_owned(),
                storage: String::new(),
            }),
            ports: vec![Port {
                name: "web".to_owned(),
                container_port: self.port.into(),
                protocol: String::new(),
            }],
            ..Default::default()
        };
        let running = Variation { spec, controller_config: String::new() };
        Recipe { running, talks: self.talks, ..Default::default() }
    }
}

/// How the suite is run, and what becomes of its report.
#[derive(Debug, Args)]
pub(super) struct SuiteArgs {
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

impl SuiteArgs {
    /// Judges a target, and reports.
    pub(super) async fn judge(&self, target: Target) -> anyhow::Result<ExitCode> {
        let patience = Duration::from_secs(self.patience.max(1));
        let options = Options {
            filter: self.filter.clone(),
            seed: self.seed,
            concurrency: self.concurrency,
            patience,
            limit: patience * 5,
        };
        let report = Runner::new(target, options).run().await?;
        let text = report
            .render(self.report)
            .map_err(|reason| anyhow::anyhow!("the report cannot be written as {}: {reason}", self.report))?;
        match &self.out {
            Some(file) => {
                std::fs::write(file, text)
                    .with_context(|| format!("{} cannot be written", file.display()))?;
            }
            None => print::even_unread(print::text(&text))?,
        }
        Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
