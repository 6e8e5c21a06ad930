//! `GET /api/v1/sessions/{id}/logs`: what a session wrote, as a page or as it comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use futures::future;
use futures::stream::{self, Stream, StreamExt as _};
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::json;
use streamspace_proto::controller::v1 as proto;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status, Streaming};
use utoipa::ToSchema;

use super::auth::Caller;
use super::backend::{client_of, problem};
use super::extract::{Json, ParameterSet, Parameters, Path, Query};
use super::openapi::Refused;
use super::problem::{FieldError, Problem};
use super::sessions::VisibleRecord;
use super::usage::time;
use crate::changes::Listener;
use crate::control::Shared;
use crate::domain::{Session, SessionSpec};
use crate::fleet::CallError;
use crate::slots::Slot;

/// Lines on a page, if the caller does not say, and at most.
const LARGEST_LIMIT: u32 = 1000;
/// Lines before the end that may be asked for.
const LONGEST_TAIL: u32 = 10_000;
/// A page ends with the line that makes it larger than this, in bytes.
const LARGEST_PAGE: usize = 1 << 20;
/// The longest cursor of a controller, in bytes.
const LONGEST_CURSOR: usize = 4096;
/// A failure that comes so soon is the answer; a later one is the last line.
const FIRST_LINE: Duration = Duration::from_millis(500);
/// A client that left without a word must not be followed for ever. One that is there goes on with its cursor.
const LONGEST_FOLLOW: Duration = Duration::from_secs(3600);

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `{items, next_cursor}`.
    Page,
    /// A JSON object a line.
    Lines,
    /// What the session wrote, and nothing else.
    Text,
}

impl Form {
    /// The first type of `Accept` that can be given; its weights are not looked at.
    fn negotiate(headers: &HeaderMap, follow: bool) -> Self {
        let default = if follow { Self::Lines } else { Self::Page };
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let known = |kind: &str| match kind.split(';').next().unwrap_or_default().trim() {
            "text/plain" => Some(Self::Text),
            "application/x-ndjson" => Some(Self::Lines),
            "application/json" | "application/*" | "*/*" => Some(default),
            _ => None,
        };
        accepted.flat_map(|value| value.split(',')).find_map(known).unwrap_or(default)
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Page => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    fn write(self, line: &LineView) -> String {
        match self {
            Self::Text => format!("{}\n", line.message),
            // The type always serializes.
            Self::Page | Self::Lines => format!("{}\n", serde_json::to_string(line).unwrap_or_default()),
        }
    }
}

/// A line of output.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(crate) struct LineView {
    /// When it was written, if that is known.
    #[schema(required)]
    time: Option<DateTime<Utc>>,
    /// `stdout` or `stderr`, where the backend tells them apart.
    stream: String,
    message: String,
    /// Its place: as `cursor` it goes on behind this line.
    cursor: String,
}

impl LineView {
    /// What the session was given as a secret is not shown to those who read its output.
    fn new(entry: proto::LogEntry, spec: &SessionSpec) -> Self {
        let message = entry.message.strip_suffix('\n').unwrap_or(&entry.message);
        Self {
            time: entry.timestamp.as_ref().and_then(time),
            stream: entry.stream,
            message: spec.without_secrets(message),
            cursor: entry.cursor,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = LogPage)]
struct Page<'a> {
    items: &'a [LineView],
    #[schema(required)]
    next_cursor: Option<&'a str>,
}

/// What is wanted of the output.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Lines as they come, until the session ends or the client leaves.
    #[param(default = false, required = false)]
    follow: bool,
    /// Begin so many lines before the end.
    #[param(minimum = 1, maximum = 10000)]
    tail: Option<u32>,
    /// Go on behind the line that had this cursor.
    #[param(min_length = 1, max_length = 4096)]
    cursor: Option<String>,
    /// Lines on a page; does not go with `follow`.
    #[param(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u32>,
}

