//! `streamspace controller …`: controllers without an API server beside them.

mod serve;

use std::process::ExitCode;

use clap::Subcommand;

/// What can be done with controllers.
#[derive(Debug, Subcommand)]
pub(crate) enum ControllerCommand {
    /// Serve one plugin as a controller of its own.
    ///
    /// The gRPC service streamspace.controller.v1.ControllerService, with grpc.health.v1 and server reflection.
    /// It is not encrypted and asks nobody who they are: it is served on the loopback interface only, unless --insecure
    /// is given. Registration with an API server, tokens and TLS are not there yet.
    Serve(serve::ControllerServeArgs),
}

/// Runs a command.
pub(crate) fn run(command: ControllerCommand) -> anyhow::Result<ExitCode> {
    match command {
        ControllerCommand::Serve(args) => serve::run(args),
    }
}
