//! What commands write: results to standard output, everything else to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

/// Whoever read the output has read enough (`… | head`). Not a failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub(crate) struct NobodyReads;

/// Writes text as it is.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        Err(error) => Err(anyhow::Error::from(error).context("the output cannot be written")),
    }
}

/// What was to be printed tells nothing that the exit code does not tell: whether anybody has read it is all the same.
pub(crate) fn even_unread(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    match printed {
        Err(error) if error.is::<NobodyReads>() => Ok(()),
        printed => printed,
    }
}

/// Writes one JSON value.
pub(crate) fn json(value: &Value) -> anyhow::Result<()> {
    text(&format!("{value:#}\n"))
}

/// Tells something beside the result. That nobody hears it changes nothing.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether results are read by a person who likes colours (<https://no-color.org>).
pub(crate) fn in_colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text of somebody else, made harmless: it cannot move the cursor of a terminal or break a line.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
