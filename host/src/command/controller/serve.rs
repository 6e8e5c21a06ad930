//! `streamspace controller serve`.

mod exposure;
mod membership;
mod services;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use figment::Figment;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use streamspace_call_auth::{Trust, VerifierLayer};
use streamspace_control::GoDuration;
use streamspace_runtime::contract::plugin::{Health, Report};
use streamspace_runtime::{Backend, BackendConfig, CallOptions, Plugin, Runtime, RuntimeConfig};
use streamspace_shell::registration::{Member, MemberError, Place};
use streamspace_shell::{HighWater, Service, Shell, Slot, Tenure};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use self::exposure::ExposureArgs;
use self::membership::{Membership, MembershipArgs};
use crate::config::{self, ControllerConfig};
use crate::print::note;
use crate::targets::{self, Named};
use crate::{executor, serve::stop_on_signals, telemetry};

/// Between two looks at the backend.
const PROBE_PERIOD: Duration = Duration::from_secs(5);

/// The API server lets nobody in with this join token. As for the commands that call a server.
const NOT_LET_IN: u8 = 4;

#[derive(Debug, Args)]
pub(crate) struct ControllerServeArgs {
    /// The plugin (*.wasm)
    #[arg(long, value_name = "FILE")]
    plugin: PathBuf,

    /// Name of the controller. Together with the plugin's type it says which controller this is: under another name it does
    /// not know its sessions any more
    #[arg(long, value_name = "NAME")]
    name: String,

    #[command(flatten)]
    exposure: ExposureArgs,

    #[command(flatten)]
    membership: MembershipArgs,

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

    /// How long calls under way may take to end once the controller is told to stop
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = GoDuration::parse)]
    drain: GoDuration,

    /// What to log: a level, or directives like info,streamspace_runtime=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// Serves until told to stop.
pub(super) fn run(args: ControllerServeArgs) -> anyhow::Result<ExitCode> {
    telemetry::init(&args.log)?;
    match executor::on_all_processors(serve(args)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.downcast_ref().is_some_and(MemberError::is_of_the_token) => {
            note(&format!("streamspace: {error:#}"));
            Ok(NOT_LET_IN.into())
        }
        Err(error) => Err(error),
    }
}

