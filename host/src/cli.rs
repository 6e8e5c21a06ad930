//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::client::ClientArgs;

/// One API that runs desktops and web applications on the infrastructure you own.
#[derive(Debug, Parser)]
#[command(name = "streamspace", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API, with controllers for the plugins found.
    ///
    /// Without any configuration: SQLite in the data directory, and the backends that answer at their usual place
    /// (for Docker: DOCKER_HOST, or /var/run/docker.sock). Every setting can stand in a file (--config), in the
    /// environment (STREAMSPACE_LISTEN, …) or on the command line; the last one wins.
    Serve(ServeArgs),

    /// Look after plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins of a running server: what serves, what does not, and why.
    Ls(PluginLsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PluginLsArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: OutputFormat,
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Table,
    /// For programs: what the API answers.
    Json,
}

/// Settings given on the command line. They have the names of the keys in the configuration.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ServeArgs {
    /// Address and port to serve on [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,

    /// Database: sqlite:///path/to/file [default: streamspace.db in the data directory]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<String>,

    /// Directory with plugins (*.wasm) [default: plugins beside this program, or in the data directory]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plugins: Option<PathBuf>,

    /// Directory for everything kept: database, administrator's token, compiled plugins
    /// [default: /var/lib/streamspace as root, else ~/.local/share/streamspace]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<PathBuf>,

    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "STREAMSPACE_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// What to log: a level, or directives like info,streamspace_control=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
}
