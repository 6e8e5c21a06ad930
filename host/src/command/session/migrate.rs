//! `streamspace session migrate`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::goal::{Goal, patience, wait};
use super::resolve;
use crate::command::{Remote, controller};
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    remote: Remote,

    /// The session's id, or the beginning of it
    id: String,

    /// Another controller of the same type: its id, its name, or the beginning of its id
    controller: String,

    /// Wait until the session is there as it is wanted, at most so long (5m)
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "5m", value_parser = patience)]
    wait: Option<Duration>,
}

pub(super) async fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.id).await?;
    let target = controller::resolve(&client, &args.controller).await?;
    let call = client.call(Method::POST, &["sessions", &id, "migrate"]);
    let mut answer = call.json(&json!({ "controller_id": target })).send().await?.body;
    let mut code = 0;
    if let (Some(patience), Some(goal)) = (args.wait, Goal::of(&answer)) {
        let waited = wait(&client, &id, goal, patience, args.remote.output == Output::Json).await?;
        code = waited.exit_code;
        answer = waited.session.unwrap_or(answer);
    }
    args.remote.print(&answer, || Ok(format!("{id}\n")))?;
    Ok(code.into())
}