async fn serve(args: ControllerServeArgs) -> anyhow::Result<()> {
    // An error means that somebody has installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let membership = args.membership.read(args.exposure.insecure)?;
    args.exposure.check(membership.is_some())?;
    args.exposure.check_advertised(args.membership.advertise.as_ref())?;
    let tls = args.exposure.tls()?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let listener = TcpListener::bind(args.exposure.listen)
        .await
        .with_context(|| format!("--listen: {} cannot be served on", args.exposure.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;

    let runtime = Runtime::new(RuntimeConfig::default())?;
    let plugin = runtime
        .load_file(&args.plugin)
        .await
        .with_context(|| format!("{} is no plugin to be served", args.plugin.display()))?;
    let Controller { config, labels } = controller(&plugin, &args)?;
    let own_id = config.controller_id.clone();
    // Also for one that will be bound to another id: what is wrong with its configuration is told at once.
    let backend = Backend::bind(plugin.clone(), config.clone()).await?;

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_not_serving::<Service>().await;
    let (saw, seen) = watch::channel(None);
    let taken = Arc::new(Notify::new());
    let (slot, gate, member) = match membership {
        None => {
            tracing::info!(%address, controller = own_id, name = args.name, "serving on {address}");
            (Slot::new(backend), Gate::Open, None)
        }
        Some(membership) => {
            let endpoint = args.exposure.advertised(args.membership.advertise.as_ref(), address)?;
            saw.send_replace(look(&backend).await);
            tracing::info!(%address, name = args.name, endpoint, "serving on {address}, not registered yet");
            let slot = Slot::vacant("this controller is not registered yet");
            let (high_water, tenure) = (HighWater::default(), Tenure::standby());
            let (trust, requests) = Trust::new();
            let gate = Gate::Signed {
                layer: VerifierLayer::new(Arc::clone(&trust)),
                high_water: high_water.clone(),
                tenure: tenure.clone(),
            };
            let held = (high_water, tenure);
            let place = Place::new(plugin, config, Arc::clone(&slot), held, trust, Arc::clone(&taken));
            let Membership { api, join_token, tls_ca: ca, labels: more } = membership;
            let labels = labels.into_iter().chain(more).collect();
            let name = args.name.clone();
            let member = Member { api, join_token, name, endpoint, ca, labels, place, seen, requests };
            (slot, gate, Some(member))
        }
    };
    let probing = tokio::spawn(report_health(Arc::clone(&slot), reporter.clone(), saw, taken));

    let draining = CancellationToken::new();
    let shell = Shell::over(Arc::clone(&slot)).ending_with(draining.clone());
    let router = match gate {
        Gate::Open => services::around(tls, shell.into_service(), health)?,
        Gate::Signed { layer, high_water, tenure } => {
            let service = shell.fenced_by(high_water).held_by(tenure).into_service();
            services::around(tls, tower::Layer::layer(&layer, service), health)?
        }
    };
    let serving = router
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), draining.clone().cancelled_owned());
    let serving = tokio::spawn({
        // If it breaks, nothing is left to be registered.
        let stops_the_others = stop.clone().drop_guard();
        async move {
            let _stops_the_others = stops_the_others;
            serving.await
        }
    });

    // Whatever is waited for then.
    let drain = args.drain.length();
    let ends_by = tokio::spawn({
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            Instant::now() + drain
        }
    });
    let belonged = match member {
        Some(member) => member.run(stop.clone(), drain).await,
        None => {
            stop.cancelled().await;
            Ok(())
        }
    };
    stop.cancel();
    let ends_by = ends_by.await.unwrap_or_else(|_| Instant::now() + drain);
    probing.abort();
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_not_serving::<Service>().await;
    draining.cancel();
    // A mutation goes on when its caller has gone, and no connection is left then that would be waited for.
    let finished = async {
        let served = serving.await;
        slot.idle().await;
        served
    };
    match tokio::time::timeout_at(ends_by, finished).await {
        Ok(served) => served.context("serving failed")?.context("serving failed")?,
        Err(_) => tracing::warn!("calls under way are given up"),
    }
    belonged?;
    tracing::info!("stopped");
    Ok(())
}

/// Whose calls are taken.
enum Gate {
    /// Anybody's.
    Open,
    /// Those that an API server has signed, as long as no other has overtaken it, and this process is the active one.
    Signed { layer: VerifierLayer, high_water: HighWater, tenure: Tenure },
}

/// Tells grpc.health.v1 whether the backend is there, and the API server what was seen. The service as such serves all the
/// time.
async fn report_health(
    slot: Arc<Slot>,
    reporter: HealthReporter,
    saw: watch::Sender<Option<Report>>,
    taken: Arc<Notify>,
) {
    loop {
        // What was seen before the controller was registered holds until then.
        if !slot.is_vacant() {
            let report = slot.check(PROBE_PERIOD).await.ok();
            match &report {
                Some(report) if report.health == Health::Healthy => reporter.set_serving::<Service>().await,
                _ => reporter.set_not_serving::<Service>().await,
            }
            saw.send_replace(report);
        }
        // Whether it is time or another backend is there: it is looked at.
        let _ = tokio::time::timeout(PROBE_PERIOD, taken.notified()).await;
    }
}

async fn look(backend: &Backend) -> Option<Report> {
    backend.check(CallOptions::read(PROBE_PERIOD)).await.ok()
}

/// A file with one controller in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ControllerFile {
    controller: Vec<ControllerConfig>,
}

/// What is served.
struct Controller {
    config: BackendConfig,
    labels: BTreeMap<String, String>,
}

fn controller(plugin: &Plugin, args: &ControllerServeArgs) -> anyhow::Result<Controller> {
    let controller_id = controller_id(plugin.backend_type(), &args.name);
    let Some(file) = &args.config else {
        let config = BackendConfig {
            controller_id,
            endpoints: targets::endpoints(plugin.manifest(), &args.endpoints)?,
            secrets: targets::secrets(&args.secrets),
            ..Default::default()
        };
        return Ok(Controller { config, labels: BTreeMap::new() });
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
    let config = BackendConfig {
        controller_id,
        config: controller.config,
        endpoints: controller.endpoints,
        secrets: controller.secrets,
        limits: controller.limits,
        ..Default::default()
    };
    Ok(Controller { config, labels: controller.labels })
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
