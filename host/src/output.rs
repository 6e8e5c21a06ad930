//! How commands print what they found.

use clap::ValueEnum;

/// The form of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON value, with the field names of the API.
    Json,
}
