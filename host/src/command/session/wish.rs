//! `streamspace session hibernate`, `wake`, `retry`, `forget` and `rm`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::goal::{Goal, patience, wait};
use super::resolve;
use crate::client::Client;
use crate::command::Remote;
use crate::command::many::Many;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct WishArgs {
    #[command(flatten)]
    remote: Remote,

    /// The sessions' ids, or the beginnings of them
    #[arg(required = true, value_name = "ID", value_parser = not_a_time)]
    ids: Vec<String>,

    /// Wait until it is so, at most so long (5m)
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "5m", value_parser = patience)]
    wait: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    wish: WishArgs,

    /// Remove the user's home as well. Other sessions of the user may need it
    #[arg(long)]
    purge_home: bool,

    /// Forget sessions whose controller does not say within a minute that nothing is left of them; for operators
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    remote: Remote,

    /// The sessions' ids, or the beginnings of them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// What stands behind `--wait` without an equals sign would be taken for a session.
fn not_a_time(text: &str) -> Result<String, String> {
    match patience(text) {
        Ok(_) => Err(format!("that is a time, not a session: `--wait={text}` waits for so long")),
        Err(_) => Ok(text.to_owned()),
    }
}

/// A wish that has a path of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Hibernate,
    Wake,
    Retry,
}

/// How a wish is told to the server.
struct Request {
    method: Method,
    /// Behind the session's id.
    path: Option<&'static str>,
    query: Vec<(&'static str, String)>,
    /// What is waited for; `None` = whatever the session is wanted to be.
    goal: Option<Goal>,
}

pub(super) async fn run(args: WishArgs, verb: Verb) -> anyhow::Result<ExitCode> {
    let (path, goal) = match verb {
        Verb::Hibernate => ("hibernate", Some(Goal::Hibernated)),
        Verb::Wake => ("wake", Some(Goal::Running)),
        Verb::Retry => ("retry", None),
    };
    each(&args, Request { method: Method::POST, path: Some(path), query: Vec::new(), goal }).await
}

pub(super) async fn remove(args: RmArgs) -> anyhow::Result<ExitCode> {
    let flags = [("purge_home", args.purge_home), ("force", args.force)];
    let query = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| (name, "true".to_owned()));
    let (query, goal) = (query.collect(), Some(Goal::Gone));
    each(&args.wish, Request { method: Method::DELETE, path: None, query, goal }).await
}

pub(super) async fn forget(args: ForgetArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "id");
    let request =
        Request { method: Method::POST, path: Some("forget"), query: Vec::new(), goal: Some(Goal::Gone) };
    for given in &args.ids {
        match tell(&client, given, &request).await {
            Ok((id, _)) => many.done(&id, json!({ "id": id, "forgotten": true })),
            Err(error) => many.failed(given, &error),
        }
    }
    many.finish()
}

/// Wishes for all sessions first, and waits for them then: they work on it at the same time.
async fn each(args: &WishArgs, request: Request) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let mut many = Many::new(args.remote.output, "id");
    let mut wished = Vec::new();
    for given in &args.ids {
        match tell(&client, given, &request).await {
            Ok(one) => wished.push(one),
            Err(error) => many.failed(given, &error),
        }
    }
    let mut interrupted = false;
    for (id, answer) in wished {
        // Whoever interrupts does not want to wait for the next one, but it was told what is wished.
        if interrupted {
            many.keep(answer);
            continue;
        }
        match awaited(&client, args, &id, answer, request.goal).await {
            Ok((answer, 0)) => many.done(&id, answer),
            Ok((answer, code)) => {
                many.ended(code);
                many.keep(answer);
                interrupted = code == 130;
            }
            Err(error) => many.failed(&id, &error),
        }
    }
    many.finish()
}

/// The whole id, and the server's answer.
async fn tell(client: &Client, given: &str, request: &Request) -> anyhow::Result<(String, Value)> {
    let id = resolve(client, given).await?;
    let path: Vec<_> = ["sessions", id.as_str()].into_iter().chain(request.path).collect();
    let answer = client.call(request.method.clone(), &path).query(&request.query).send().await?;
    Ok((id, answer.body))
}

/// A session after the waiting, if there is any, and the exit code that this makes.
async fn awaited(
    client: &Client,
    args: &WishArgs,
    id: &str,
    answer: Value,
    goal: Option<Goal>,
) -> anyhow::Result<(Value, u8)> {
    let goal = goal.or_else(|| Goal::of(&answer));
    let (Some(patience), Some(goal)) = (args.wait, goal) else { return Ok((answer, 0)) };
    let waited = wait(client, id, goal, patience, args.remote.output == Output::Json).await?;
    let last = match (waited.session, waited.exit_code) {
        (Some(session), _) => session,
        (None, 0) => json!({ "id": id, "deleted": true }),
        // It was not seen at all.
        (None, _) => answer,
    };
    Ok((last, waited.exit_code))
}
