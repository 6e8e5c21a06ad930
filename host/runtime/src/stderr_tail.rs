//! The last words of a guest: what it wrote to standard error, for the report of its panic.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes that are kept: a panic message and its surroundings. All of it has to fit into an error.
const CAPACITY: usize = 1 << 10;

/// Bytes that a guest may write at once.
const PERMIT: usize = 64 << 10;

/// Takes everything and keeps the end of it. A stream that closed or blocked would make a guest panic that merely
/// says too much.
#[derive(Clone, Debug, Default)]
pub(crate) struct StderrTail(Arc<Mutex<VecDeque<u8>>>);

impl StderrTail {
    fn bytes(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written last.
    pub(crate) fn text(&self) -> String {
        let mut bytes = self.bytes();
        String::from_utf8_lossy(bytes.make_contiguous()).trim().to_owned()
    }
}

impl IsTerminal for StderrTail {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for StderrTail {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    // Only WASI 0.3 would ask for it, and that is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

#[async_trait::async_trait]
impl Pollable for StderrTail {
    async fn ready(&mut self) {}
}

impl OutputStream for StderrTail {
    fn write(&mut self, written: bytes::Bytes) -> StreamResult<()> {
        let mut bytes = self.bytes();
        bytes.extend(written);
        let excess = bytes.len().saturating_sub(CAPACITY);
        bytes.drain(..excess);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_everything_and_keeps_the_end() {
        let mut tail = StderrTail::default();
        for _ in 0..10 {
            tail.write(vec![b'x'; PERMIT].into()).unwrap();
        }
        tail.write("panicked at last\n".into()).unwrap();
        let text = tail.text();
        assert!(text.ends_with("xpanicked at last") && text.len() < CAPACITY);
        assert_eq!(tail.check_write().unwrap(), PERMIT);
    }
}
