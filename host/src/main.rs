//! StreamSpace: one API that runs people's desktops and web applications on the infrastructure they own.
//!
//! This is the command line and the wiring. What is wired stands in the crates `streamspace-control` (the API
//! server), `streamspace-shell` (controllers over gRPC) and `streamspace-runtime` (plugins).

mod cli;
mod config;
mod controllers;
mod dropin;
mod plugins;
mod serve;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("streamspace: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(args) => serve::run(args),
    }
}
