//! The same for several things. One that fails does not keep the others from being done.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::client::ClientError;
use crate::output::Output;
use crate::print;

/// What became of each.
pub(super) struct Many {
    output: Output,
    items: Vec<Value>,
    worst: u8,
}

impl Many {
    /// Nothing is done yet.
    pub(super) fn new(output: Output) -> Self {
        Self { output, items: Vec::new(), worst: 0 }
    }

    /// One was done. For people, its name is printed.
    pub(super) fn done(&mut self, name: &str, answer: Value) -> anyhow::Result<()> {
        match self.output {
            Output::Table => print::text(&format!("{}\n", print::harmless(name)))?,
            Output::Json => self.items.push(answer),
        }
        Ok(())
    }

    /// What is known of one that is not done.
    pub(super) fn keep(&mut self, answer: Value) {
        self.items.push(answer);
    }

    /// One was not done.
    pub(super) fn failed(&mut self, name: &str, error: &anyhow::Error) {
        print::note(&format!("streamspace: {}: {error:#}", print::harmless(name)));
        let refused = error.downcast_ref::<ClientError>();
        self.ended(refused.map_or(1, ClientError::exit_code));
        self.items.push(json!({ "id": name, "error": format!("{error:#}") }));
    }

    /// An exit code other than success; the first one counts.
    pub(super) fn ended(&mut self, code: u8) {
        if self.worst == 0 {
            self.worst = code;
        }
    }

    /// Prints what is left to print.
    pub(super) fn finish(self) -> anyhow::Result<ExitCode> {
        if self.output == Output::Json {
            print::json(&json!({ "items": self.items }))?;
        }
        Ok(self.worst.into())
    }
}
