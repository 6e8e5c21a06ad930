//! What a command shows while it waits: one line that is rewritten on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthChar as _;

use crate::print::harmless;

/// Where nobody can rewrite a line, news of the same kind come at most so often.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);
/// Of a terminal that does not say how wide it is.
const USUAL_WIDTH: usize = 80;

/// Shows how far something is. What it has shown on a terminal is gone once it is dropped.
pub(crate) struct Progress {
    form: Form,
    started: Instant,
}

enum Form {
    Silent,
    Rewritten { shown: bool },
    Plain { last: Option<(String, String, Instant)> },
}

impl Progress {
    /// On standard error, or nowhere.
    pub(crate) fn new(silent: bool) -> Self {
        let form = if silent {
            Form::Silent
        } else if io::stderr().is_terminal() {
            Form::Rewritten { shown: false }
        } else {
            Form::Plain { last: None }
        };
        Self { form, started: Instant::now() }
    }

    /// Shows a state, and details that may change all the time.
    pub(crate) fn show(&mut self, state: &str, details: &str) {
        let line =
            |state: &str| if details.is_empty() { state.to_owned() } else { format!("{state}: {details}") };
        let mut err = io::stderr().lock();
        // That nobody sees it changes nothing.
        let _ = match &mut self.form {
            Form::Silent => Ok(()),
            Form::Rewritten { shown } => {
                *shown = true;
                let line = format!("{} ({} s)", harmless(&line(state)), self.started.elapsed().as_secs());
                write!(err, "\r\x1b[K{}", fitting(&line, width().saturating_sub(1)))
                    .and_then(|()| err.flush())
            }
            Form::Plain { last } => match last {
                Some((s, d, _)) if s == state && d == details => Ok(()),
                Some((s, _, at)) if s == state && at.elapsed() < PLAIN_PAUSE => Ok(()),
                _ => {
                    *last = Some((state.to_owned(), details.to_owned(), Instant::now()));
                    writeln!(err, "{}", harmless(&line(state)))
                }
            },
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Rewritten { shown: true } = self.form {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// As much of a line as has room in so many columns.
fn fitting(line: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = line.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or_default();
        used > columns
    });
    end.map_or(line, |(at, _)| &line[..at])
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(io::stderr())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|&columns| columns > 0)
        .unwrap_or(USUAL_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_columns() {
        assert_eq!(fitting("日本語", 5), "日本");
        assert_eq!(fitting("älice", 5), "älice");
        assert_eq!(fitting("älice", 0), "");
    }
}
