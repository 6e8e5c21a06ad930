//! A container's output, page by page: every line once, over any number of pages and starts.
//!
//! The engine keeps no positions. It can only leave out what is older than a whole second (that is how its client
//! sends `since`), and several entries may bear the same time, or an older one than the entry before: standard output
//! and standard error are noted by two threads, and all parts of a long line bear the time of its first. So a
//! [`Position`] counts entries from a second on, in the order in which the engine gives them, which never changes.

use std::collections::VecDeque;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures::{Stream, StreamExt as _};
use streamspace_bindings::imports::docker::{ContainerState, LogLine, LogPage, LogQuery};
use streamspace_bindings::types::{Error, ErrorKind};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::endpoint::DockerEndpoint;
use super::error;
use super::failure::translate;
use crate::capability::text::beginning;

/// Lines of a page at most.
const MAX_LINES: usize = 1000;

/// Bytes of text after which a page is full.
const MAX_PAGE: usize = 1 << 20;

/// Bytes of a line; a longer one comes in parts. The engine itself cuts lines into entries of 16 KiB.
const MAX_LINE: usize = 64 << 10;

/// Bytes of the last lines that are looked for.
const MAX_TAIL: usize = 8 << 20;

/// Bytes that a line takes beside its text.
const OVERHEAD: usize = 128;

/// Last lines that can fit into that.
const MAX_TAIL_LINES: u32 = (MAX_TAIL / OVERHEAD) as u32;

/// Longest wait for a line.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What comes within this time after a line goes into the same page.
const QUIET: Duration = Duration::from_millis(20);

/// Between two looks at a container that is about to be started again.
const RESTART_POLL: Duration = Duration::from_millis(250);

/// Seconds by which times may be out of order.
const SLACK: u64 = 2;

const SECOND: u64 = 1_000_000_000;

/// Where a reader is: behind the first `seen` entries since the second `since`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    since: u64,
    seen: u64,
    /// Time of the last entry in nanoseconds: tells whether the count still means what it did.
    last: u64,
    /// The latest second of any entry: what is much later has not been counted.
    newest: u64,
    /// A later second from which entries are counted as well, and how many they are.
    next: Option<(u64, u64)>,
}

impl Position {
    fn since(second: u64) -> Self {
        Self { since: second, newest: second, ..Self::default() }
    }

    /// Goes behind one more entry. Counts from a later second as soon as that is safe: everything before it is older,
    /// everything behind it is not, and no part of an unfinished line (which is as old as its beginning) will come.
    fn pass(&mut self, time: u64, in_line: bool) {
        let second = time / SECOND;
        self.seen += 1;
        self.last = time;
        match &mut self.next {
            Some((start, seen)) if second >= *start => *seen += 1,
            Some(_) => self.next = None,
            None if second > self.newest => self.next = Some((second, 1)),
            None => {}
        }
        self.newest = self.newest.max(second);
        if let Some((start, seen)) = self.next
            && second >= start + SLACK
            && !in_line
            && i32::try_from(start).is_ok()
        {
            (self.since, self.seen, self.next) = (start, seen, None);
        }
    }

    fn cursor(&self, container: &str) -> String {
        format!("{}.{}.{}.{}.{}", mark(container), self.since, self.seen, self.last, self.newest)
    }
}