impl ParameterSet for Wanted {
    fn take(given: &mut Parameters) -> Self {
        let follow = given.flag("follow");
        Self {
            follow,
            tail: given.number("tail", LONGEST_TAIL),
            cursor: given.take("cursor", |text| match text.len() {
                1..=LONGEST_CURSOR => Ok(text.to_owned()),
                _ => Err("not a cursor of an earlier line".to_owned()),
            }),
            limit: if follow {
                given.take("limit", |_| Err("does not go with follow".to_owned()))
            } else {
                given.number("limit", LARGEST_LIMIT)
            },
        }
    }
}

/// Read what a session wrote
///
/// A page of JSON, or with `Accept: application/x-ndjson` a JSON object a line, or with `Accept: text/plain` the text
/// alone. With `follow=true` the answer goes on as lines come, as `application/x-ndjson` unless `text/plain` is accepted;
/// a failure after its beginning is a last line `{"error": …}`.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}/logs",
    operation_id = "get_session_logs",
    tag = "Watching",
    params(Wanted, VisibleRecord),
    responses(
        (
            status = 200,
            description = "A page, or lines as they come.",
            content(
                (Page<'_> = "application/json"),
                (LineView = "application/x-ndjson"),
                (String = "text/plain"),
            ),
        ),
        Refused<400>,
        Refused<409>,
        Refused<429>,
        Refused<502>,
        Refused<503>,
    ),
)]
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
    Path(VisibleRecord(record)): Path<VisibleRecord>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = Form::negotiate(&headers, wanted.follow);
    let lines = match read(shared, &caller, record.session, wanted).await? {
        Output::Page { lines, more } => return Ok(page(&lines, more, form)),
        Output::Follower(follower) => follower.lines(),
    };
    let lines = lines.filter_map(move |line| {
        let text = match line {
            Ok(line) => Some(form.write(&line)),
            // The head of the answer is gone already: the failure is its last line.
            Err(error) => (form == Form::Lines).then(|| format!("{}\n", json!({ "error": error }))),
        };
        future::ready(text.map(|text| Ok::<_, Infallible>(Bytes::from(text))))
    });
    let headers = [
        (header::CONTENT_TYPE, form.content_type()),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that collect an answer first would show nothing for a long time.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// What a session wrote.
pub(crate) enum Output {
    /// What there is of it.
    Page {
        lines: Vec<LineView>,
        /// There are lines behind them.
        more: bool,
    },
    /// All of it, as it comes.
    Follower(Box<Follower>),
}

/// Begins to read what a session writes.
pub(crate) async fn read(
    shared: Arc<Shared>,
    caller: &Caller,
    session: Session,
    wanted: Wanted,
) -> Result<Output, Problem> {
    let Wanted { follow, tail, cursor, limit } = wanted;
    let client = client_of(&shared, &session)?;
    let slot = shared.kept.followers.take(&caller.user_id);
    let slot = slot.ok_or_else(|| Problem::too_many("too many requests read the output of sessions"))?;
    // From here on a deletion is heard of.
    let changes = shared.changes.subscribe();
    let request = proto::GetSessionLogsRequest {
        session_id: session.id.to_string(),
        node_id: session.node_id.clone(),
        follow,
        tail_lines: tail.and_then(|lines| i32::try_from(lines).ok()).unwrap_or(0),
        cursor: cursor.unwrap_or_default(),
    };
    let refused = Refusal { spec: &session.spec, has_cursor: !request.cursor.is_empty() };
    let deadline = Instant::now() + shared.config.call_timeout;
    let entries = client.logs(request, shared.config.call_timeout).await;
    let mut entries = entries.map_err(|error| refused.because_of(&error))?;

    if !follow {
        return collect(&refused, &mut entries, limit.unwrap_or(LARGEST_LIMIT), deadline).await;
    }
    let first = match tokio::time::timeout(FIRST_LINE, entries.message()).await {
        Ok(Ok(Some(entry))) => First::Line(entry),
        Ok(Ok(None)) => First::End,
        Ok(Err(status)) => return Err(refused.because_of(&status.into())),
        Err(_) => First::None,
    };
    let until = Instant::now() + LONGEST_FOLLOW;
    let follower = Follower { shared, session, entries, first, changes, until, _slot: slot };
    Ok(Output::Follower(Box::new(follower)))
}

/// What a controller's failure means to whoever reads the output of a session.
struct Refusal<'a> {
    spec: &'a SessionSpec,
    has_cursor: bool,
}

