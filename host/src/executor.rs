//! The async runtimes that commands run on.

use anyhow::Context as _;
use tokio::runtime::Builder;

/// Runs something small to its end: a few calls of an API.
pub(crate) fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    run(Builder::new_current_thread(), work)
}

/// Runs something large to its end: a server, or plugins.
pub(crate) fn on_all_processors<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    run(Builder::new_multi_thread(), work)
}

fn run<T>(mut builder: Builder, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    builder.enable_all().build().context("the async runtime does not start")?.block_on(work)
}
