//! JUnit's XML, as build servers read it.

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::{Report, Verdict};

pub(super) fn render(report: &Report) -> Result<String, String> {
    let mut suite = TestSuite::new(format!("conformance of {}", report.controller_type));
    suite.set_time(report.took);
    for row in &report.rows {
        let status = match &row.verdict {
            Verdict::Passed => TestCaseStatus::success(),
            Verdict::Failed(message) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(message.as_str()).set_description(message.as_str());
                status
            }
            Verdict::NotApplicable(reason) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(reason.as_str());
                status
            }
        };
        let mut case = TestCase::new(row.id, status);
        case.set_classname(row.title).set_time(row.took);
        suite.add_test_case(case);
    }
    for note in &report.notes {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(note.as_str());
        suite.add_test_case(TestCase::new("the run", status));
    }
    let mut document = Document::new("streamspace-conformance");
    document.add_test_suite(suite);
    document.to_string().map_err(|error| error.to_string())
}
