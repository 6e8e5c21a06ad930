//! `streamspace migrate`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use streamspace_control::ControlConfig;

use crate::cli::ServeArgs;
use crate::config::{Config, path_or_nothing};
use crate::executor::on_one_thread;
use crate::print;

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Database: sqlite:///path/to/file or postgres://user@host/name [default: streamspace.db in the data directory]
    #[arg(long, value_name = "URL")]
    database: Option<String>,

    /// Data directory of the server [default: /var/lib/streamspace as root, else ~/.local/share/streamspace]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Configuration file of the server (TOML)
    #[arg(long, value_name = "FILE", env = "STREAMSPACE_CONFIG", value_parser = path_or_nothing())]
    config: Option<PathBuf>,
}

/// Brings the database up to date and says from which version to which.
pub(crate) fn run(args: MigrateArgs) -> anyhow::Result<ExitCode> {
    let MigrateArgs { database, data, config } = args;
    let config = Config::load(&ServeArgs { database, data, config, ..ServeArgs::default() })?;
    let mut control = ControlConfig::new(&config.data);
    if let Some(url) = &config.database {
        control.database = url.parse()?;
    }
    on_one_thread(async {
        let migrated = streamspace_control::migrate(&control).await?;
        let database = &control.database;
        print::text(&match migrated.from {
            Some(from) if from == migrated.to => format!("{database}: version {from} is up to date\n"),
            Some(from) => format!("{database}: version {from} → {}\n", migrated.to),
            None => format!("{database}: new → version {}\n", migrated.to),
        })?;
        Ok(ExitCode::SUCCESS)
    })
}
