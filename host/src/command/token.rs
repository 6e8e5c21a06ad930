//! `streamspace token …`.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::many::Many;
use super::time::{age, age_of, moment_of};
use super::{Remote, whole};
use crate::client::{Client, ClientError, Page};
use crate::executor::on_one_thread;
use crate::output::Output;
use crate::print;
use crate::table::{Table, fields};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token. Its secret is shown this once.
    #[command(after_help = "\
Examples:
  streamspace token create laptop
  streamspace token create ci --role user --expires-in 720h
  streamspace token create first --user alice
  (umask 077; streamspace token create ci --quiet > ci.token)")]
    Create(CreateArgs),

    /// List one's own tokens; administrators see everybody's with --everybody or --user.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace token ls
  streamspace token ls --everybody
  streamspace token ls --user alice"
    )]
    Ls(LsArgs),

    /// Revoke tokens: they are refused from this moment on.
    #[command(visible_aliases = ["revoke", "delete"], after_help = "\
Examples:
  streamspace token rm tok-0123456789ab")]
    Rm(RmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    remote: Remote,

    /// What to call it
    name: String,

    /// Most that it may do: user, operator or admin [default: what both you and its user may]
    #[arg(long)]
    role: Option<String>,

    /// How long it is taken, like 720h [default: for ever]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,

    /// Whose it is; for administrators
    #[arg(long)]
    user: Option<String>,

    /// Print the secret only
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,

    /// Everybody's
    #[arg(long)]
    everybody: bool,

    /// This user's
    #[arg(long, conflicts_with = "everybody")]
    user: Option<String>,
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
struct Token {
    id: String,
    name: String,
    user_id: String,
    role: String,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    /// Only when it is made.
    #[serde(default)]
    secret: String,
}

/// Runs a command.
pub(crate) fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        match command {
            TokenCommand::Create(args) => create(args).await,
            TokenCommand::Ls(args) => ls(args).await,
            TokenCommand::Rm(args) => rm(args).await,
        }
    })
}

async fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut body = json!({ "name": args.name });
    let given = [("role", &args.role), ("expires_in", &args.expires_in), ("user_id", &args.user)];
    for (name, value) in given {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    let path: &[_] = if args.user.is_some() { &["admin", "tokens"] } else { &["tokens"] };
    let answer = client.call(Method::POST, path).json(&body).send().await?.body;
    let token: Token = client.typed(&answer)?;
    if args.quiet {
        print::text(&format!("{}\n", token.secret))?;
        return Ok(ExitCode::SUCCESS);
    }
    let code = args.remote.print(&answer, || {
        Ok(fields([
            ("ID", token.id.into()),
            ("USER", token.user_id.into()),
            ("ROLE", token.role.into()),
            ("EXPIRES", moment_of(token.expires_at).into()),
            ("SECRET", token.secret.into()),
        ]))
    })?;
    if args.remote.output == Output::Table {
        print::note("Keep the secret: it is not shown again.");
    }
    Ok(code)
}

async fn ls(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let path: &[_] = if args.everybody || args.user.is_some() { &["admin", "tokens"] } else { &["tokens"] };
    let query: Vec<_> = args.user.clone().map(|user| ("user_id", user)).into_iter().collect();
    let answer = whole(client.all(path, &query).await?);
    args.remote.print(&answer, || {
        let mut table = Table::new(["ID", "NAME", "USER", "ROLE", "AGE", "LAST USED", "EXPIRES"]);
        for token in client.typed::<Page>(&answer)?.items {
            let token: Token = client.typed(&token)?;
            table.row([
                token.id.into(),
                token.name.into(),
                token.user_id.into(),
                token.role.into(),
                age(token.created_at).into(),
                age_of(token.last_used_at).into(),
                moment_of(token.expires_at).into(),
            ]);
        }
        Ok(table.render())
    })
}

async fn rm(args: RmArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "id");
    for id in &args.ids {
        match revoke(&client, id).await {
            Ok(answer) => many.done(id, answer),
            Err(error) => many.failed(id, &error.into()),
        }
    }
    many.finish()
}

/// One's own, or, where that is allowed, somebody else's.
async fn revoke(client: &Client, id: &str) -> Result<Value, ClientError> {
    let not_found = match client.call(Method::DELETE, &["tokens", id]).send().await {
        Err(error) if error.exit_code() == 3 => error,
        Err(error) => return Err(error),
        Ok(_) => return Ok(json!({ "id": id, "deleted": true })),
    };
    match client.call(Method::DELETE, &["admin", "tokens", id]).send().await {
        // Whoever may not look there has asked for a token of their own.
        Err(ClientError::Refused { status: StatusCode::FORBIDDEN, .. }) => Err(not_found),
        Err(error) => Err(error),
        Ok(_) => Ok(json!({ "id": id, "deleted": true })),
    }
}
