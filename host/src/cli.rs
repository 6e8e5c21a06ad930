//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::client::EXIT_CODES;
use crate::command::audit::AuditCommand;
use crate::command::completion::CompletionArgs;
use crate::command::controller::ControllerCommand;
use crate::command::drift::DriftCommand;
use crate::command::migrate::MigrateArgs;
use crate::command::plugin::PluginCommand;
use crate::command::quota::QuotaCommand;
use crate::command::session::SessionCommand;
use crate::command::template::TemplateCommand;
use crate::command::token::TokenCommand;
use crate::command::user::UserCommand;
use crate::command::whoami::WhoamiArgs;
use crate::config::path_or_nothing;

/// One API that runs desktops and web applications on the infrastructure you own.
#[derive(Debug, Parser)]
#[command(name = "streamspace", version, about, arg_required_else_help = true, after_help = EXIT_CODES)]
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
    #[command(after_help = "\
Examples:
  streamspace serve
  streamspace serve --listen 0.0.0.0:8000 --data /srv/streamspace --config /etc/streamspace.toml")]
    Serve(ServeArgs),

    /// Make, watch, use and end sessions.
    #[command(subcommand)]
    Session(SessionCommand),

    /// Look after what sessions are made from.
    #[command(subcommand)]
    Template(TemplateCommand),

    /// Look after controllers: where sessions run.
    #[command(subcommand)]
    Controller(ControllerCommand),

    /// Look after what backends have that no session explains; for operators.
    #[command(subcommand)]
    Drift(DriftCommand),

    /// Look after plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),

    /// Look after users; for administrators.
    #[command(subcommand)]
    User(UserCommand),

    /// Look after the tokens that programs and people call with.
    #[command(subcommand)]
    Token(TokenCommand),

    /// Look after what the sessions of users may take.
    #[command(subcommand)]
    Quota(QuotaCommand),

    /// See who changed what; for operators.
    #[command(subcommand)]
    Audit(AuditCommand),

    /// Say who the server takes you for.
    #[command(after_help = "\
Examples:
  streamspace whoami
  streamspace whoami --url https://desktops.example.org --token-file my.token")]
    Whoami(WhoamiArgs),

    /// Bring a database up to date without serving.
    ///
    /// `serve` does the same when it starts. A database of a newer version is left as it is. No server may use the
    /// database meanwhile. A database server that does not answer is waited for, up to a minute.
    #[command(after_help = "\
Examples:
  streamspace migrate
  streamspace migrate --database sqlite:///srv/streamspace/streamspace.db
  streamspace migrate --database postgres://streamspace@db.example.org/streamspace?sslmode=verify-full")]
    Migrate(MigrateArgs),

    /// Print a script that completes commands in a shell.
    #[command(after_help = "\
Examples:
  streamspace completion bash > /etc/bash_completion.d/streamspace
  streamspace completion fish > ~/.config/fish/completions/streamspace.fish")]
    Completion(CompletionArgs),
}

/// Settings given on the command line. They have the names of the keys in the configuration.
#[derive(Debug, Default, Args, Serialize)]
pub(crate) struct ServeArgs {
    /// Address and port to serve on [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,

    /// Database: sqlite:///path/to/file or postgres://user@host/name [default: streamspace.db in the data directory]
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
    #[arg(long, value_name = "FILE", env = "STREAMSPACE_CONFIG", value_parser = path_or_nothing())]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// What to log: a level, or directives like info,streamspace_control=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) log: Option<String>,
}
