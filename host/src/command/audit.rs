//! `streamspace audit …`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::time::moment;
use super::{Remote, whole};
use crate::client::Page;
use crate::executor::on_one_thread;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List who changed what, newest first.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace audit ls
  streamspace audit ls --actor alice --action session.delete
  streamspace audit ls --target 01a20687-5eea-7559-98ca-252a802ce8d6 -o json
  streamspace audit ls --since 2026-01-31T00:00:00Z --limit 1000"
    )]
    Ls(LsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,

    /// What this user did, or this rule of the server
    #[arg(long)]
    actor: Option<String>,

    /// What was done, like session.create
    #[arg(long)]
    action: Option<String>,

    /// What it was done to: the id of a session, token, user or controller, or a template's name
    #[arg(long)]
    target: Option<String>,

    /// Not before this time, like 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,

    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,

    /// Most entries to list
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Deserialize)]
struct Entry {
    at: DateTime<Utc>,
    actor: Actor,
    action: String,
    target: Target,
    #[serde(default)]
    details: Map<String, Value>,
}

#[derive(Deserialize)]
struct Actor {
    kind: String,
    id: String,
    token_name: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: String,
    id: String,
}

/// Runs a command.
pub(crate) fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        match command {
            AuditCommand::Ls(args) => ls(args).await,
        }
    })
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let query = [
        ("actor", args.actor.clone()),
        ("action", args.action.clone()),
        ("target", args.target.clone()),
        ("since", args.since.map(|time| time.to_rfc3339())),
        ("until", args.until.map(|time| time.to_rfc3339())),
    ];
    let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let answer = whole(client.first(&["admin", "audit"], &query, most).await?);
    args.remote.print(&answer, || {
        let mut table = Table::new(["TIME", "WHO", "TOKEN", "ACTION", "WHAT", "DETAILS"]);
        for entry in client.typed::<Page>(&answer)?.items {
            let entry: Entry = client.typed(&entry)?;
            let who = match entry.actor.kind.as_str() {
                "user" => entry.actor.id,
                kind => format!("{kind}:{}", entry.actor.id),
            };
            table.row([
                moment(entry.at).into(),
                who.into(),
                entry.actor.token_name.unwrap_or_default().into(),
                entry.action.into(),
                format!("{} {}", entry.target.kind, entry.target.id).into(),
                described(&entry.details).into(),
            ]);
        }
        Ok(table.render())
    })
}

/// What there is to know, in one line: what is nothing is left out.
fn described(details: &Map<String, Value>) -> String {
    let told = details.iter().filter(|(_, value)| !value.is_null() && *value != "");
    let told = told.map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    });
    told.collect::<Vec<_>>().join(" ")
}
