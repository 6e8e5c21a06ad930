//! `streamspace plugin …`: looking at plugins, in files and in a server.

mod check;
mod inspect;
mod ls;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use crate::telemetry;

/// What can be done with a plugin.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins of a running server: what serves, what does not, and why.
    Ls(ls::LsArgs),
    /// Show what a plugin is and what it asks for.
    Inspect(inspect::InspectArgs),
    /// Run the conformance suite on a plugin and a real backend.
    ///
    /// The plugin is loaded into this process and bound under a controller id of its own, so that nothing else on the
    /// backend is touched. Everything that the checks make is removed. The exit code is 0 when no check failed. What
    /// cannot be checked on this backend is reported as not applicable, with the reason. docs/conformance.md says what
    /// each check means.
    Check(check::CheckArgs),
}

/// Runs a command.
pub(crate) fn run(command: PluginCommand) -> anyhow::Result<ExitCode> {
    telemetry::init("warn")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime does not start")?;
    match command {
        PluginCommand::Ls(args) => runtime.block_on(ls::run(args)),
        PluginCommand::Inspect(args) => runtime.block_on(inspect::run(args)),
        PluginCommand::Check(args) => runtime.block_on(check::run(args)),
    }
}
