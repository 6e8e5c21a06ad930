//! Bodies in pieces.

use std::time::Duration;

use super::{Chunk, Response, header, imported};
use crate::{Error, ErrorExt as _, ErrorKind, Result};

/// Bytes that are asked for at once.
const PIECE: u32 = 256 << 10;

/// A request whose body is being written.
#[derive(Debug)]
pub struct Upload(imported::Exchange);

impl Upload {
    pub(super) fn new(exchange: imported::Exchange) -> Self {
        Self(exchange)
    }

    /// Sends a piece. When it fails, [`finish`](Self::finish) gives the answer that came early, if there is one.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.0.write(bytes)
    }

    /// Ends the body and waits for the answer's head.
    pub fn finish(self) -> Result<Download> {
        let head = self.0.finish()?;
        Ok(Download { status: head.status, reason: head.reason, headers: head.headers, exchange: self.0 })
    }
}

/// An answer whose body is being read.
#[derive(Debug)]
pub struct Download {
    /// Status code.
    pub status: u16,
    /// Reason phrase; empty on HTTP/2.
    pub reason: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    exchange: imported::Exchange,
}

impl Download {
    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The next piece, or what came of waiting for it.
    pub fn next(&self, wait: Duration) -> Result<Chunk> {
        self.exchange.read(PIECE, u32::try_from(wait.as_millis()).unwrap_or(u32::MAX))
    }

    /// Reads the rest, as long as it has at most so many bytes.
    pub fn into_response(self, max_body: usize) -> Result<Response> {
        let mut body = Vec::new();
        loop {
            match self.next(Duration::MAX)? {
                Chunk::Data(piece) if body.len() + piece.len() > max_body => {
                    let message = format!("the answer has more than {max_body} bytes");
                    return Err(Error::new(ErrorKind::Exhausted, message));
                }
                Chunk::Data(piece) => body.extend_from_slice(&piece),
                Chunk::Pending => {}
                Chunk::End => break,
            }
        }
        Ok(Response { status: self.status, reason: self.reason, headers: self.headers, body })
    }

    /// The body as lines, such as a log or a watch gives them.
    pub fn lines(self) -> Lines {
        Lines { download: self, buffer: LineBuffer::default() }
    }
}

/// A body as lines.
#[derive(Debug)]
pub struct Lines {
    download: Download,
    buffer: LineBuffer,
}

/// What came of waiting for a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end. The last one may have had none.
    Line(Vec<u8>),
    /// Nothing whole came within the time given; ask again.
    Pending,
    /// The body ended.
    End,
}

impl Lines {
    /// The next line. One of more than `max` bytes is `exhausted`.
    pub fn next(&mut self, wait: Duration, max: usize) -> Result<Line> {
        loop {
            if let Some(line) = self.buffer.take() {
                return Ok(Line::Line(line));
            }
            if self.buffer.bytes.len() > max {
                return Err(Error::new(ErrorKind::Exhausted, format!("a line has more than {max} bytes")));
            }
            match self.download.next(wait)? {
                Chunk::Data(piece) => self.buffer.bytes.extend_from_slice(&piece),
                Chunk::Pending => return Ok(Line::Pending),
                Chunk::End => return Ok(self.buffer.rest().map_or(Line::End, Line::Line)),
            }
        }
    }
}

#[derive(Debug, Default)]
struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where no end of a line is.
    searched: usize,
}

impl LineBuffer {
    fn take(&mut self) -> Option<Vec<u8>> {
        match self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                let end = self.searched + at;
                let line = &self.bytes[self.start..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                (self.start, self.searched) = (end + 1, end + 1);
                Some(line)
            }
            None => {
                // What was given out is only let go of once for each piece, not once for each line.
                self.bytes.drain(..self.start);
                (self.start, self.searched) = (0, self.bytes.len());
                None
            }
        }
    }

    fn rest(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.bytes);
        (self.start, self.searched) = (0, 0);
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_pieces_fall() {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for piece in ["a", "b\nc\r\n", "", "\nd", "e"] {
            buffer.bytes.extend_from_slice(piece.as_bytes());
            lines.extend(std::iter::from_fn(|| buffer.take()));
        }
        assert_eq!(lines, [b"ab".to_vec(), b"c".to_vec(), b"".to_vec()]);
        assert_eq!(buffer.rest(), Some(b"de".to_vec()));
        assert_eq!(buffer.rest(), None);
        assert_eq!(buffer.take(), None);
    }
}
