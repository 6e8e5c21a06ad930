//! The commands, one module a group. Most are a call or two of the REST API and a table.

pub(crate) mod audit;
pub(crate) mod completion;
pub(crate) mod controller;
pub(crate) mod drift;
pub(crate) mod migrate;
pub(crate) mod plugin;
pub(crate) mod quota;
pub(crate) mod session;
pub(crate) mod template;
pub(crate) mod token;
pub(crate) mod user;
pub(crate) mod whoami;

mod file;
mod many;
mod suite;
mod time;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{Client, ClientArgs};
use crate::output::Output;
use crate::print;

/// What every command that talks to a server takes.
#[derive(Debug, Args)]
pub(crate) struct Remote {
    #[command(flatten)]
    client: ClientArgs,

    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Output,
}

impl Remote {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.client)?)
    }

    /// Prints an answer: as it is, or as a person likes to read it.
    fn print(
        &self,
        answer: &Value,
        readable: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<ExitCode> {
        match self.output {
            Output::Json => print::json(answer)?,
            Output::Table => print::text(&readable()?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A page of items as the API would give all of them.
fn whole(items: Vec<Value>) -> Value {
    json!({ "items": items, "next_cursor": null })
}
