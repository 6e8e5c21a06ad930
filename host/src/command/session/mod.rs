//! `streamspace session …`.

mod create;
mod follow;
mod goal;
mod insight;
mod list;
mod migrate;
mod model;
mod open;
mod wish;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Remote, whole};
use crate::client::{Client, ClientError};
use crate::executor::on_one_thread;
use model::Session;

/// Sessions have ids of this length.
const ID_LENGTH: usize = 36;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Make a session and wait until it runs.
    ///
    /// What it is made of comes from a template, a file, options, or all of them: options win over the file, and both
    /// win over the template. Ctrl-C ends the waiting and leaves the session as it is.
    #[command(
        visible_alias = "new",
        after_help = "\
Examples:
  streamspace session create --template desktop
  streamspace session create --image nginx:1 --web 80 --memory 256Mi --cpu 500m
  streamspace session create --template desktop --env LANG=de_DE.UTF-8 --secret-env API_KEY=@key.txt --home
  streamspace session create --file session.yaml --controller-label region=lab --wait 10m
  streamspace session create --template desktop --no-wait --output json"
    )]
    Create(Box<create::CreateArgs>),

    /// List sessions.
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  streamspace session ls
  streamspace session ls --user alice --phase Running --all
  streamspace session ls --all --quiet"
    )]
    Ls(list::LsArgs),

    /// Show one session, why it is as it is, and what is under way.
    #[command(after_help = "\
Examples:
  streamspace session get 01980c5e-7b1f
  streamspace session get 01980c5e-7b1f-7a3c-9d52-4be9a3c6f001 --output json")]
    Get(OneArgs),

    /// Stop sessions so that they can go on later.
    #[command(after_help = "\
Examples:
  streamspace session hibernate 01980c5e-7b1f
  streamspace session hibernate 01980c5e-7b1f 01980c5e-9a02 --wait=2m")]
    Hibernate(wish::WishArgs),

    /// Start sessions again that were hibernated, terminated or failed.
    #[command(after_help = "\
Examples:
  streamspace session wake 01980c5e-7b1f --wait")]
    Wake(wish::WishArgs),

    /// Try sessions again at once: those that wait, and those that failed.
    #[command(after_help = "\
Examples:
  streamspace session retry 01980c5e-7b1f
  streamspace session retry 01980c5e-7b1f 01980c5e-9a02 --wait")]
    Retry(wish::WishArgs),

    /// Move a session to another controller of the same type; for operators.
    ///
    /// It is stopped and removed where it is, and then made anew there: what is not in a home that both share is lost.
    #[command(after_help = "\
Examples:
  streamspace session migrate 01980c5e-7b1f docker-2 --wait")]
    Migrate(migrate::MigrateArgs),

    /// Forget sessions without the word of their controller, for one that does not come back; for operators.
    ///
    /// What the controller has of them is removed when it is seen. Also for sessions that cannot be read.
    #[command(after_help = "\
Examples:
  streamspace session forget 01980c5e-7b1f")]
    Forget(wish::ForgetArgs),

    /// Remove sessions. The homes of their users stay.
    #[command(
        visible_alias = "delete",
        after_help = "\
Examples:
  streamspace session rm 01980c5e-7b1f
  streamspace session rm 01980c5e-7b1f 01980c5e-9a02 --wait
  streamspace session rm 01980c5e-7b1f --purge-home
  streamspace session rm 01980c5e-7b1f --force --wait"
    )]
    Rm(wish::RmArgs),

    /// Print what a session wrote.
    #[command(after_help = "\
Examples:
  streamspace session logs 01980c5e-7b1f --tail 100
  streamspace session logs 01980c5e-7b1f --follow")]
    Logs(follow::LogsArgs),

    /// Show what a session uses.
    #[command(after_help = "\
Examples:
  streamspace session metrics 01980c5e-7b1f")]
    Metrics(OneArgs),

    /// List what happened to a session, oldest first.
    #[command(after_help = "\
Examples:
  streamspace session events 01980c5e-7b1f")]
    Events(OneArgs),

    /// Say what a session waits for, and why it runs where it does.
    #[command(after_help = "\
Examples:
  streamspace session explain 01980c5e-7b1f")]
    Explain(OneArgs),

    /// Print a URL that opens a session in a browser. It is good once and for a minute.
    #[command(after_help = "\
Examples:
  streamspace session open 01980c5e-7b1f
  streamspace session open 01980c5e-7b1f --browser")]
    Open(open::OpenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    remote: Remote,

    /// The session's id, or the beginning of it
    id: String,
}

/// Runs a command.
pub(crate) fn run(command: SessionCommand) -> anyhow::Result<ExitCode> {
    on_one_thread(async {
        match command {
            SessionCommand::Create(args) => create::run(*args).await,
            SessionCommand::Ls(args) => list::run(args).await,
            SessionCommand::Get(args) => get(args).await,
            SessionCommand::Hibernate(args) => wish::run(args, wish::Verb::Hibernate).await,
            SessionCommand::Wake(args) => wish::run(args, wish::Verb::Wake).await,
            SessionCommand::Retry(args) => wish::run(args, wish::Verb::Retry).await,
            SessionCommand::Migrate(args) => migrate::run(args).await,
            SessionCommand::Forget(args) => wish::forget(args).await,
            SessionCommand::Rm(args) => wish::remove(args).await,
            SessionCommand::Logs(args) => follow::run(args).await,
            SessionCommand::Metrics(args) => insight::metrics(args).await,
            SessionCommand::Events(args) => insight::events(args).await,
            SessionCommand::Explain(args) => insight::explain(args).await,
            SessionCommand::Open(args) => open::run(args).await,
        }
    })
}

async fn get(args: OneArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.id).await?;
    let answer = client.get(&["sessions", &id]).await?;
    args.remote.print(&answer, || Ok(client.typed::<Session>(&answer)?.describe(&client)))
}

/// The whole id of the one session whose id begins like this.
async fn resolve(client: &Client, beginning: &str) -> anyhow::Result<String> {
    if beginning.len() == ID_LENGTH {
        return Ok(beginning.to_owned());
    }
    // An empty one would be the beginning of the only session there is.
    let sessions = if beginning.is_empty() { Vec::new() } else { client.all(&["sessions"], &[]).await? };
    let ids: Vec<&str> = sessions.iter().filter_map(|session| session["id"].as_str()).collect();
    Ok(the_one(&ids, beginning)?.to_owned())
}

fn the_one<'a>(ids: &[&'a str], beginning: &str) -> anyhow::Result<&'a str> {
    let found: Vec<_> = ids.iter().copied().filter(|id| id.starts_with(beginning)).collect();
    match found.as_slice() {
        [] => {
            let message = format!("there is no session whose id begins with `{beginning}`");
            Err(ClientError::not_found(message).into())
        }
        [one] => Ok(one),
        [first, .., last] => anyhow::bail!(
            "{} sessions have ids that begin with `{beginning}`, among them {first} and {last}: give more of it",
            found.len(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_has_to_be_the_beginning_of_one() {
        let ids = ["0198-aa", "0198-ab", "0199-aa"];
        assert_eq!(the_one(&ids, "0199").unwrap(), "0199-aa");
        assert_eq!(the_one(&ids, "0198-ab").unwrap(), "0198-ab");
        let several = the_one(&ids, "0198").unwrap_err();
        assert!(several.to_string().contains("give more of it"), "{several}");
        let none = the_one(&ids, "9").unwrap_err();
        assert_eq!(none.downcast::<ClientError>().unwrap().exit_code(), 3);
    }
}
