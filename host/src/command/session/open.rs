//! `streamspace session open`.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use clap::Args;
use reqwest::Method;
use serde::Deserialize;

use super::model::Session;
use super::resolve;
use crate::command::Remote;
use crate::output::Output;
use crate::print;

/// What opens a URL in the browser of the person who sits there.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// What is said beside the URL of a remote desktop.
pub(super) const FOR_A_CLIENT: &str =
    "Its desktop speaks RFB in a WebSocket: give this URL to a client such as noVNC.";

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    remote: Remote,

    /// The session's id, or the beginning of it
    id: String,

    /// Open it in the browser
    #[arg(long)]
    browser: bool,
}

#[derive(Deserialize)]
struct Ticket {
    url: String,
    ticket: String,
}

pub(super) async fn run(args: OpenArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.id).await?;
    let session: Session = client.typed(&client.get(&["sessions", &id]).await?)?;
    let is_remote_desktop = session.is_remote_desktop();
    anyhow::ensure!(
        !(args.browser && is_remote_desktop),
        "the desktop of this session speaks RFB, which a browser alone does not show: without --browser this command \
         gives a URL for a client such as noVNC"
    );
    let mut answer = client.call(Method::POST, &["sessions", &id, "tickets"]).send().await?.body;
    let ticket: Ticket = client.typed(&answer)?;
    let url = if is_remote_desktop {
        format!("{}?streamspace_ticket={}", session.desktop_url(&client), ticket.ticket)
    } else {
        client.absolute(&ticket.url)
    };
    // A program has no use for half of a URL.
    if let Some(place) = answer.get_mut("url") {
        *place = url.as_str().into();
    }
    let code = args.remote.print(&answer, || Ok(format!("{url}\n")))?;
    if is_remote_desktop && args.remote.output == Output::Table {
        print::note(FOR_A_CLIENT);
    }
    if args.browser {
        let opened = Command::new(OPENER)
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("`{OPENER}` cannot be started; open the URL above yourself"))?;
        anyhow::ensure!(opened.success(), "`{OPENER}` did not open a browser; open the URL above yourself");
    }
    Ok(code)
}
