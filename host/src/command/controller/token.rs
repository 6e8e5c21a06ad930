//! `streamspace controller token …`: what lets controllers in that run elsewhere.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::Page;
use crate::command::many::Many;
use crate::command::time::{age, age_of, moment};
use crate::command::{Remote, whole};
use crate::output::Output;
use crate::print;
use crate::table::{Table, fields};

#[derive(Debug, Subcommand)]
pub(crate) enum JoinTokenCommand {
    /// Make a join token. Its secret is shown this once.
    ///
    /// A controller that it lets in gets a token of its own. The join token is not needed any more then, and may expire.
    #[command(after_help = "\
Examples:
  streamspace controller token create lab
  streamspace controller token create site-b --type docker --name docker-site-b --expires-in 1h
  (umask 077; streamspace controller token create lab --quiet > join.token)")]
    Create(CreateArgs),

    /// List join tokens, without their secrets.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace controller token ls"
    )]
    Ls(LsArgs),

    /// Revoke join tokens: they let nobody in from this moment on. Controllers that they have let in stay.
    #[command(visible_aliases = ["revoke", "delete"], after_help = "\
Examples:
  streamspace controller token rm join-0123456789ab")]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    remote: Remote,

    /// What to call the token
    token: String,

    /// The one type of controllers that it lets in [default: any]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,

    /// The one name of controllers that it lets in [default: any]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// How long it is taken, like 1h [default: 24h]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,

    /// Print the secret only
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    remote: Remote,

    /// The tokens' ids
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Deserialize)]
struct JoinToken {
    id: String,
    name: String,
    controller_type: Option<String>,
    controller_name: Option<String>,
    created_by: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
    /// Only when it is made.
    #[serde(default)]
    secret: String,
}

impl JoinToken {
    /// Whom it lets in.
    fn lets_in(&self) -> String {
        let any = |text: &Option<String>| text.clone().unwrap_or_else(|| "any".to_owned());
        format!("{}/{}", any(&self.controller_type), any(&self.controller_name))
    }
}

/// Runs a command.
pub(super) async fn run(command: JoinTokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        JoinTokenCommand::Create(args) => create(args).await,
        JoinTokenCommand::Ls(args) => ls(args).await,
        JoinTokenCommand::Rm(args) => rm(args).await,
    }
}

const PATH: [&str; 2] = ["admin", "join-tokens"];

async fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut body = json!({ "name": args.token });
    let given =
        [("controller_type", &args.kind), ("controller_name", &args.name), ("expires_in", &args.expires_in)];
    for (name, value) in given {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    let answer = client.call(Method::POST, &PATH).json(&body).send().await?.body;
    let token: JoinToken = client.typed(&answer)?;
    if args.quiet {
        print::text(&format!("{}\n", token.secret))?;
        return Ok(ExitCode::SUCCESS);
    }
    let code = args.remote.print(&answer, || {
        Ok(fields([
            ("ID", token.id.as_str().into()),
            ("LETS IN", token.lets_in().into()),
            ("EXPIRES", moment(token.expires_at).into()),
            ("SECRET", token.secret.as_str().into()),
        ]))
    })?;
    if args.remote.output == Output::Table {
        print::note("Keep the secret: it is not shown again.");
    }
    Ok(code)
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let answer = whole(client.all(&PATH, &[]).await?);
    args.remote.print(&answer, || {
        let mut table = Table::new(["ID", "NAME", "LETS IN", "MADE BY", "AGE", "LAST USED", "EXPIRES"]);
        for token in client.typed::<Page>(&answer)?.items {
            let token: JoinToken = client.typed(&token)?;
            table.row([
                token.id.as_str().into(),
                token.name.as_str().into(),
                token.lets_in().into(),
                token.created_by.as_str().into(),
                age(token.created_at).into(),
                age_of(token.last_used_at).into(),
                moment(token.expires_at).into(),
            ]);
        }
        Ok(table.render())
    })
}

async fn rm(args: RmArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "id");
    for id in &args.ids {
        match client.call(Method::DELETE, &[PATH[0], PATH[1], id.as_str()]).send().await {
            Ok(_) => many.done(id, json!({ "id": id, "deleted": true })),
            Err(error) => many.failed(id, &error.into()),
        }
    }
    many.finish()
}
