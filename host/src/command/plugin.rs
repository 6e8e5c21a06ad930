//! `streamspace plugin …`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Remote;
use crate::executor::{on_all_processors, on_one_thread};
use crate::table::{Cell, Table, Tone};
use crate::telemetry;

mod check;
mod inspect;
mod new;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins of a running server: what serves, what does not, and why.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace plugin ls
  streamspace plugin ls --data /srv/streamspace --output json"
    )]
    Ls(LsArgs),

    /// Begin a plugin: a crate that compiles, with every function of the contract to be filled in.
    #[command(after_help = "\
Examples:
  streamspace plugin new openstack
  streamspace plugin new openstack --dir plugins/openstack --sdk ~/streamspace/sdk")]
    New(new::NewArgs),

    /// Show what a plugin file is and what it asks for.
    #[command(after_help = "\
Examples:
  streamspace plugin inspect docker.wasm
  streamspace plugin inspect docker.wasm --output json")]
    Inspect(inspect::InspectArgs),

    /// Run the conformance suite on a plugin file and a real backend.
    ///
    /// The plugin is loaded into this process and bound under a controller id of its own, so that nothing else on the
    /// backend is touched. Everything that the checks make is removed. The exit code is 0 when no check failed. What
    /// cannot be checked on this backend is reported as not applicable, with the reason. docs/conformance.md says what
    /// each check means.
    #[command(after_help = "\
Examples:
  streamspace plugin check docker.wasm --image streamspace/sample:latest --port 3000
  streamspace plugin check docker.wasm --endpoint engine=unix:///var/run/docker.sock --image streamspace/sample:latest --port 3000
  streamspace plugin check docker.wasm --image streamspace/sample:latest --port 3000 --report junit --out report.xml")]
    Check(check::CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Runs a command.
pub(crate) fn run(command: PluginCommand) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::Ls(args) => on_one_thread(async {
            let listed = args.remote.client()?.get(&["admin", "plugins"]).await?;
            args.remote.print(&listed, || Ok(table(&listed).render()))
        }),
        PluginCommand::New(args) => new::run(&args),
        PluginCommand::Inspect(args) => in_process(inspect::run(args)),
        PluginCommand::Check(args) => in_process(check::run(args)),
    }
}

/// Runs plugins in this process, which then logs what is wrong.
fn in_process(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    telemetry::init("warn")?;
    on_all_processors(work)
}

/// One line a plugin, and under it why it does not serve as one would expect.
fn table(listed: &Value) -> Table<6> {
    let text = |plugin: &Value, field: &str| plugin[field].as_str().unwrap_or_default().to_owned();
    let mut table = Table::new(["FILE", "NAME", "VERSION", "STATE", "DIGEST", "CONTROLLERS"]);
    for plugin in listed["items"].as_array().into_iter().flatten() {
        let controllers = plugin["controllers"].as_array().into_iter().flatten();
        let controllers: Vec<_> = controllers.filter_map(|one| one["name"].as_str()).collect();
        let state = text(plugin, "state");
        let tone = match state.as_str() {
            "serving" => Some(Tone::Good),
            "loading" | "awaiting_grant" | "draining" => Some(Tone::Waiting),
            "refused" | "failing" => Some(Tone::Bad),
            _ => None,
        };
        table.row([
            text(plugin, "file").into(),
            text(plugin, "name").into(),
            text(plugin, "version").into(),
            Cell::toned(state, tone),
            text(plugin, "digest").chars().take(12).collect::<String>().into(),
            controllers.join(",").into(),
        ]);
        table.note(&text(plugin, "reason"), 4);
        table.note(&text(plugin, "configuration"), 8);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_says_what_serves_and_why_something_does_not() {
        let listed = json!({"items": [
            {"file": "a.wasm", "name": "docker", "version": "0.1.0", "state": "serving", "digest": "ab".repeat(32),
             "controllers": [{"id": "1", "name": "x"}, {"id": "2", "name": "y"}], "reason": null},
            {"file": "b.wasm", "name": null, "state": "refused", "controllers": [], "reason": "it is empty"},
        ]});
        assert_eq!(
            table(&listed).render_for(false),
            "FILE    NAME    VERSION  STATE    DIGEST        CONTROLLERS\n\
             a.wasm  docker  0.1.0    serving  abababababab  x,y\n\
             b.wasm  -       -        refused  -             -\n    it is empty\n"
        );
    }
}
