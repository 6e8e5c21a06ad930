//! Pages of the plugin as streams of the contract.
//!
//! The plugin is called anew for each page, so that a follower holds no instance while it waits for its reader, and goes
//! on with the next plugin when its own is replaced. The first page is read before the stream is handed out: what is
//! wrong from the start is the call's own status. Dropping a stream drops the call that is under way, and with it
//! everything that the call holds in the host and the backend.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use streamspace_proto::controller::v1::{LogEntry, SessionEvent};
use streamspace_runtime::contract::lifecycle::EventPage;
use streamspace_runtime::contract::observe::{LogPage, LogQuery};
use streamspace_runtime::contract::types::SessionRef;
use streamspace_runtime::{Backend, CallOptions};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};

use crate::breaker::Subject;
use crate::convert;
use crate::slot::Slot;

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
    slot: &Arc<Slot>,
    timeout: Duration,
    session: SessionRef,
    cursor: Option<String>,
    tail: Option<u32>,
    follow: bool,
) -> Result<impl Stream<Item = Result<LogEntry, Status>> + Send + use<>, Status> {
    let query = LogQuery { cursor, tail, limit: LOG_PAGE, wait_ms: 0 };
    let first = log_page(slot, timeout, session.clone(), query).await?;
    let next = behind(&first, None, follow);
    let slot = Arc::clone(slot);
    let pages = stream::try_unfold(next, move |query| {
        let (slot, session) = (Arc::clone(&slot), session.clone());
        async move {
            let Some(query) = query else { return Ok(None) };
            let before = query.cursor.clone();
            let asked = Instant::now();
            match log_page(&slot, PAGE_TIMEOUT, session, query).await {
                Ok(page) => {
                    let next = behind(&page, before, follow);
                    if page.entries.is_empty() && next.is_some() {
                        sleep_until(asked + PACE).await;
                    }
                    Ok(Some((page, next)))
                }
                // It was there when this began: it has no more to say.
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        }
    });
    let entries = stream::iter([Ok(first)])
        .chain(pages)
        .map_ok(|page| stream::iter(page.entries).map(|entry| Ok(convert::log_entry(entry))));
    Ok(entries.try_flatten())
}

async fn log_page(
    slot: &Slot,
    timeout: Duration,
    session: SessionRef,
    query: LogQuery,
) -> Result<LogPage, Status> {
    let subject = session.session_id.clone();
    let call =
        |backend: Backend| async move { backend.logs(CallOptions::read(timeout), session, query).await };
    slot.call(Subject::Session(&subject), call).await
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
    slot: &Arc<Slot>,
    timeout: Duration,
    cursor: Option<String>,
) -> Result<impl Stream<Item = Result<SessionEvent, Status>> + Send + use<>, Status> {
    let from_now_on = cursor.is_none();
    let mut first = event_page(slot, timeout, cursor, Duration::ZERO).await?;
    // Whoever has no cursor has to list now that changes are noted.
    first.resync |= from_now_on;
    let slot = Arc::clone(slot);
    let pages = stream::try_unfold(first.cursor.clone(), move |cursor| {
        let slot = Arc::clone(&slot);
        async move {
            let asked = Instant::now();
            let page = event_page(&slot, PAGE_TIMEOUT, Some(cursor), WAIT).await?;
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

async fn event_page(
    slot: &Slot,
    timeout: Duration,
    cursor: Option<String>,
    wait: Duration,
) -> Result<EventPage, Status> {
    let call =
        |backend: Backend| async move { backend.watch(CallOptions::read(timeout), cursor, wait).await };
    slot.call(Subject::Backend, call).await
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
