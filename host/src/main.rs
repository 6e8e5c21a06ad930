//! StreamSpace: one API that runs people's desktops and web applications on the infrastructure they own.
//!
//! This is the command line and the wiring. What is wired stands in the crates `streamspace-control` (the API
//! server), `streamspace-shell` (controllers over gRPC) and `streamspace-runtime` (plugins).

mod cli;
mod client;
mod config;
mod controller_command;
mod controllers;
mod dropin;
mod output;
mod plugin_command;
mod plugins;
mod serve;
mod targets;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::client::ClientError;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("streamspace: {error:#}");
            error.downcast_ref::<ClientError>().map_or(ExitCode::FAILURE, ClientError::exit_code)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(args).map(|()| ExitCode::SUCCESS),
        Command::Plugin(command) => plugin_command::run(command),
        Command::Controller(command) => controller_command::run(command),
    }
}