/// Enough of a container's id: a container of the same name that was made anew has another log.
fn mark(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

/// Reads a cursor. None for one of another container.
fn parse_cursor(text: &str, container: &str) -> Result<Option<Position>, Error> {
    let parse = || {
        let mut parts = text.split('.');
        let of = parts.next()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (since, seen, last, newest) = (number()?, number()?, number()?, number()?);
        i32::try_from(since).ok()?;
        let position = Position { since, seen, last, newest, next: None };
        parts.next().is_none().then_some((of, position))
    };
    let Some((of, position)) = parse() else {
        return Err(Error {
            field: Some("cursor".to_owned()),
            ..error(ErrorKind::Invalid, format!("`{}` is no cursor of a log", beginning(text)))
        });
    };
    Ok((of == mark(container)).then_some(position))
}

/// What the reader has seen already, among the entries since a second.
#[derive(Clone, Copy, Debug)]
enum Skip {
    /// As many of the first as the position says.
    Counted(Position),
    /// All up to this time: the engine has thrown away a part of the log, so that the count is of no use.
    Until(u64),
}

/// An entry of the engine's log: a line, or a part of one.
struct Entry {
    is_error: bool,
    time: u64,
    text: Vec<u8>,
    /// Whether the line ends here.
    ends: bool,
}

impl Entry {
    fn new(output: LogOutput, last: u64) -> Self {
        let is_error = matches!(output, LogOutput::StdErr { .. });
        let bytes = output.into_bytes();
        let stamped = bytes.iter().position(|byte| *byte == b' ').and_then(|space| {
            let time =
                chrono::DateTime::parse_from_rfc3339(std::str::from_utf8(&bytes[..space]).ok()?).ok()?;
            let time = u64::try_from(time.timestamp_nanos_opt()?).ok()?;
            Some((time, &bytes[space + 1..]))
        });
        let (time, text) = stamped.unwrap_or((last, &bytes));
        let ends = text.ends_with(b"\n");
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        // A terminal ends its lines with both.
        let text = text.strip_suffix(b"\r").filter(|_| ends).unwrap_or(text);
        Self { is_error, time, text: text.to_vec(), ends }
    }
}

/// Makes lines of entries.
struct Lines {
    container: String,
    skip: Skip,
    skipped: u64,
    position: Position,
    /// Whether the last entry of standard output, and of standard error, left its line unfinished.
    unfinished: [bool; 2],
    pending: Option<(Entry, Position)>,
    done: VecDeque<LogLine>,
    bytes: usize,
    /// Only so many of the last lines are kept.
    tail: Option<usize>,
}

/// The log is not what the position was counted in.
#[derive(Debug, PartialEq, Eq)]
struct Rotated;

/// How far a reading came.
enum Reading {
    /// To the end of what there is.
    Whole,
    /// Until the page was full.
    Full,
    /// Until the time was up, or something failed.
    Part,
    /// Not anywhere.
    Rotated,
}

impl Lines {
    fn new(container: &str, since: u64, skip: Skip, tail: Option<usize>) -> Self {
        Self {
            container: container.to_owned(),
            skip,
            skipped: 0,
            position: Position::since(since),
            unfinished: [false; 2],
            pending: None,
            done: VecDeque::new(),
            bytes: 0,
            tail,
        }
    }

    fn take(&mut self, entry: Entry) -> Result<(), Rotated> {
        self.unfinished[usize::from(entry.is_error)] = !entry.ends;
        self.position.pass(entry.time, self.unfinished.contains(&true));
        match self.skip {
            Skip::Counted(behind) if self.skipped < behind.seen => {
                self.skipped += 1;
                let overrun = entry.time / SECOND > behind.newest.saturating_add(SLACK);
                let other = self.skipped == behind.seen && entry.time != behind.last;
                return if overrun || other { Err(Rotated) } else { Ok(()) };
            }
            Skip::Until(time) if entry.time <= time => return Ok(()),
            _ => {}
        }
        let continues = self.pending.as_ref().is_some_and(|(pending, _)| {
            pending.is_error == entry.is_error
                && pending.time == entry.time
                && pending.text.len() + entry.text.len() <= MAX_LINE
        });
        if !continues {
            self.flush();
        }
        let ends = entry.ends;
        match &mut self.pending {
            Some((pending, position)) => {
                pending.text.extend_from_slice(&entry.text);
                *position = self.position;
            }
            None => self.pending = Some((entry, self.position)),
        }
        if ends {
            self.flush();
        }
        Ok(())
    }

    /// Takes an unfinished line for a line.
    fn flush(&mut self) {
        let Some((entry, position)) = self.pending.take() else { return };
        self.bytes += entry.text.len() + OVERHEAD;
        self.done.push_back(LogLine {
            time_ns: Some(entry.time),
            is_error: entry.is_error,
            message: String::from_utf8_lossy(&entry.text).into_owned(),
            cursor: position.cursor(&self.container),
        });
        let Some(tail) = self.tail else { return };
        while self.done.len() > tail || self.bytes > MAX_TAIL {
            let Some(line) = self.done.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(line.message.len() + OVERHEAD);
        }
    }

    fn is_full(&self, limit: usize) -> bool {
        self.tail.is_none() && (self.done.len() >= limit || self.bytes >= MAX_PAGE)
    }

    /// Whether there were fewer entries than the reader has seen already.
    fn is_short(&self) -> bool {
        matches!(self.skip, Skip::Counted(behind) if self.skipped < behind.seen)
    }

    /// The page, and whether all lines are in it.
    fn into_page(mut self, limit: usize, before: Option<String>) -> (LogPage, bool) {
        let whole = self.done.len() <= limit;
        self.done.truncate(limit);
        let seen = (self.position.seen > 0).then(|| self.position.cursor(&self.container));
        let last = self.done.back().map(|line| line.cursor.clone());
        // Without lines the reader stays where it was; only the end of a tail of nothing has to be told.
        let cursor = last.or(before).or(if self.tail.is_some() { seen } else { None });
        (LogPage { lines: self.done.into(), cursor, more: !whole, ended: false }, whole)
    }
}

impl DockerEndpoint {
    pub(super) async fn container_logs(&self, name: &str, query: LogQuery) -> Result<LogPage, Error> {
        let wait = Duration::from_millis(query.wait_ms.into()).min(LONGEST_WAIT);
        let deadline = Instant::now() + wait;
        let limit = (query.limit as usize).clamp(1, MAX_LINES);
        loop {
            let container = self.own_container(name).await?;
            let runs = matches!(
                container.state,
                ContainerState::Running | ContainerState::Paused | ContainerState::Restarting
            );
            let follow = runs && Instant::now() < deadline;
            let (mut page, whole) =
                self.read_page(&container.id, &query, limit, follow.then_some(deadline)).await?;
            // Only a look that began after the container had ended has seen everything.
            page.ended = !runs && whole;
            if !page.lines.is_empty() || !runs || Instant::now() >= deadline {
                return Ok(page);
            }
            // It ended, or is about to be started again: the next round tells.
            sleep(RESTART_POLL.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Reads once, behind the cursor or from the tail; with a deadline, waits until then for the first line.
    async fn read_page(
        &self,
        id: &str,
        query: &LogQuery,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Result<(LogPage, bool), Error> {
        let behind = query.cursor.as_deref().map(|cursor| parse_cursor(cursor, id)).transpose()?;
        let tail = query.tail.map(|tail| tail.min(MAX_TAIL_LINES));
        let (since, skip, tail) = match (behind, tail) {
            (Some(Some(position)), _) => (position.since, Skip::Counted(position), None),
            (None, Some(tail)) => match self.time_of_tail(id, tail).await? {
                Some(time) => {
                    let since = (time / SECOND).saturating_sub(SLACK);
                    (since, Skip::Counted(Position::default()), Some(tail as usize))
                }
                None => (0, Skip::Counted(Position::default()), None),
            },
            _ => (0, Skip::Counted(Position::default()), None),
        };
        // The end of a tail has to be found before anything can be waited for.
        let deadline = deadline.filter(|_| tail.is_none());
        let before = query.cursor.clone().filter(|_| matches!(behind, Some(Some(_))));
        let mut lines = Lines::new(id, since, skip, tail);
        let mut reading = self.read(id, &mut lines, limit, deadline).await?;
        if let (Reading::Rotated, Some(Some(position))) = (&reading, behind) {
            tracing::debug!(container = id, "the log has lost its beginning");
            lines = Lines::new(id, since, Skip::Until(position.last), None);
            // What there is comes at once; when the time is up there is nothing to wait for any more.
            let deadline = deadline.filter(|deadline| Instant::now() < *deadline);
            reading = self.read(id, &mut lines, limit, deadline).await?;
        }
        let (mut page, all) = lines.into_page(limit, before);
        page.more |= matches!(reading, Reading::Full);
        Ok((page, all && matches!(reading, Reading::Whole)))
    }

    async fn read(
        &self,
        id: &str,
        lines: &mut Lines,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Result<Reading, Error> {
        let mut output = Box::pin(self.output(id, deadline.is_some(), lines.position.since, None).await?);
        loop {
            let next = match deadline {
                None => output.next().await,
                Some(deadline) if lines.done.is_empty() => match timeout_at(deadline, output.next()).await {
                    Ok(next) => next,
                    Err(_) if lines.is_short() => return Ok(Reading::Rotated),
                    Err(_) => return Ok(Reading::Part),
                },
                // An unfinished line is left for the next page, which finds the rest of it, too.
                Some(_) => match timeout(QUIET, output.next()).await {
                    Ok(next) => next,
                    Err(_) => return Ok(Reading::Part),
                },
            };
            match next {
                Some(Ok(output)) => {
                    if let Err(Rotated) = lines.take(Entry::new(output, lines.position.last)) {
                        return Ok(Reading::Rotated);
                    }
                    if lines.is_full(limit) {
                        return Ok(Reading::Full);
                    }
                }
                // What was read is good; the next page will meet the failure again.
                Some(Err(_)) if !lines.done.is_empty() => return Ok(Reading::Part),
                Some(Err(failure)) => return Err(translate(failure)),
                // What is left of the log was taken for what the reader has seen.
                None if lines.is_short() => return Ok(Reading::Rotated),
                None => {
                    lines.flush();
                    return Ok(Reading::Whole);
                }
            }
        }
    }

    /// Time of the first of the last entries.
    async fn time_of_tail(&self, id: &str, tail: u32) -> Result<Option<u64>, Error> {
        let mut output = Box::pin(self.output(id, false, 0, Some(tail.max(1))).await?);
        match output.next().await {
            Some(Ok(first)) => Ok(Some(Entry::new(first, 0).time)),
            Some(Err(failure)) => Err(translate(failure)),
            None => Ok(None),
        }
    }

    async fn output(
        &self,
        id: &str,
        follow: bool,
        since: u64,
        tail: Option<u32>,
    ) -> Result<impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + use<>, Error> {
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            since: i32::try_from(since).unwrap_or_default(),
            until: 0,
            timestamps: true,
            tail: tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        };
        Ok(self.client().await?.logs(id, Some(options)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINER: &str = "0123456789abcdef";

    /// An entry as the engine writes it.
    fn entry(is_error: bool, time: u64, text: &str) -> Entry {
        let stamp = chrono::DateTime::from_timestamp_nanos(time as i64);
        let message = format!("{} {text}", stamp.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)).into();
        Entry::new(if is_error { LogOutput::StdErr { message } } else { LogOutput::StdOut { message } }, 0)
    }

    /// Reads a log in pages, as the engine gives it to somebody who asks for entries since a second.
    fn in_pages(log: &[(bool, u64, &str)], limit: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let behind = cursor.as_deref().map(|text| parse_cursor(text, CONTAINER).unwrap().unwrap());
            let behind = behind.unwrap_or_default();
            let mut lines = Lines::new(CONTAINER, behind.since, Skip::Counted(behind), None);
            for (is_error, time, text) in log.iter().filter(|(_, time, _)| time / SECOND >= behind.since) {
                lines.take(entry(*is_error, *time, text)).unwrap();
                if lines.is_full(limit) {
                    break;
                }
            }
            lines.flush();
            let (page, _) = lines.into_page(limit, cursor.clone());
            if page.lines.is_empty() {
                return all;
            }
            cursor = page.cursor;
            all.extend(page.lines.into_iter().map(|line| line.message));
        }
    }

    #[test]
    fn every_line_comes_once_whatever_its_time() {
        const S: u64 = SECOND;
        let log: Vec<(bool, u64, &str)> = vec![
            (false, 100 * S + 5, "a\n"),
            (true, 100 * S + 5, "b\n"),
            (false, 100 * S + 5, "c\n"),
            // Noted by two threads: out of order, also over the turn of a second.
            (true, 101 * S, "d\n"),
            (false, 101 * S - 1, "e\n"),
            (false, 104 * S, "f\n"),
            (true, 103 * S, "g\n"),
            (false, 108 * S, "h\n"),
            (false, 109 * S, "i\n"),
            (false, 109 * S, "\n"),
            (false, 112 * S, "j\n"),
            (false, 120 * S, "k\n"),
            (false, 130 * S, "l without an end"),
        ];
        let whole = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "", "j", "k", "l without an end"];
        for limit in 1..=log.len() + 1 {
            assert_eq!(in_pages(&log, limit), whole, "in pages of {limit}");
        }
    }

    #[test]
    fn the_parts_of_a_long_line_are_put_together_up_to_a_limit() {
        let part = "x".repeat(16 << 10);
        let mut log: Vec<(bool, u64, &str)> = vec![(false, 9 * SECOND, part.as_str()); 5];
        // The rest of a line is as old as its beginning, however late it comes.
        log.push((true, 20 * SECOND, "between\n"));
        log.push((false, 9 * SECOND, "end\n"));
        log.push((false, 21 * SECOND, "next\n"));
        for limit in [1, 2, 10] {
            let lines = in_pages(&log, limit);
            let lengths: Vec<_> = lines.iter().map(String::len).collect();
            assert_eq!(lengths, [MAX_LINE, 16 << 10, 7, 3, 4], "in pages of {limit}");
        }
    }

    #[test]
    fn counting_starts_over_where_that_is_safe() {
        let mut position = Position::default();
        for time in [100, 100, 101, 102, 103, 103, 104, 105] {
            position.pass(time * SECOND, false);
        }
        assert_eq!((position.since, position.seen), (103, 4));
        let mut open = Position::default();
        for time in [100, 104, 108] {
            open.pass(time * SECOND, true);
        }
        assert_eq!((open.since, open.seen), (0, 3), "never past the beginning of an unfinished line");
    }

    #[test]
    fn a_log_that_lost_its_beginning_is_noticed() {
        let behind = Position { seen: 3, last: 100 * SECOND + 7, newest: 100, ..Position::since(100) };
        let mut other = Lines::new(CONTAINER, 100, Skip::Counted(behind), None);
        other.take(entry(false, 100 * SECOND + 7, "a\n")).unwrap();
        other.take(entry(false, 100 * SECOND + 8, "b\n")).unwrap();
        assert_eq!(other.take(entry(false, 101 * SECOND, "c\n")), Err(Rotated), "not the entry it was");
        let mut short = Lines::new(CONTAINER, 100, Skip::Counted(behind), None);
        assert_eq!(short.take(entry(false, 200 * SECOND, "z\n")), Err(Rotated), "far behind it");

        // Its last lines came soon after those that are gone, and nothing comes after them.
        let mut last = Lines::new(CONTAINER, 100, Skip::Counted(behind), None);
        last.take(entry(false, 100 * SECOND + 8, "y\n")).unwrap();
        assert!(last.is_short(), "fewer entries than were seen");
        last.take(entry(false, 100 * SECOND + 8, "y\n")).unwrap();
        let _ = last.take(entry(false, 100 * SECOND + 7, "a\n"));
        assert!(!last.is_short());

        let mut rest = Lines::new(CONTAINER, 100, Skip::Until(behind.last), None);
        rest.take(entry(false, 100 * SECOND + 7, "a\n")).unwrap();
        rest.take(entry(false, 100 * SECOND + 8, "b\n")).unwrap();
        let (page, _) = rest.into_page(10, None);
        assert_eq!(page.lines.len(), 1);
        assert_eq!(page.lines[0].message, "b");
    }

    #[test]
    fn the_last_lines_are_kept_and_lead_to_the_end() {
        let mut lines = Lines::new(CONTAINER, 0, Skip::Counted(Position::default()), Some(2));
        for (time, text) in [(1, "a\n"), (2, "b\n"), (3, "c\n")] {
            lines.take(entry(false, time * SECOND, text)).unwrap();
        }
        let (page, whole) = lines.into_page(10, None);
        let texts: Vec<_> = page.lines.iter().map(|line| line.message.as_str()).collect();
        assert_eq!((texts, whole), (vec!["b", "c"], true));
        assert_eq!(page.cursor, page.lines.last().map(|line| line.cursor.clone()));

        let mut none = Lines::new(CONTAINER, 0, Skip::Counted(Position::default()), Some(0));
        none.take(entry(false, SECOND, "a\n")).unwrap();
        let (page, _) = none.into_page(10, None);
        assert!(page.lines.is_empty() && page.cursor.is_some());
    }

    #[test]
    fn empty_lines_take_room_as_well() {
        let mut lines = Lines::new(CONTAINER, 0, Skip::Counted(Position::default()), Some(usize::MAX));
        let most = MAX_TAIL_LINES as usize;
        for number in 0..most + 10 {
            lines.take(entry(false, number as u64, "\n")).unwrap();
        }
        assert_eq!(lines.done.len(), most);
    }

    #[test]
    fn cursors_are_read_back_and_garbage_is_refused() {
        let position = Position { seen: 3, last: 5 * SECOND, newest: 6, ..Position::since(4) };
        let text = position.cursor(CONTAINER);
        assert_eq!(parse_cursor(&text, CONTAINER).unwrap(), Some(position));
        assert_eq!(parse_cursor(&text, "another-container").unwrap(), None);
        for bad in ["", "a", "a.1.2.3", "a.1.2.3.x", "a.1.2.3.4.5", "a.99999999999.1.1.1"] {
            assert_eq!(parse_cursor(bad, CONTAINER).unwrap_err().field.as_deref(), Some("cursor"), "{bad}");
        }
    }
}
