//! What came of a run.

mod json;
mod junit;
mod text;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is right.
    Passed,
    /// Something is wrong: what was expected and what was seen.
    Failed(String),
    /// It has no meaning on this target, for this reason.
    NotApplicable(String),
}

impl Verdict {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::NotApplicable(_) => "not applicable",
        }
    }

    /// Why, unless it passed.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed(reason) | Self::NotApplicable(reason) => Some(reason),
        }
    }
}

/// One check of a run.
#[derive(Clone, Debug)]
pub struct Row {
    /// The check's id.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The controller's type.
    pub controller_type: String,
    /// The backend's version.
    pub backend_version: String,
    /// The seed of the run.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// All checks, by id.
    pub rows: Vec<Row>,
    /// What else went wrong.
    pub notes: Vec<String>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    #[default]
    Text,
    /// A JSON object.
    Json,
    /// JUnit's XML, as build servers read it.
    Junit,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "junit" => Ok(Self::Junit),
            other => Err(format!("`{other}` is none of text, json, junit")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Junit => "junit",
        })
    }
}

impl Report {
    /// Whether no check failed and nothing else went wrong.
    pub fn passed(&self) -> bool {
        self.notes.is_empty() && self.failed().next().is_none()
    }

    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| matches!(row.verdict, Verdict::Failed(_)))
    }

    /// Passed, failed, not applicable.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |word| self.rows.iter().filter(|row| row.verdict.word() == word).count();
        (count("passed"), count("failed"), count("not applicable"))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Where the text cannot be put into that form.
    pub fn render(&self, format: Format) -> Result<String, String> {
        match format {
            Format::Text => Ok(text::render(self)),
            Format::Json => json::render(self),
            Format::Junit => junit::render(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row =
            |id, verdict| Row { id, title: "a <title> & more", verdict, took: Duration::from_millis(1500) };
        Report {
            controller_type: "test".into(),
            backend_version: "1".into(),
            seed: 7,
            took: Duration::from_secs(3),
            rows: vec![
                row("A01-one", Verdict::Passed),
                row("B02-two", Verdict::Failed("expected <this> & \"that\"; seen: \u{1b}[0m\u{0}".into())),
                row("C03-three", Verdict::NotApplicable("no fixture".into())),
            ],
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_table_has_every_check_and_a_summary() {
        let text = report().render(Format::Text).unwrap();
        for words in [
            "A01-one",
            "FAILED",
            "no fixture",
            "1 passed, 1 failed, 1 not applicable",
            "--filter B02-two --seed 7",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn json_can_be_read_by_programs() {
        let json: serde_json::Value = serde_json::from_str(&report().render(Format::Json).unwrap()).unwrap();
        assert_eq!(json["passed"], false);
        assert_eq!(json["counts"]["failed"], 1);
        assert_eq!(json["checks"][1]["verdict"], "failed");
        assert_eq!(json["checks"][2]["reason"], "no fixture");
    }

    #[test]
    fn junit_is_xml_whatever_the_messages_contain() {
        let xml = report().render(Format::Junit).unwrap();
        let document = roxmltree::Document::parse(&xml).unwrap();
        let of = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
        assert_eq!((of("testcase"), of("failure"), of("skipped")), (3, 1, 1));
        let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
        assert_eq!((suite.attribute("tests"), suite.attribute("failures")), (Some("3"), Some("1")));
        let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
        assert!(failure.attribute("message").unwrap().starts_with("expected <this> & \"that\""));
    }
}
