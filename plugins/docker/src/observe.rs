//! What can be seen of a session from outside: its usage, its output, and what happens to it.

use streamspace_sdk::host::docker::{self, ContainerUsage, Event, LogLine};
use streamspace_sdk::{
    Call, Change, EventPage, LogEntry, LogPage, LogQuery, Result, SessionEvent, SessionRef, Usage,
};

use crate::{ENGINE, ends, labels, names};

/// Milliseconds that a call keeps for its answer when it waits for something to see.
const RESERVE_MS: u32 = 2000;

/// What the session uses.
pub(crate) fn metrics(session: &SessionRef) -> Result<Usage> {
    docker::container_stats(ENGINE, &names::container(&session.session_id)?).map(usage)
}

fn usage(usage: ContainerUsage) -> Usage {
    let millis = |nano: u64| u32::try_from(nano / 1_000_000).unwrap_or(u32::MAX);
    Usage {
        sampled_at_ms: usage.sampled_at_ms,
        memory_bytes: usage.memory_bytes,
        memory_limit_bytes: usage.memory_limit_bytes,
        cpu_ns: usage.cpu_ns,
        // The engine gives a counter; a rate takes two samples, and no call remembers the last.
        cpu_millis: None,
        cpu_limit_millis: usage.cpu_limit_nano.map(millis),
        network_rx_bytes: usage.network_rx_bytes,
        network_tx_bytes: usage.network_tx_bytes,
        disk_read_bytes: usage.block_read_bytes,
        disk_write_bytes: usage.block_write_bytes,
        ext: Vec::new(),
    }
}

/// A page of the session's output.
pub(crate) fn logs(call: &Call, session: &SessionRef, query: LogQuery) -> Result<LogPage> {
    let query = docker::LogQuery {
        cursor: query.cursor,
        tail: query.tail,
        limit: query.limit,
        wait_ms: within(call, query.wait_ms),
    };
    let page = docker::container_logs(ENGINE, &names::container(&session.session_id)?, &query)?;
    Ok(LogPage {
        entries: page.lines.into_iter().map(log_entry).collect(),
        cursor: page.cursor,
        ended: page.ended,
        ext: page.more.then(|| ("page.more".to_owned(), "true".to_owned())).into_iter().collect(),
    })
}

fn log_entry(line: LogLine) -> LogEntry {
    LogEntry {
        time_ns: line.time_ns,
        source: if line.is_error { "stderr" } else { "stdout" }.to_owned(),
        message: line.message,
        cursor: line.cursor,
    }
}

/// What happened to sessions.
pub(crate) fn watch(call: &Call, cursor: Option<&str>, wait_ms: u32) -> Result<EventPage> {
    let page = docker::events(ENGINE, cursor, within(call, wait_ms))?;
    for event in page.events.iter().filter(|event| event.action == "oom") {
        ends::note_oom(&event.id);
    }
    Ok(EventPage { events: changes(page.events), cursor: page.cursor, resync: page.resync, ext: Vec::new() })
}

fn within(call: &Call, wait_ms: u32) -> u32 {
    wait_ms.min(call.timeout_ms.saturating_sub(RESERVE_MS))
}

/// One change for each run of events of a session: a stop alone is told in three.
fn changes(events: Vec<Event>) -> Vec<SessionEvent> {
    let mut changes: Vec<SessionEvent> = Vec::new();
    for event in events {
        let Some(session_id) = labels::value(&event.labels, labels::SESSION) else { continue };
        // Under another name it is the session's, renamed, or a copy that somebody made: a look tells.
        let is_session = names::container(session_id).is_ok_and(|name| name == event.name);
        let change = if is_session && event.action == "destroy" { Change::Gone } else { Change::Touched };
        let change = SessionEvent { session_id: session_id.to_owned(), external_ref: None, change };
        if changes.last() != Some(&change) {
            changes.push(change);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, session: &str, action: &str) -> Event {
        Event {
            action: action.to_owned(),
            name: name.to_owned(),
            id: "x".to_owned(),
            labels: vec![(labels::SESSION.to_owned(), session.to_owned())],
            time_ns: 1,
        }
    }

    #[test]
    fn events_become_changes_of_sessions() {
        let seen = changes(vec![
            event("ss-a", "a", "kill"),
            event("ss-a", "a", "die"),
            event("ss-b", "b", "start"),
            event("ss-a", "a", "destroy"),
            event("ss-copy", "a", "start"),
            event("ss-copy", "a", "destroy"),
            event("ss-b", "b", "rename"),
            Event { labels: vec![], ..event("ss-c", "c", "start") },
        ]);
        let seen: Vec<_> =
            seen.iter().map(|event| (event.session_id.as_str(), event.change == Change::Gone)).collect();
        assert_eq!(seen, [("a", false), ("b", false), ("a", true), ("a", false), ("b", false)]);
    }

    #[test]
    fn the_processors_limit_is_told_in_thousandths() {
        let sample = ContainerUsage {
            sampled_at_ms: 5,
            cpu_ns: Some(1),
            cpu_limit_nano: Some(1_500_000_000),
            memory_bytes: None,
            memory_limit_bytes: None,
            network_rx_bytes: None,
            network_tx_bytes: None,
            block_read_bytes: None,
            block_write_bytes: Some(7),
            ext: vec![],
        };
        let usage = usage(sample);
        assert_eq!((usage.cpu_limit_millis, usage.cpu_millis, usage.memory_bytes), (Some(1500), None, None));
        assert_eq!((usage.disk_read_bytes, usage.disk_write_bytes), (None, Some(7)));
    }
}
