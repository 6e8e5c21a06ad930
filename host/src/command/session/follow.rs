//! `streamspace session logs`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::{Method, Response};
use serde_json::Value;

use super::goal::Goal;
use super::model::Session;
use super::resolve;
use crate::client::{Client, ClientError, Page};
use crate::command::Remote;
use crate::output::Output;
use crate::print;

/// How long a server may be away. Long enough for it to start again.
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
    if reader.args.follow { reader.follow(PATIENCE, PAUSE).await } else { reader.pages().await }
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
    async fn follow(&mut self, patience: Duration, pause: Duration) -> anyhow::Result<ExitCode> {
        // A session may be silent for as long as it likes; only failures in a row count.
        let mut failing_since: Option<Instant> = None;
        loop {
            match self.connect().await {
                Ok(response) => {
                    failing_since = None;
                    self.stream(response).await?;
                    if !self.may_write_more().await? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Err(error) => {
                    let tired = failing_since.get_or_insert_with(Instant::now).elapsed() > patience;
                    if tired || !error.is_passing() {
                        return Err(error.into());
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(&self) -> Result<Response, ClientError> {
        let path = ["sessions", &self.id, "logs"];
        let follow = ("follow", "true".to_owned());
        let query: Vec<_> = self.query().into_iter().chain([follow]).collect();
        self.client.call(Method::GET, &path).query(&query).stream().await
    }

    async fn stream(&mut self, mut response: Response) -> anyhow::Result<()> {
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
        print::foreign_line(&format!("{time}{space}{}", line["message"].as_str().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use clap::Parser as _;
    use futures::StreamExt as _;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::client::client_of;
    use crate::command::session::SessionCommand;

    const ID: &str = "01980c5e-7b1f-7a3c-9d52-4be9a3c6f001";
    const SHORT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(10);

    /// A server that is away, except when it is asked for the first time, and then from the third on if it comes
    /// back. Its session is silent for longer than anybody is patient.
    async fn reader(comes_back: bool) -> Reader {
        let calls = Arc::new(AtomicUsize::new(0));
        let logs = get(move || {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                match call {
                    0 => {
                        let silence = futures::stream::once(async {
                            tokio::time::sleep(SHORT * 3 / 2).await;
                            Ok::<_, std::convert::Infallible>("")
                        });
                        (StatusCode::OK, Body::from_stream(silence.boxed()))
                    }
                    2.. if comes_back => (StatusCode::OK, Body::empty()),
                    _ => (StatusCode::SERVICE_UNAVAILABLE, Body::empty()),
                }
            }
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let session = get(move || {
            let state = if asked.fetch_add(1, Ordering::Relaxed) == 0 { "running" } else { "hibernated" };
            async move {
                axum::Json(json!({
                    "id": ID, "user_id": "a", "state": state, "phase": "Running",
                    "created_at": "2026-01-01T00:00:00Z",
                }))
            }
        });
        let router = Router::new()
            .route("/base/api/v1/sessions/{id}/logs", logs)
            .route("/base/api/v1/sessions/{id}", session);
        let client = client_of(router).await;
        let Command::Session(SessionCommand::Logs(args)) =
            Cli::try_parse_from(["streamspace", "session", "logs", ID, "--follow"]).unwrap().command
        else {
            panic!("another command");
        };
        Reader { client, id: ID.to_owned(), args, cursor: None }
    }

    #[tokio::test]
    async fn a_server_may_be_away_after_a_long_silence() {
        let code = reader(true).await.follow(SHORT, PAUSE).await.unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }

    #[tokio::test]
    async fn a_server_that_stays_away_is_given_up() {
        let error = reader(false).await.follow(SHORT, PAUSE).await.unwrap_err();
        assert_eq!(error.downcast::<ClientError>().unwrap().exit_code(), 5);
    }
}
