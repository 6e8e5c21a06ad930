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

/// Text of somebody else, made harmless: it cannot move the cursor of a terminal, break a line, or show what stands
/// in it in another order.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if moves_text(c) { '\u{fffd}' } else { c }).collect()
}

fn moves_text(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A line of somebody else's output: for a program as it is, on a terminal with nothing but its colours and tabs.
pub(crate) fn foreign_line(line: &str) -> anyhow::Result<()> {
    let line = if io::stdout().is_terminal() { for_terminal(line) } else { line.to_owned() };
    text(&format!("{line}\n"))
}

fn for_terminal(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    let mut coloured = false;
    while let Some(c) = rest.chars().next() {
        let taken = match colour_at(rest) {
            Some(length) => {
                coloured = true;
                shown.push_str(&rest[..length]);
                length
            }
            None => {
                shown.push(if c != '\t' && moves_text(c) { '\u{fffd}' } else { c });
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    // The next line is of its own colour again.
    if coloured {
        shown.push_str("\x1b[0m");
    }
    shown
}

/// The length of the sequence for colours that the text begins with.
fn colour_at(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some("\x1b[".len() + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_stays_in_its_place() {
        assert_eq!(harmless("a\nb\x1b[2J\u{202e}c ä"), "a\u{fffd}b\u{fffd}[2J\u{fffd}c ä");
    }

    #[test]
    fn a_line_on_a_terminal_keeps_its_colours_only() {
        assert_eq!(for_terminal("a\tä"), "a\tä");
        assert_eq!(for_terminal("\x1b[1;31mred"), "\x1b[1;31mred\x1b[0m");
        for (bad, shown) in [
            ("\x1b[2J", "\u{fffd}[2J"),
            ("\x1b]0;title\x07", "\u{fffd}]0;title\u{fffd}"),
            ("a\rb", "a\u{fffd}b"),
            ("\x1b[31", "\u{fffd}[31"),
        ] {
            assert_eq!(for_terminal(bad), shown);
        }
    }
}
