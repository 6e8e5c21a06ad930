//! `streamspace session logs`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::goal::Goal;
use super::model::Session;
use super::resolve;
use crate::client::{Client, Page};
use crate::command::Remote;
use crate::output::Output;
use crate::print;

/// How long output is asked for again after the server went away. Long enough for it to start again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    remote: Remote,

    /// The session's id, or the beginning of it
    id: String,

    /// Go on with what it writes from now on, until it stops
    #[arg(short, long)]
    follow: bool,

    /// Only so many lines before the end
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u32>,

    /// Begin lines with the time at which they were written
    #[arg(short = 't', long)]
    timestamps: bool,
}

pub(super) async fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    let client = args.remote.client()?;
    let id = resolve(&client, &args.id).await?;
    let mut reader = Reader { client, id, cursor: None, args };
    if reader.args.follow { reader.follow().await } else { reader.pages().await }
}

/// Reads output, and knows where it has come to.
struct Reader {
    client: Client,
    id: String,
    args: LogsArgs,
    cursor: Option<String>,
}

impl Reader {
    fn query(&self) -> Vec<(&'static str, String)> {
        // What comes behind a line is not counted from the end.
        let tail = self.args.tail.filter(|_| self.cursor.is_none());
        let tail = tail.map(|lines| ("tail", lines.to_string()));
        tail.into_iter().chain(self.cursor.clone().map(|cursor| ("cursor", cursor))).collect()
    }

    async fn pages(&mut self) -> anyhow::Result<ExitCode> {
        loop {
            let path = ["sessions", &self.id, "logs"];
            let answer = self.client.call(Method::GET, &path).query(&self.query()).send().await?;
            let page: Page = self.client.typed(&answer.body)?;
            for line in &page.items {
                self.print(line)?;
            }
            match page.next_cursor {
                Some(next) => self.cursor = Some(next),
                None => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    /// Until the session stops. An answer that ends before is taken up again where it ended.
    async fn follow(&mut self) -> anyhow::Result<ExitCode> {
        let mut last_line = Instant::now();
        loop {
            let before = self.cursor.clone();
            let ended = self.stream().await;
            if self.cursor != before {
                last_line = Instant::now();
            }
            let tired = last_line.elapsed() > PATIENCE;
            match ended {
                Ok(()) if !self.may_write_more().await? => return Ok(ExitCode::SUCCESS),
                Ok(()) => {}
                Err(error) if tired || !is_passing(&error) => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn stream(&mut self) -> anyhow::Result<()> {
        let path = ["sessions", &self.id, "logs"];
        let follow = ("follow", "true".to_owned());
        let query: Vec<_> = self.query().into_iter().chain([follow]).collect();
        let mut response = self.client.call(Method::GET, &path).query(&query).stream().await?;
        let mut buffer = Vec::new();
        loop {
            // A connection that breaks is an answer that ended.
            let Ok(Some(bytes)) = response.chunk().await else { return Ok(()) };
            buffer.extend_from_slice(&bytes);
            while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line: Value = serde_json::from_slice(&line)?;
                if let Some(error) = line["error"].as_str() {
                    anyhow::bail!("the output ended: {error}");
                }
                self.print(&line)?;
                if let Some(cursor) = line["cursor"].as_str() {
                    self.cursor = Some(cursor.to_owned());
                }
            }
        }
    }

    /// Whether the session is there and not at rest.
    async fn may_write_more(&self) -> anyhow::Result<bool> {
        match self.client.get(&["sessions", &self.id]).await {
            Ok(answer) => {
                let session: Session = self.client.typed(&answer)?;
                Ok(!session.deleting && session.state == Goal::Running.state() && session.phase != "Failed")
            }
            Err(error) if error.exit_code() == 3 => Ok(false),
            Err(error) if error.is_passing() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn print(&self, line: &Value) -> anyhow::Result<()> {
        if self.args.remote.output == Output::Json {
            return print::text(&format!("{line}\n"));
        }
        let time = if self.args.timestamps { line["time"].as_str().unwrap_or("-") } else { "" };
        let space = if time.is_empty() { "" } else { " " };
        print::text(&format!("{time}{space}{}\n", line["message"].as_str().unwrap_or_default()))
    }
}

fn is_passing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<crate::client::ClientError>().is_some_and(crate::client::ClientError::is_passing)
}
