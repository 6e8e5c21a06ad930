//! What of a long output is worth repeating at the end: where a log is cut, the end is what remains.

use std::collections::VecDeque;

/// Last lines that are kept.
const LAST: usize = 25;
/// Lines about failed tests that are kept.
const FAILURES: usize = 80;
/// Lines kept behind the head of a panic or of a compiler's error.
const DETAIL: usize = 8;

/// Reads the output of a program line by line and keeps the parts that explain a failure.
#[derive(Default)]
pub struct Excerpt {
    failures: Vec<String>,
    /// How many of the next lines belong to a failure.
    detail: usize,
    last: VecDeque<String>,
}

impl Excerpt {
    /// Takes the next line.
    pub fn add(&mut self, line: &str) {
        if line.contains("panicked at") || line.starts_with("error") || line.contains("Error:") {
            self.detail = DETAIL;
            self.keep(line);
        } else if self.detail > 0 {
            self.detail -= 1;
            self.keep(line);
        } else if line.starts_with("test ") && line.ends_with("FAILED") {
            self.keep(line);
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    fn keep(&mut self, line: &str) {
        if self.failures.len() < FAILURES {
            self.failures.push(line.to_owned());
        }
    }

    /// What explains the failure: the lines about it, or the last ones where none were recognised.
    pub fn text(&self) -> String {
        if self.failures.is_empty() {
            Vec::from_iter(self.last.iter().cloned()).join("\n")
        } else {
            self.failures.join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let mut excerpt = Excerpt::default();
        text.lines().for_each(|line| excerpt.add(line));
        excerpt.text()
    }

    #[test]
    fn failed_tests_and_compiler_errors_are_kept_from_a_long_output() {
        let noise = "test fine ... ok\n".repeat(500);
        let text =
            of(&format!("{noise}test bad ... FAILED\n{noise}thread 'bad' panicked at a.rs:1:\nwhy\n{noise}"));
        assert!(text.contains("test bad ... FAILED") && text.contains("why"), "{text}");
        assert!(text.lines().count() < 20);
        assert!(
            of(&format!("error[E0460]: no\n --> b.rs\n{noise}")).starts_with("error[E0460]: no\n --> b.rs")
        );
    }

    #[test]
    fn without_a_known_failure_the_end_is_kept() {
        let text = of(&format!("{}the last", "line\n".repeat(100)));
        assert_eq!(text.lines().count(), LAST);
        assert!(text.ends_with("the last"));
    }
}
