//! `streamspace session create`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::goal::{Goal, patience, wait};
use super::model::Session;
use crate::command::Remote;
use crate::output::Output;
use crate::print;
use crate::table::fields;

mod request;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    request: request::RequestArgs,

    /// How long to wait until it runs
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_value = "5m", default_missing_value = "5m",
          value_parser = patience)]
    wait: Duration,

    /// Do not wait
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,

    /// The same creation again, with the same key, is the same session
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let body = args.request.body()?;
    let client = args.remote.client()?;
    // Also without being told to: the answer may be lost, and then the key finds the session again.
    let key = args.idempotency_key.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    let call = client.call(Method::POST, &["sessions"]).header("idempotency-key", &key).json(&body);
    let created = call.send().await.map_err(|error| {
        let lost = error.answer_is_lost();
        let error = anyhow::Error::from(error);
        if lost {
            error.context(format!(
                "the answer was lost; the session may be there: the same command with --idempotency-key {key} \
                 finds it or makes it"
            ))
        } else {
            error
        }
    })?;
    let mut answer = created.body;
    let mut code = 0;
    if !args.no_wait {
        let id = client.typed::<Session>(&answer)?.id;
        let silent = args.remote.output == Output::Json;
        let waited = wait(&client, &id, Goal::Running, args.wait, silent).await?;
        answer = waited.session.unwrap_or(answer);
        code = waited.exit_code;
    }
    let session = client.typed(&answer)?;
    print::even_unread(print(&args, &answer, &session, &client))?;
    if session.is_remote_desktop() && args.remote.output == Output::Table {
        let id = &session.id;
        print::note(&format!(
            "Its desktop speaks RFB: `streamspace session open {id}` gives a URL for a client such as noVNC."
        ));
    }
    Ok(code.into())
}

fn print(
    args: &CreateArgs,
    answer: &Value,
    session: &Session,
    client: &crate::client::Client,
) -> anyhow::Result<()> {
    match args.remote.output {
        Output::Json => print::json(answer),
        Output::Table => print::text(&fields([
            ("ID", session.id.as_str().into()),
            ("PHASE", session.phase_cell()),
            ("URL", session.url(client).into()),
        ])),
    }
    .context("the session was made, but cannot be shown")
}
