//! A table for people.

use std::fmt::Write as _;

use super::{Report, Verdict};

pub(super) fn render(report: &Report) -> String {
    let width = report.rows.iter().map(|row| row.id.len()).max().unwrap_or_default();
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{} {} (seed {})\n", report.controller_type, report.backend_version, report.seed);
    for row in &report.rows {
        let word = match row.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "FAILED",
            Verdict::NotApplicable(_) => "n/a",
        };
        let took = row.took.as_secs_f64();
        let _ = writeln!(text, "{word:6}  {took:6.1} s  {:width$}  {}", row.id, row.title);
        if let Some(reason) = row.verdict.reason() {
            let reason = reason.replace(char::is_control, " ");
            let _ = writeln!(text, "{:18}{reason}", "");
        }
    }
    for note in &report.notes {
        let _ = writeln!(text, "FAILED  {note}");
    }
    let (passed, failed, not_applicable) = report.counts();
    let _ = writeln!(
        text,
        "\n{passed} passed, {failed} failed, {not_applicable} not applicable, in {:.1} s",
        report.took.as_secs_f64()
    );
    let failed: Vec<_> = report.failed().map(|row| row.id).collect();
    if let Some(first) = failed.first() {
        let _ = writeln!(text, "failed: {}", failed.join(", "));
        let _ = writeln!(text, "one of them again: --filter {first} --seed {}", report.seed);
    }
    text
}
