//! `streamspace user …`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::many::Many;
use super::time::{age, moment};
use super::{Remote, whole};
use crate::client::Page;
use crate::executor::on_one_thread;
use crate::table::{Table, fields};

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List users.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace user ls"
    )]
    Ls(LsArgs),

    /// Show one user.
    #[command(after_help = "\
Examples:
  streamspace user get alice")]
    Get(GetArgs),

    /// Make a user.
    #[command(after_help = "\
Examples:
  streamspace user create alice
  streamspace user create bob --role operator --email bob@example.org")]
    Create(WriteArgs),

    /// Change a user. What is not named stays as it is.
    #[command(after_help = "\
Examples:
  streamspace user set alice --role operator
  streamspace user set bob --active false")]
    Set(WriteArgs),

    /// Remove users who have no sessions, with their tokens.
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  streamspace user rm bob"
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

    /// The user
    id: String,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    remote: Remote,

    /// The user
    id: String,

    /// Most that the user may do: user, operator or admin
    #[arg(long)]
    role: Option<String>,

    /// Address; an empty one takes it away
    #[arg(long)]
    email: Option<String>,

    /// Name in full
    #[arg(long, value_name = "NAME")]
    full_name: Option<String>,

    /// Whether the user's tokens are taken
    #[arg(long, value_name = "true|false")]
    active: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    remote: Remote,

    /// The users
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    email: Option<String>,
    #[serde(default)]
    full_name: String,
    role: String,
    active: bool,
    created_at: DateTime<Utc>,
}

impl User {
    fn describe(self) -> String {
        fields([
            ("ID", self.id.into()),
            ("NAME", self.full_name.into()),
            ("EMAIL", self.email.unwrap_or_default().into()),
            ("ROLE", self.role.into()),
            ("ACTIVE", if self.active { "yes" } else { "no" }.into()),
            ("CREATED", moment(self.created_at).into()),
        ])
    }
}

/// Runs a command.
pub(crate) fn run(command: UserCommand) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        match command {
            UserCommand::Ls(args) => ls(args).await,
            UserCommand::Get(args) => get(args).await,
            UserCommand::Create(args) => {
                let mut body = args.fields();
                body.insert("id".to_owned(), args.id.as_str().into());
                write(&args, Method::POST, &["admin", "users"], body).await
            }
            UserCommand::Set(args) => {
                let body = args.fields();
                write(&args, Method::PATCH, &["admin", "users", &args.id], body).await
            }
            UserCommand::Rm(args) => rm(args).await,
        }
    })
}

impl WriteArgs {
    fn fields(&self) -> Map<String, Value> {
        let texts = [("role", &self.role), ("email", &self.email), ("full_name", &self.full_name)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?.into())));
        let active = self.active.map(|active| ("active", active.into()));
        texts.chain(active).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = whole(client.all(&["admin", "users"], &[]).await?);
    args.remote.print(&answer, || {
        let mut table = Table::new(["ID", "NAME", "EMAIL", "ROLE", "ACTIVE", "AGE"]);
        for user in client.typed::<Page>(&answer)?.items {
            let user: User = client.typed(&user)?;
            table.row([
                user.id.into(),
                user.full_name.into(),
                user.email.unwrap_or_default().into(),
                user.role.into(),
                if user.active { "yes" } else { "no" }.into(),
                age(user.created_at).into(),
            ]);
        }
        Ok(table.render())
    })
}

async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = client.get(&["admin", "users", &args.id]).await?;
    args.remote.print(&answer, || Ok(client.typed::<User>(&answer)?.describe()))
}

async fn write(
    args: &WriteArgs,
    method: Method,
    path: &[&str],
    body: Map<String, Value>,
) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = client.call(method, path).json(&Value::Object(body)).send().await?.body;
    args.remote.print(&answer, || Ok(client.typed::<User>(&answer)?.describe()))
}

async fn rm(args: RmArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "id");
    for id in &args.ids {
        match client.call(Method::DELETE, &["admin", "users", id]).send().await {
            Ok(_) => many.done(id, json!({ "id": id, "deleted": true })),
            Err(error) => many.failed(id, &error.into()),
        }
    }
    many.finish()
}
