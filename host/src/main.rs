//! StreamSpace: one API that runs people's desktops and web applications on the infrastructure they own.
//!
//! This is the command line and the wiring. What is wired stands in the crates `streamspace-control` (the API
//! server), `streamspace-shell` (controllers over gRPC) and `streamspace-runtime` (plugins).

mod cli;
mod client;
mod command;
mod config;
mod controllers;
mod dropin;
mod executor;
mod listener;
mod output;
mod plugins;
mod print;
mod progress;
mod serve;
mod table;
mod targets;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::client::ClientError;
use crate::print::{NobodyReads, note};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) if error.is::<NobodyReads>() => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("streamspace: {error:#}"));
            let refused = error.downcast_ref::<ClientError>();
            if let Some(hint) = refused.and_then(ClientError::hint) {
                note(&format!("  {hint}"));
            }
            refused.map_or(ExitCode::FAILURE, |refused| refused.exit_code().into())
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(args).map(|()| ExitCode::SUCCESS),
        Command::Session(command) => command::session::run(command),
        Command::Template(command) => command::template::run(command),
        Command::Controller(command) => command::controller::run(command),
        Command::Drift(command) => command::drift::run(command),
        Command::Plugin(command) => command::plugin::run(command),
        Command::User(command) => command::user::run(command),
        Command::Token(command) => command::token::run(command),
        Command::Quota(command) => command::quota::run(command),
        Command::Audit(command) => command::audit::run(command),
        Command::Whoami(args) => command::whoami::run(&args),
        Command::Migrate(args) => command::migrate::run(args),
        Command::Completion(args) => command::completion::run(&args),
    }
}
