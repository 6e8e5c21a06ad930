//! Where log lines go.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Logs to standard error: for a person on a terminal, as JSON lines otherwise. Never what sessions are given.
pub(crate) fn init(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log: `{filter}` is no filter"))?;
    // The Docker client writes whole requests and answers, with the environment of sessions and all secrets in it.
    let filter = filter.add_directive("bollard=warn".parse().context("a directive of our own")?);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = if std::io::stderr().is_terminal() { builder.try_init() } else { builder.json().try_init() };
    result.map_err(|error| anyhow::anyhow!("the log cannot be set up: {error}"))
}
