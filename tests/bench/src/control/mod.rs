//! The control plane over the simulated infrastructure, on each database there is: how much it accepts, how much it
//! gets done, and what many sessions cost.

mod accepts;
mod creations;
mod fill;
mod going_on;
mod load;
mod many;
mod pages;
mod remote;
mod simple;
mod stage;
mod takeover;

use anyhow::Result;
use streamspace_tests::database::Database;

use crate::report::Report;
use stage::Stage;

/// How much of everything.
#[derive(Clone, Copy, clap::Args)]
pub struct Sizes {
    /// Sessions that are there, in measurements with many of them
    #[arg(long, default_value_t = 100_000)]
    sessions: usize,
    /// Sessions that are posted to a backend that does nothing
    #[arg(long, default_value_t = 15_000)]
    accepts: usize,
    /// Sessions that are made on a backend that does what it is told
    #[arg(long, default_value_t = 5_000)]
    creations: usize,
    /// Operations under way when the server is killed
    #[arg(long, default_value_t = 1_000)]
    in_flight: usize,
    /// Pages that are asked for with each filter
    #[arg(long, default_value_t = 100)]
    pages: usize,
    /// Controllers elsewhere that live
    #[arg(long, default_value_t = 200)]
    alive: usize,
    /// Controllers elsewhere that are registered, those that live among them
    #[arg(long, default_value_t = 1_000)]
    registered: usize,
    /// Processes of a controller that are killed
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=60))]
    deaths: u8,
}

/// Everything, for the measurements with this in their name.
pub async fn measure(report: &mut Report, sizes: Sizes, wanted: impl Fn(&str) -> bool) -> Result<()> {
    for database in [Kind::Sqlite, Kind::Postgres] {
        let name = database.name();
        if wanted("control-accepts") {
            let Some(stage) = Stage::new(database)? else { continue };
            accepts::measure(report, name, stage, sizes.accepts).await?;
        }
        if wanted("control-creations") {
            let Some(stage) = Stage::new(database)? else { continue };
            creations::measure(report, name, stage, sizes.creations).await?;
        }
        if wanted("control-restart") {
            let Some(stage) = Stage::new(database)? else { continue };
            going_on::measure(report, name, stage, sizes.in_flight).await?;
        }
        if wanted("control-many") {
            let Some(stage) = Stage::new(database)? else { continue };
            many::measure(report, name, stage, sizes).await?;
        }
        if wanted("control-remote") {
            remote::measure(report, database, sizes).await?;
        }
        if wanted("control-takeover") {
            takeover::measure(report, database, sizes.deaths).await?;
        }
    }
    Ok(())
}

/// What the sessions are kept in.
#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// A fresh one of this kind: the inner one is none for a file, the outer where there is no server.
    fn fresh(self) -> Option<Option<Database>> {
        match self {
            Self::Sqlite => Some(None),
            Self::Postgres => Database::on_server().map(Some),
        }
    }
}