impl Refusal<'_> {
    /// Only the controller knows its cursors; of all that is sent to it, only a cursor is the caller's own text.
    fn because_of(&self, error: &CallError) -> Problem {
        if self.has_cursor && error.from_controller && error.code == Code::InvalidArgument {
            return Problem::bad_request(vec![FieldError::new("cursor", "not a cursor of an earlier line")]);
        }
        problem(self.spec, error)
    }
}

async fn collect(
    refused: &Refusal<'_>,
    entries: &mut Streaming<proto::LogEntry>,
    limit: u32,
    deadline: Instant,
) -> Result<Output, Problem> {
    let mut lines = Vec::new();
    let mut size = 0;
    let mut more = false;
    loop {
        let next = timeout_at(deadline, entries.message()).await;
        let next = next.unwrap_or_else(|_| Err(Status::deadline_exceeded("the output did not come in time")));
        match next {
            Ok(None) => break,
            Ok(Some(_)) if lines.len() >= limit as usize || size >= LARGEST_PAGE => {
                more = true;
                break;
            }
            Ok(Some(entry)) => {
                let line = LineView::new(entry, refused.spec);
                size += line.message.len();
                lines.push(line);
            }
            Err(status) => return Err(refused.because_of(&CallError::from(status))),
        }
    }
    Ok(Output::Page { lines, more })
}

fn page(lines: &[LineView], more: bool, form: Form) -> Response {
    if form == Form::Page {
        let next_cursor = lines.last().filter(|_| more).map(|last| last.cursor.as_str());
        return Json(Page { items: lines, next_cursor }).into_response();
    }
    let text: String = lines.iter().map(|line| form.write(line)).collect();
    ([(header::CONTENT_TYPE, form.content_type())], text).into_response()
}

/// What came before the answer began.
enum First {
    None,
    Line(proto::LogEntry),
    End,
}

/// A request that follows. Dropping it drops the stream of the controller: that is how the controller learns that
/// nobody reads any more.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    session: Session,
    entries: Streaming<proto::LogEntry>,
    first: First,
    changes: Listener,
    until: Instant,
    _slot: Slot,
}

impl Follower {
    /// Line after line. A failure is the last.
    pub(crate) fn lines(self) -> impl Stream<Item = Result<LineView, Problem>> + Send + 'static {
        stream::unfold(self, |mut follower| async move {
            let line = follower.next().await?;
            Some((line, follower))
        })
    }

    /// The next line; `None` = it ends.
    async fn next(&mut self) -> Option<Result<LineView, Problem>> {
        match std::mem::replace(&mut self.first, First::None) {
            First::Line(entry) => return Some(Ok(LineView::new(entry, &self.session.spec))),
            First::End => return None,
            First::None => {}
        }
        let stopping = self.shared.stopping.clone();
        loop {
            let entry = tokio::select! {
                entry = self.entries.message() => entry,
                () = self.changes.changed(&self.session.id) => {
                    let owner = self.shared.store.session_owner(&self.session.id).await;
                    if matches!(owner, Ok(None)) {
                        return None;
                    }
                    continue;
                }
                () = stopping.cancelled() => return None,
                () = tokio::time::sleep_until(self.until) => return None,
            };
            return match entry {
                Ok(Some(entry)) => Some(Ok(LineView::new(entry, &self.session.spec))),
                Ok(None) => None,
                Err(status) => {
                    self.first = First::End;
                    Some(Err(problem(&self.session.spec, &status.into())))
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn forms() {
        let form = |accept: &'static str, follow| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            Form::negotiate(&headers, follow)
        };
        assert_eq!((form("*/*", false), form("*/*", true)), (Form::Page, Form::Lines));
        assert_eq!((form("image/png", false), form("", true)), (Form::Page, Form::Lines));
        assert_eq!(form("text/plain;q=0.5, */*", false), Form::Text);
        assert_eq!(form("application/x-ndjson", false), Form::Lines);
        assert_eq!(form("application/json", true), Form::Lines);
    }
}
