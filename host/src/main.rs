//! StreamSpace: one API that runs people's desktops and web applications on the infrastructure they own.
//!
//! This is the command line and the wiring. What is wired stands in the crates `streamspace-control` (the API
//! server), `streamspace-shell` (controllers over gRPC) and `streamspace-runtime` (plugins).

mod cli;
mod client;
mod config;
mod controllers;
mod dropin;
mod plugin_ls;
mod plugins;
mod serve;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command, PluginCommand};
use crate::client::ClientError;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("streamspace: {error:#}");
            error.downcast_ref::<ClientError>().map_or(ExitCode::FAILURE, ClientError::exit_code)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Plugin(PluginCommand::Ls(args)) => plugin_ls::run(&args),
    }
}
