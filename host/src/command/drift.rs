//! `streamspace drift …`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use streamspace_control::GoDuration;

use super::many::Many;
use super::time::age;
use super::{Remote, file};
use crate::client::{Client, ClientError};
use crate::executor::on_one_thread;
use crate::print::note;
use crate::table::{Cell, Table, Tone};

#[derive(Debug, Subcommand)]
pub(crate) enum DriftCommand {
    /// List what backends have that no session explains.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace drift ls
  streamspace drift ls --controller ctrl-50ee66fc6151 --state found"
    )]
    Ls(LsArgs),

    /// Make a session for an object. Its id is the session's from then on.
    #[command(after_help = "\
Examples:
  streamspace drift adopt drift-50ee66fc6151
  streamspace drift adopt drift-50ee66fc6151 --user alice --spec desktop.yaml")]
    Adopt(AdoptArgs),

    /// Leave objects as they are. They stay in the list and are never removed unasked.
    #[command(after_help = "\
Examples:
  streamspace drift ignore drift-50ee66fc6151")]
    Ignore(ManyArgs),

    /// Remove objects, once their controller has confirmed that it made them.
    #[command(
        visible_alias = "rm",
        after_help = "\
Examples:
  streamspace drift delete drift-50ee66fc6151
  streamspace drift delete drift-50ee66fc6151 drift-6a0c1f0e2d4b --wait=1m"
    )]
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,

    /// Only on this controller, by its id
    #[arg(long, value_name = "ID")]
    controller: Option<String>,

    /// Only what is found, ignored or deleting
    #[arg(long)]
    state: Option<String>,

    /// Only of this user, as the backend says
    #[arg(long)]
    user: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    #[command(flatten)]
    remote: Remote,

    /// The object's id in the list, or the beginning of it
    id: String,

    /// Whose session it is to be [default: as the backend says]
    #[arg(long)]
    user: Option<String>,

    /// File (JSON or YAML, - = standard input) with what it is made of [default: as the backend says]
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ManyArgs {
    #[command(flatten)]
    remote: Remote,

    /// The objects' ids in the list, or the beginnings of them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    objects: ManyArgs,

    /// Wait until each is gone, at most so long (1m)
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "1m", value_parser = patience)]
    wait: Option<Duration>,
}

fn patience(text: &str) -> Result<Duration, String> {
    GoDuration::parse(text).map(|duration| duration.length()).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    controller_id: String,
    session_id: String,
    external_ref: String,
    ownership: String,
    phase: String,
    user_id: String,
    reason: String,
    state: String,
    message: String,
    first_seen: DateTime<Utc>,
    last_seen: DateTime<Utc>,
}

#[derive(Deserialize)]
struct Alarm {
    controller_id: String,
    kind: String,
    objects: u64,
    placed: u64,
}

impl Alarm {
    fn describe(&self) -> String {
        let Self { controller_id, kind, objects, placed } = self;
        let what = match kind.as_str() {
            "losses" => format!("{objects} of {placed} sessions are missing"),
            _ => format!("{objects} objects would be removed, with {placed} sessions placed there"),
        };
        format!("controller {controller_id}: {what}; nothing is removed unasked")
    }
}

