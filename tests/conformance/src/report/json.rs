//! A JSON object for programs.

use serde::Serialize;

use super::Report;

#[derive(Serialize)]
struct Document<'a> {
    controller_type: &'a str,
    backend_version: &'a str,
    seed: u64,
    passed: bool,
    duration_ms: u64,
    counts: Counts,
    checks: Vec<CheckResult<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Counts {
    passed: usize,
    failed: usize,
    not_applicable: usize,
}

#[derive(Serialize)]
struct CheckResult<'a> {
    id: &'a str,
    title: &'a str,
    /// `passed`, `failed` or `not applicable`.
    verdict: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    duration_ms: u64,
}

pub(super) fn render(report: &Report) -> Result<String, String> {
    let (passed, failed, not_applicable) = report.counts();
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let document = Document {
        controller_type: &report.controller_type,
        backend_version: &report.backend_version,
        seed: report.seed,
        passed: report.passed(),
        duration_ms: millis(report.took),
        counts: Counts { passed, failed, not_applicable },
        checks: report
            .rows
            .iter()
            .map(|row| CheckResult {
                id: row.id,
                title: row.title,
                verdict: row.verdict.word(),
                reason: row.verdict.reason(),
                duration_ms: millis(row.took),
            })
            .collect(),
        notes: &report.notes,
    };
    serde_json::to_string_pretty(&document).map_err(|error| error.to_string())
}
