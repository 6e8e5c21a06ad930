//! What boxes write.

use std::collections::VecDeque;

use serde::Serialize;

/// Lines kept of one box.
const KEPT: usize = 1000;

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// Counts from 1 over the life of the box.
    pub(crate) seq: u64,
    /// Milliseconds since 1970 (UTC).
    pub(crate) at_ms: u64,
    pub(crate) source: String,
    pub(crate) message: String,
}

/// A part of the output.
#[derive(Debug, Serialize)]
pub(crate) struct LinePage {
    pub(crate) lines: Vec<Line>,
    /// Where the next page starts.
    pub(crate) next: u64,
    /// The box does not run: no more will come until it is started.
    pub(crate) ended: bool,
}

/// The output of one box.
#[derive(Default)]
pub(crate) struct Output {
    lines: VecDeque<Line>,
    last: u64,
}

impl Output {
    pub(crate) fn push(&mut self, at_ms: u64, source: &str, message: String) {
        self.last += 1;
        self.lines.push_back(Line { seq: self.last, at_ms, source: source.to_owned(), message });
        if self.lines.len() > KEPT {
            self.lines.pop_front();
        }
    }

    /// Lines after a number, or else the last `tail` ones, or else from the start.
    pub(crate) fn read(
        &self,
        after: Option<u64>,
        tail: Option<usize>,
        limit: usize,
        ended: bool,
    ) -> LinePage {
        let first = after.unwrap_or_else(|| match tail {
            Some(tail) => self.last.saturating_sub(u64::try_from(tail).unwrap_or(u64::MAX)),
            None => 0,
        });
        let lines: Vec<Line> =
            self.lines.iter().filter(|line| line.seq > first).take(limit).cloned().collect();
        let next = lines.last().map_or(first, |line| line.seq);
        LinePage { lines, next, ended: ended && next >= self.last }
    }
}
