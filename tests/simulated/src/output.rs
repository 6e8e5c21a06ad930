//! What boxes write.

use std::collections::VecDeque;

use serde::Serialize;

/// Lines kept of one box.
const KEPT: usize = 1000;

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// Grows from line to line, also over boxes that follow each other under one name.
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
}

impl Output {
    pub(crate) fn push(&mut self, line: Line) {
        self.lines.push_back(line);
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
        let skip = match (after, tail) {
            (Some(after), _) => self.lines.partition_point(|line| line.seq <= after),
            (None, Some(tail)) => self.lines.len().saturating_sub(tail),
            (None, None) => 0,
        };
        let lines: Vec<Line> = self.lines.iter().skip(skip).take(limit).cloned().collect();
        let all = skip + lines.len() == self.lines.len();
        let next = lines.last().map(|line| line.seq).or(after).unwrap_or(0);
        LinePage { lines, next, ended: ended && all }
    }
}
