//! `streamspace quota …`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::many::Many;
use super::{Remote, whole};
use crate::client::Page;
use crate::executor::on_one_thread;
use crate::table::{Table, fields};

/// What stands for "as configured" where a limit is expected.
const AS_CONFIGURED: &str = "default";

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// List the users for whom something else applies than is configured; for operators.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace quota ls"
    )]
    Ls(LsArgs),

    /// Show the limits of one user and what their sessions take; without a user, your own.
    #[command(after_help = "\
Examples:
  streamspace quota get
  streamspace quota get alice")]
    Get(GetArgs),

    /// Set limits for one user; for administrators. What is not named stays as it is.
    #[command(after_help = "\
Examples:
  streamspace quota set alice --sessions 5 --memory 16Gi
  streamspace quota set ci --cpu unlimited --storage default")]
    Set(SetArgs),

    /// Let what is configured apply to users again; for administrators.
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  streamspace quota rm alice"
    )]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    remote: Remote,

    /// The user [default: yourself]
    user: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    remote: Remote,

    /// The user
    user: String,

    #[command(flatten)]
    limits: Limits,
}

/// A limit is an amount, `unlimited`, or `default` for what is configured.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Limits {
    /// Sessions, however they are: a number, unlimited, or default (what is configured)
    #[arg(long, value_name = "N")]
    sessions: Option<String>,

    /// Processors of sessions that are to run: like 4 or 500m, unlimited, or default
    #[arg(long, value_name = "CPU")]
    cpu: Option<String>,

    /// Memory of sessions that are to run: like 16Gi, unlimited, or default
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,

    /// Disks, volumes and the home: like 100Gi, unlimited, or default
    #[arg(long, value_name = "SIZE")]
    storage: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    remote: Remote,

    /// The users
    #[arg(required = true, value_name = "USER")]
    users: Vec<String>,
}

#[derive(Deserialize)]
struct Quota {
    user_id: String,
    limits: Map<String, Value>,
    used: Map<String, Value>,
}

impl Quota {
    /// What is used of a limit.
    fn cell(&self, kind: &str) -> String {
        let plain = |value: Option<&Value>| match value {
            None | Some(Value::Null) => "unlimited".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        format!("{} of {}", plain(self.used.get(kind)), plain(self.limits.get(kind)))
    }

    fn describe(self) -> String {
        let cells = [
            ("SESSIONS", self.cell("sessions").into()),
            ("CPU", self.cell("cpu").into()),
            ("MEMORY", self.cell("memory").into()),
            ("STORAGE", self.cell("storage").into()),
        ];
        fields([("USER", self.user_id.into())].into_iter().chain(cells))
    }
}

/// Runs a command.
pub(crate) fn run(command: QuotaCommand) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        match command {
            QuotaCommand::Ls(args) => ls(args).await,
            QuotaCommand::Get(args) => get(args).await,
            QuotaCommand::Set(args) => set(args).await,
            QuotaCommand::Rm(args) => rm(args).await,
        }
    })
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = whole(client.all(&["admin", "quotas"], &[]).await?);
    args.remote.print(&answer, || {
        let mut table = Table::new(["USER", "SESSIONS", "CPU", "MEMORY", "STORAGE"]);
        for quota in client.typed::<Page>(&answer)?.items {
            let quota: Quota = client.typed(&quota)?;
            let cells = ["sessions", "cpu", "memory", "storage"].map(|kind| quota.cell(kind));
            let [sessions, cpu, memory, storage] = cells;
            table.row([quota.user_id.into(), sessions.into(), cpu.into(), memory.into(), storage.into()]);
        }
        Ok(table.render())
    })
}

async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = match &args.user {
        Some(user) => client.get(&["admin", "quotas", user]).await?,
        None => client.get(&["quota"]).await?,
    };
    args.remote.print(&answer, || Ok(client.typed::<Quota>(&answer)?.describe()))
}

async fn set(args: SetArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let path = ["admin", "quotas", &args.user];
    let mut body = client.get(&path).await?["set"].take();
    let Limits { sessions, cpu, memory, storage } = args.limits;
    for (kind, text) in [("sessions", sessions), ("cpu", cpu), ("memory", memory), ("storage", storage)] {
        let Some(text) = text else { continue };
        body[kind] = match text.parse::<u32>() {
            _ if text == AS_CONFIGURED => Value::Null,
            Ok(number) if kind == "sessions" => number.into(),
            _ => text.into(),
        };
    }
    let answer = client.call(Method::PUT, &path).json(&body).send().await?.body;
    args.remote.print(&answer, || Ok(client.typed::<Quota>(&answer)?.describe()))
}

async fn rm(args: RmArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "user_id");
    for user in &args.users {
        match client.call(Method::DELETE, &["admin", "quotas", user]).send().await {
            Ok(_) => many.done(user, json!({ "user_id": user, "deleted": true })),
            Err(error) => many.failed(user, &error.into()),
        }
    }
    many.finish()
}
