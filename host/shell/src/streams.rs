//! Pages of the plugin as streams of the contract.
//!
//! The plugin is called anew for each page, so that a follower holds no instance while it waits for its reader. The
//! first page is read before the stream is handed out: what is wrong from the start is the call's own status. Dropping
//! a stream drops the call that is under way, and with it everything that the call holds in the host and the backend.

use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use streamspace_proto::controller::v1::{LogEntry, SessionEvent};
use streamspace_runtime::contract::lifecycle::EventPage;
use streamspace_runtime::contract::observe::{LogPage, LogQuery};
use streamspace_runtime::contract::types::{ErrorKind, SessionRef};
use streamspace_runtime::{Backend, CallError, CallOptions};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::{convert, status};

/// Lines of one page of logs.
const LOG_PAGE: u32 = 500;

/// How long the plugin waits for the next line or event.
const WAIT: Duration = Duration::from_secs(20);

/// Least time between two empty pages, for plugins that do not wait although they are asked to.
const PACE: Duration = Duration::from_secs(1);

/// How long a page may take: the wait, a queue of other waiters, and the work.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The session's output from the start, behind a cursor, or `tail` lines before the end. One that is followed ends
/// without an error when the session stops or goes.
pub(crate) async fn logs(
    backend: &Backend,
    timeout: Duration,
    session: SessionRef,
    cursor: Option<String>,
    tail: Option<u32>,
    follow: bool,
) -> Result<impl Stream<Item = Result<LogEntry, Status>> + Send + use<>, Status> {
    let query = LogQuery { cursor, tail, limit: LOG_PAGE, wait_ms: 0 };
    let first = backend.logs(CallOptions::read(timeout), session.clone(), query).await.map_err(refused)?;
    let next = behind(&first, None, follow);
    let backend = backend.clone();
    let pages = stream::try_unfold(next, move |query| {
        let (backend, session) = (backend.clone(), session.clone());
        async move {
            let Some(query) = query else { return Ok(None) };
            let before = query.cursor.clone();
            let asked = Instant::now();
            match backend.logs(CallOptions::read(PAGE_TIMEOUT), session, query).await {
                Ok(page) => {
                    let next = behind(&page, before, follow);
                    if page.entries.is_empty() && next.is_some() {
                        sleep_until(asked + PACE).await;
                    }
                    Ok(Some((page, next)))
                }
                // It was there when this began: it has no more to say.
                Err(CallError::Backend(error)) if error.kind == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(refused(error)),
            }
        }
    });
    let entries = stream::iter([Ok(first)])
        .chain(pages)
        .map_ok(|page| stream::iter(page.entries).map(|entry| Ok(convert::log_entry(entry))));
    Ok(entries.try_flatten())
}

/// What to ask for behind a page; none = that was all.
fn behind(page: &LogPage, before: Option<String>, follow: bool) -> Option<LogQuery> {
    let cut = page.ext.iter().any(|(key, value)| key == "page.more" && value == "true");
    let full = cut || page.entries.len() >= LOG_PAGE as usize;
    (full || (follow && !page.ended)).then(|| LogQuery {
        cursor: page.cursor.clone().or(before),
        tail: None,
        limit: LOG_PAGE,
        wait_ms: if follow { WAIT.as_millis() as u32 } else { 0 },
    })
}

/// Changes as the backend reports them, until the backend cannot be asked any more.
pub(crate) async fn watch(
    backend: &Backend,
    timeout: Duration,
    cursor: Option<String>,
) -> Result<impl Stream<Item = Result<SessionEvent, Status>> + Send + use<>, Status> {
    let from_now_on = cursor.is_none();
    let mut first =
        backend.watch(CallOptions::read(timeout), cursor, Duration::ZERO).await.map_err(refused)?;
    // Whoever has no cursor has to list now that changes are noted.
    first.resync |= from_now_on;
    let backend = backend.clone();
    let pages = stream::try_unfold(first.cursor.clone(), move |cursor| {
        let backend = backend.clone();
        async move {
            let asked = Instant::now();
            let options = CallOptions::read(PAGE_TIMEOUT);
            let page = backend.watch(options, Some(cursor), WAIT).await.map_err(refused)?;
            if page.events.is_empty() {
                sleep_until(asked + PACE).await;
            }
            let cursor = page.cursor.clone();
            Ok(Some((page, cursor)))
        }
    });
    let events = stream::iter([Ok::<EventPage, Status>(first)])
        .chain(pages)
        .map_ok(|page| stream::iter(convert::session_events(page)).map(Ok));
    Ok(events.try_flatten())
}

fn refused(error: CallError) -> Status {
    status::of_call_error(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamspace_runtime::contract::observe;

    fn page(lines: usize, ended: bool, more: bool) -> LogPage {
        let entry = observe::LogEntry {
            time_ns: None,
            source: "stdout".into(),
            message: "x".into(),
            cursor: "c".into(),
        };
        LogPage {
            entries: vec![entry; lines],
            cursor: (lines > 0).then(|| "c".to_owned()),
            ended,
            ext: more.then(|| ("page.more".to_owned(), "true".to_owned())).into_iter().collect(),
        }
    }

    #[test]
    fn a_page_is_followed_by_another_until_nothing_more_can_come() {
        let next = |page: &LogPage, follow| behind(page, Some("before".into()), follow);
        assert!(next(&page(3, false, false), false).is_none(), "not followed: that was all");
        assert!(next(&page(3, false, true), false).is_some(), "cut short");
        assert!(next(&page(LOG_PAGE as usize, true, false), false).is_some(), "full, although it has ended");
        assert!(next(&page(3, true, false), true).is_none(), "followed to its end");
        let waits = next(&page(0, false, false), true).unwrap();
        assert_eq!((waits.cursor.as_deref(), waits.wait_ms), (Some("before"), 20_000));
    }
}
