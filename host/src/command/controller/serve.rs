//! `streamspace controller serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use figment::Figment;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use streamspace_runtime::contract::plugin::Health;
use streamspace_runtime::{Backend, BackendConfig, CallOptions, Plugin, Runtime, RuntimeConfig};
use streamspace_shell::{Service, Shell};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::config::{self, ControllerConfig};
use crate::targets::{self, Named};
use crate::{executor, serve::stop_on_signals, telemetry};

/// How long calls under way may take to end once the controller is told to stop. Streams that are followed have no end.
const DRAIN: Duration = Duration::from_secs(10);

/// Between two looks at the backend.
const PROBE_PERIOD: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct ControllerServeArgs {
    /// The plugin (*.wasm)
    #[arg(long, value_name = "FILE")]
    plugin: PathBuf,

    /// Name of the controller. Together with the plugin's type it makes the controller's id, which is the mark on all
    /// that it makes: under another name it does not know its sessions any more
    #[arg(long, value_name = "NAME")]
    name: String,

    /// Address and port to serve on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,

    /// File with one [[controller]] section, as in the configuration of the server
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoints", "secrets"])]
    config: Option<PathBuf>,

    /// Target of an endpoint that the plugin asks for, e.g. engine=unix:///var/run/docker.sock
    /// [default: DOCKER_HOST for Docker, else the usual place that the plugin names]
    #[arg(long = "endpoint", value_name = "NAME=TARGET")]
    endpoints: Vec<Named>,

    /// File with a secret that the plugin asks for
    #[arg(long = "secret", value_name = "NAME=FILE")]
    secrets: Vec<Named>,

    /// Serve beyond the loopback interface, although everybody who reaches the port owns the backend
    #[arg(long)]
    insecure: bool,

    /// What to log: a level, or directives like info,streamspace_runtime=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// Serves until told to stop.
pub(super) fn run(args: ControllerServeArgs) -> anyhow::Result<ExitCode> {
    telemetry::init(&args.log)?;
    executor::on_all_processors(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: ControllerServeArgs) -> anyhow::Result<()> {
    if !args.listen.ip().is_loopback() && !args.insecure {
        bail!(
            "--listen {}: whoever reaches this port owns the backend; only the loopback interface is served without --insecure",
            args.listen
        );
    }
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("--listen: {} cannot be served on", args.listen))?;

    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime
        .load_file(&args.plugin)
        .await
        .with_context(|| format!("{} is no plugin to be served", args.plugin.display()))?;
    let config = backend_config(&plugin, &args)?;
    let controller = config.controller_id.clone();
    let backend = Backend::bind(plugin, config).await?;

    let (reporter, health) = tonic_health::server::health_reporter();
    let probing = tokio::spawn(report_health(backend.clone(), reporter.clone()));
    let mutations = backend.clone();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(streamspace_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let address = listener.local_addr().context("the listener has no address")?;
    tracing::info!(%address, controller, name = args.name, "serving on {address}");
    let serving = Server::builder()
        .add_service(Shell::new(backend).into_service())
        .add_service(health)
        .add_service(reflection().build_v1()?)
        // What older tools ask.
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
    // A mutation goes on when its caller has gone, and no connection is left then that would be waited for.
    let finished = async {
        let served = serving.await;
        mutations.idle().await;
        served
    };
    let too_long = async {
        stop.cancelled().await;
        reporter.set_service_status("", ServingStatus::NotServing).await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = finished => served.context("serving failed")?,
        () = too_long => tracing::warn!("calls under way are given up"),
    }
    probing.abort();
    tracing::info!("stopped");
    Ok(())
}

/// Tells grpc.health.v1 whether the backend is there. The service as such serves all the time.
async fn report_health(backend: Backend, reporter: HealthReporter) {
    loop {
        let report = backend.check(CallOptions::read(PROBE_PERIOD)).await;
        match report {
            Ok(report) if report.health == Health::Healthy => reporter.set_serving::<Service>().await,
            _ => reporter.set_not_serving::<Service>().await,
        }
        tokio::time::sleep(PROBE_PERIOD).await;
    }
}

/// A file with one controller in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControllerFile {
    controller: Vec<ControllerConfig>,
}

fn backend_config(plugin: &Plugin, args: &ControllerServeArgs) -> anyhow::Result<BackendConfig> {
    let controller_id = controller_id(plugin.backend_type(), &args.name);
    let Some(file) = &args.config else {
        return Ok(BackendConfig {
            controller_id,
            endpoints: targets::endpoints(plugin.manifest(), &args.endpoints)?,
            secrets: targets::secrets(&args.secrets),
            ..Default::default()
        });
    };
    let controller = read_controller(file)?;
    if controller.plugin != plugin.name() {
        bail!(
            "{}: the section is for the plugin `{}`, not `{}`",
            file.display(),
            controller.plugin,
            plugin.name()
        );
    }
    if controller.name != args.name {
        bail!(
            "{}: the section is for the controller `{}`, not `{}`",
            file.display(),
            controller.name,
            args.name
        );
    }
    Ok(BackendConfig {
        controller_id,
        config: controller.config,
        endpoints: controller.endpoints,
        secrets: controller.secrets,
        limits: controller.limits,
        ..Default::default()
    })
}

fn read_controller(file: &Path) -> anyhow::Result<ControllerConfig> {
    let read: ControllerFile = Figment::from(config::read_file(file)?)
        .extract()
        .with_context(|| format!("{} is not valid", file.display()))?;
    match <[_; 1]>::try_from(read.controller) {
        Ok([controller]) => Ok(controller),
        Err(several) => bail!("{}: needs one [[controller]] section, has {}", file.display(), several.len()),
    }
}

/// The id of a controller that nobody has registered: the same for the same type and name, everywhere and always.
fn controller_id(backend_type: &str, name: &str) -> String {
    let hash = Sha256::new().chain_update(backend_type).chain_update([0]).chain_update(name).finalize();
    format!("ctrl-{}", hex::encode(&hash[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_for_ever_and_parts_are_kept_apart() {
        assert_eq!(controller_id("docker", "a"), controller_id("docker", "a"));
        assert_ne!(controller_id("docker", "a"), controller_id("docker", "b"));
        assert_ne!(controller_id("docker", "a"), controller_id("dockera", ""));
        // Written down: objects of today have to be found by every later version.
        assert_eq!(controller_id("docker", "docker-local"), "ctrl-a67d60ff6520a88a5791834c509390ab");
    }

    #[test]
    fn exactly_one_controller_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("controller.toml");
        let one = "[[controller]]\nname = \"a\"\nplugin = \"docker\"\nconfig = { pids = 64 }\n";
        std::fs::write(&file, one).unwrap();
        assert_eq!(read_controller(&file).unwrap().config["pids"], 64);
        for (text, words) in [
            (one.repeat(2), "has 2"),
            (format!("listen = \"x\"\n{one}"), "not valid"),
            ("controller = []".to_owned(), "has 0"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", read_controller(&file).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
        assert!(read_controller(Path::new("/no/such/file")).is_err());
    }
}