/// Runs a command.
pub(crate) fn run(command: DriftCommand) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        match command {
            DriftCommand::Ls(args) => ls(args).await,
            DriftCommand::Adopt(args) => adopt(args).await,
            DriftCommand::Ignore(args) => each(args, Order::Ignore).await,
            DriftCommand::Delete(args) => each(args.objects, Order::Delete(args.wait)).await,
        }
    })
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let given = [("controller_id", args.controller), ("state", args.state), ("user_id", args.user)];
    let query: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let items = client.all(&["admin", "drift"], &query).await?;
    let alarms = client.get(&["admin", "drift"]).await?["alarms"].clone();
    let answer = json!({ "items": items, "next_cursor": null, "alarms": alarms });
    args.remote.print(&answer, || {
        for alarm in client.typed::<Vec<Alarm>>(&alarms)? {
            note(&format!("streamspace: {}", crate::print::harmless(&alarm.describe())));
        }
        let mut table = Table::new([
            "ID",
            "CONTROLLER",
            "OBJECT",
            "MADE BY",
            "PHASE",
            "USER",
            "REASON",
            "STATE",
            "AGE",
            "SEEN",
        ]);
        for entry in client.typed::<Vec<Entry>>(&answer["items"])? {
            let object = if entry.session_id.is_empty() { &entry.external_ref } else { &entry.session_id };
            let tone = (entry.state == "found").then_some(Tone::Waiting);
            table.row([
                entry.id.as_str().into(),
                entry.controller_id.as_str().into(),
                object.as_str().into(),
                if entry.ownership == "owned" { "controller" } else { "somebody" }.into(),
                entry.phase.as_str().into(),
                entry.user_id.as_str().into(),
                entry.reason.as_str().into(),
                Cell::toned(entry.state.as_str(), tone),
                age(entry.first_seen).into(),
                age(entry.last_seen).into(),
            ]);
            table.note(&entry.message, 4);
        }
        Ok(table.render())
    })
}

async fn adopt(args: AdoptArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut body = json!({});
    if let Some(user) = &args.user {
        body["user_id"] = user.as_str().into();
    }
    if let Some(path) = &args.spec {
        let spec = file::parse(&file::read(path)?);
        body["spec"] = spec.with_context(|| format!("{} cannot be read", path.display()))?;
    }
    let id = resolve(&client, &args.id).await?;
    let path = ["admin", "drift", &id, "adopt"];
    let answer = client.call(Method::POST, &path).json(&body).send().await?.body;
    args.remote.print(&answer, || Ok(format!("{}\n", answer["id"].as_str().unwrap_or_default())))
}

/// What is said of an object.
#[derive(Clone, Copy)]
enum Order {
    Ignore,
    Delete(Option<Duration>),
}

async fn each(args: ManyArgs, order: Order) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "id");
    for given in &args.ids {
        match one(&client, given, order).await {
            Ok((id, answer, done)) => {
                if done {
                    many.done(&id, answer);
                } else {
                    note(&format!("streamspace: {id} is not gone yet; it is being removed"));
                    many.ended(6);
                    many.keep(answer);
                }
            }
            Err(error) => many.failed(given, &error),
        }
    }
    many.finish()
}

/// The whole id, the server's answer, and whether it has come to what was waited for.
async fn one(client: &Client, given: &str, order: Order) -> anyhow::Result<(String, Value, bool)> {
    let id = resolve(client, given).await?;
    let (answer, done) = match order {
        Order::Ignore => {
            let path = ["admin", "drift", &id, "ignore"];
            (client.call(Method::POST, &path).send().await?.body, true)
        }
        Order::Delete(wait) => {
            let query: Vec<_> =
                wait.map(|wait| ("wait", format!("{}ms", wait.as_millis()))).into_iter().collect();
            let call = client.call(Method::DELETE, &["admin", "drift", &id]).query(&query);
            match call.send().await?.body {
                Value::Null => (json!({ "id": id, "deleted": true }), true),
                entry => (entry, wait.is_none()),
            }
        }
    };
    Ok((id, answer, done))
}

/// The whole id of the one entry whose id begins like this.
async fn resolve(client: &Client, beginning: &str) -> anyhow::Result<String> {
    let entries = client.all(&["admin", "drift"], &[]).await?;
    let ids = entries.iter().filter_map(|entry| entry["id"].as_str());
    let found: Vec<_> = ids.filter(|id| !beginning.is_empty() && id.starts_with(beginning)).collect();
    match found.as_slice() {
        [] => {
            let message =
                format!("nothing in the list begins with `{beginning}`: `streamspace drift ls` shows all");
            Err(ClientError::not_found(message).into())
        }
        [one] => Ok((*one).to_owned()),
        several => anyhow::bail!("`{beginning}` could be any of {}: give more of it", several.join(", ")),
    }
}
