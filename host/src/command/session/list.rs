//! `streamspace session ls`.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::model::Session;
use super::whole;
use crate::client::{Client, Page};
use crate::command::Remote;
use crate::command::time::age;
use crate::output::Output;
use crate::print;
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    remote: Remote,

    /// Only this user's
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Only those made from this template
    #[arg(long, value_name = "TEMPLATE")]
    template: Option<String>,

    /// Only those wanted like this: running, hibernated or terminated
    #[arg(long, value_name = "STATE")]
    state: Option<String>,

    /// Only those last seen like this: Pending, Running, Hibernated, Failed or Terminated
    #[arg(long, value_name = "PHASE")]
    phase: Option<String>,

    /// Only those on this controller
    #[arg(long, value_name = "ID")]
    controller: Option<String>,

    /// Only those on controllers of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,

    /// All pages, not only the first
    #[arg(short, long)]
    all: bool,

    /// Print ids only
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
}

pub(super) async fn run(args: LsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let filters = [
        ("user_id", &args.user),
        ("template_id", &args.template),
        ("state", &args.state),
        ("phase", &args.phase),
        ("controller_id", &args.controller),
        ("controller_type", &args.kind),
    ];
    let query: Vec<_> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let answer = if args.all {
        whole(client.all(&["sessions"], &query).await?)
    } else {
        client.call(Method::GET, &["sessions"]).query(&query).send().await?.body
    };
    let page: Page = client.typed(&answer)?;
    let code = if args.quiet {
        let ids = page.items.iter().filter_map(|session| session["id"].as_str());
        print::text(&ids.map(|id| format!("{id}\n")).collect::<String>())?;
        ExitCode::SUCCESS
    } else {
        args.remote.print(&answer, || table(&client, &page.items))?
    };
    if page.next_cursor.is_some() && args.remote.output == Output::Table {
        print::note("There are more: --all shows them.");
    }
    Ok(code)
}

fn table(client: &Client, sessions: &[Value]) -> anyhow::Result<String> {
    let mut table = Table::new(["ID", "USER", "TEMPLATE OR IMAGE", "PHASE", "WANTED", "ON", "AGE"]);
    for session in sessions {
        let session: Session = client.typed(session)?;
        let made_from =
            if session.template_id.is_empty() { &session.spec.base_image } else { &session.template_id };
        table.row([
            session.id.as_str().into(),
            session.user_id.as_str().into(),
            made_from.as_str().into(),
            session.phase_cell(),
            if session.deleting { "deleted" } else { session.state.as_str() }.into(),
            session.controller_type.as_str().into(),
            age(session.created_at).into(),
        ]);
    }
    Ok(table.render())
}
