//! The same for several things. One that fails does not keep the others from being done.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::client::ClientError;
use crate::output::Output;
use crate::print;

/// What became of each.
pub(super) struct Many {
    output: Output,
    /// What names are called in JSON.
    key: &'static str,
    items: Vec<Value>,
    worst: u8,
    /// Why names are not printed any more.
    unprinted: Option<anyhow::Error>,
}

impl Many {
    /// Nothing is done yet. The things are known by their id, or by what else the key says.
    pub(super) fn new(output: Output, key: &'static str) -> Self {
        Self { output, key, items: Vec::new(), worst: 0, unprinted: None }
    }

    /// One was done. For people, its name is printed; that it cannot be keeps nothing else from being done.
    pub(super) fn done(&mut self, name: &str, answer: Value) {
        match self.output {
            Output::Table if self.unprinted.is_none() => {
                self.unprinted = print::text(&format!("{}\n", print::harmless(name))).err();
            }
            Output::Table => {}
            Output::Json => self.items.push(answer),
        }
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
        self.items.push(json!({ self.key: name, "error": format!("{error:#}") }));
    }

    /// An exit code other than success; the first one counts.
    pub(super) fn ended(&mut self, code: u8) {
        if self.worst == 0 {
            self.worst = code;
        }
    }

    /// Prints what is left to print.
    pub(super) fn finish(self) -> anyhow::Result<ExitCode> {
        let unprinted = match self.output {
            Output::Table => self.unprinted,
            Output::Json => print::json(&json!({ "items": self.items })).err(),
        };
        print::even_unread(unprinted.map_or(Ok(()), Err))?;
        Ok(self.worst.into())
    }
}
