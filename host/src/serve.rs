//! `streamspace serve`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use streamspace_control::{Control, ControlConfig, GoDuration};
use streamspace_runtime::{Runtime, RuntimeConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::ServeArgs;
use crate::config::{self, Config, Lease};
use crate::dropin::DropIn;
use crate::{executor, listener, telemetry};

/// How long requests under way may take to end once the server is told to stop.
const REQUEST_DRAIN: Duration = Duration::from_secs(10);

/// Reads the configuration and serves until told to stop.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = Config::load(&args)?;
    telemetry::init(&config.log)?;
    for variable in config::unknown_variables() {
        tracing::warn!(
            "the variable {variable} of the environment is none of StreamSpace's and does nothing"
        );
    }
    executor::on_all_processors(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    // Taken before anything is written: a second server on the same port changes nothing.
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen: {} cannot be served on", config.listen))?;

    let plugin_dir = config.plugin_dir();
    let mut control_config = ControlConfig::new(&config.data);
    if let Some(url) = &config.database {
        control_config.database = url.parse()?;
    }
    let Lease { lease, renewal } = config.lease();
    (control_config.server_lease, control_config.server_renewal) = (lease, renewal);
    control_config.quota = config.quota.clone();
    config.apply_health(&mut control_config);
    control_config.allow_insecure_endpoints = config.remote.allow_insecure_endpoints;
    if let Some(keep) = &config.audit.keep {
        control_config.keep_audit = keep.length();
    }
    control_config.drift_grace = config.drift_grace.as_ref().map(GoDuration::length);
    if let Some(limit) = &config.placement_limit {
        control_config.placement_limit = limit.length();
    }
    control_config.placement_strategy = config.placement.strategy;
    control_config.overcommit = config.placement.overcommit;
    let control = Arc::new(Control::open(control_config).await?);
    let runtime =
        Runtime::new(RuntimeConfig { cache_dir: Some(config.data.join("compiled")), ..Default::default() })?;
    let plugins =
        DropIn::open(runtime, Arc::clone(&control), &plugin_dir, config.controllers.clone()).await?;
    control.show_plugins(plugins.directory());

    let address = listener.local_addr().context("the listener has no address")?;
    // If one of them breaks, the server stops: it must not take wishes that nobody fulfils.
    let running = tokio::spawn({
        let (control, stop) = (Arc::clone(&control), stop.clone());
        async move {
            let _stops_the_others = stop.clone().drop_guard();
            control.run(stop).await
        }
    });
    let keeping_up = tokio::spawn({
        let stop = stop.clone();
        async move {
            let _stops_the_others = stop.clone().drop_guard();
            plugins.run(stop).await
        }
    });
    tracing::info!(
        %address, data = %config.data.display(), plugins = %plugin_dir.display(),
        token_file = %config.data.join("admin.token").display(), "serving on http://{address}"
    );
    let serving = listener::serve(listener, control.router(), stop.clone());
    // A client that never finishes its request must not keep the server from stopping.
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(REQUEST_DRAIN).await;
    };
    tokio::select! {
        () = serving => {}
        () = too_long => tracing::warn!("requests under way are given up"),
    }
    // Also when serving ended by itself.
    stop.cancel();
    running.await.context("the reconciler failed")?;
    keeping_up.await.context("the directory of plugins failed")?;
    if let Some(control) = Arc::into_inner(control) {
        control.close().await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// SIGTERM and SIGINT end the server after the calls under way are recorded. A second one ends it at once: that it can
/// bear at any time.
pub(crate) fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        }
    };
    tokio::spawn(async move {
        next().await;
        tracing::info!("stopping; once more ends it at once");
        stop.cancel();
        let again = next().await;
        std::process::exit(128 + again.as_raw_value());
    });
    Ok(())
}
