//! From plugins and configuration to controllers that serve.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use streamspace_control::{Control, ControlError, ControllerId, Registration};
use streamspace_runtime::{
    BackendConfig, BindError, CallError, EndpointConfig, LimitOverrides, Limits, Plugin, Runtime, Seat,
};
use streamspace_shell::{Shell, Slot};

use crate::config::ControllerConfig;
use crate::plugins;
use crate::targets::usual_place;

/// The controller for a plugin that nobody has configured.
pub(crate) enum ByDefault {
    /// This one.
    Controller(ControllerConfig),
    /// None: this release does not know the file, and so nobody has granted it anything.
    NotKnown,
    /// None: there is nothing where one of its endpoints usually is.
    NothingAt(String),
    /// None: this endpoint has no usual place.
    NoUsualPlace(String),
}

/// The controller for a plugin that nobody has configured: only if this release knows the very file, and only if
/// something is to be found where its endpoints usually are. Once it was there it stays: a backend that is away is not
/// gone, and neither are its sessions.
pub(crate) async fn by_default(control: &Control, plugin: &Plugin) -> anyhow::Result<ByDefault> {
    let name = plugin.name();
    if !plugins::is_known(plugin.digest()) {
        return Ok(ByDefault::NotKnown);
    }
    let mut missing = None;
    let mut endpoints = BTreeMap::new();
    for asked in &plugin.manifest().endpoints {
        let target = usual_place(asked.kind, asked.default.as_deref());
        let endpoint = target.as_deref().and_then(|target| EndpointConfig::of_kind(asked.kind, target));
        let (Some(target), Some(endpoint)) = (target, endpoint) else {
            return Ok(ByDefault::NoUsualPlace(asked.name.clone()));
        };
        if let Some(socket) = target.strip_prefix("unix://")
            && !Path::new(socket).exists()
        {
            missing = Some(socket.to_owned());
        }
        endpoints.insert(asked.name.clone(), endpoint);
    }
    let controller = ControllerConfig {
        name: format!("{name}-local"),
        plugin: name.to_owned(),
        labels: BTreeMap::new(),
        config: serde_json::Value::Null,
        limits: Default::default(),
        endpoints,
        secrets: BTreeMap::new(),
    };
    if let Some(missing) = missing
        && !control.knows_controller(plugin.backend_type(), &controller.name).await?
    {
        return Ok(ByDefault::NothingAt(missing));
    }
    Ok(ByDefault::Controller(controller))
}

/// What an operator has to write to use a plugin.
pub(crate) fn lines_to_paste(plugin: &Plugin) -> String {
    let name = plugin.name();
    let manifest = plugin.manifest();
    let mut lines = format!("[[controller]]\nname = \"{name}-local\"\nplugin = \"{name}\"\n");
    let LimitOverrides { memory, cpu_ms, calls } = manifest.limits;
    let limits = [
        memory.map(|memory| format!("memory = \"{memory}\"")),
        cpu_ms.map(|ms| format!("cpu_ms = {ms}")),
        calls.map(|calls| format!("calls = {calls}")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if !limits.is_empty() {
        lines.push_str(&format!("limits = {{ {} }}\n", limits.join(", ")));
    }
    for endpoint in &manifest.endpoints {
        let target = endpoint.default.as_deref().unwrap_or("…");
        lines.push_str(&format!(
            "[controller.endpoints.{}]   # {}\n{} = {target:?}\n",
            endpoint.name,
            one_line(&endpoint.description),
            endpoint.kind.key()
        ));
        if !endpoint.allow.is_empty() {
            lines.push_str(&format!("allow = {:?}   # all that it asks for\n", endpoint.allow));
        }
    }
    for secret in &manifest.secrets {
        lines.push_str(&format!(
            "[controller.secrets.{}]   # {}\nfile = \"…\"\n",
            secret.name,
            one_line(&secret.description)
        ));
    }
    lines
}

/// A line break in a comment would begin a line of the configuration.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A controller that serves, whichever plugin is in its slot.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) id: ControllerId,
    pub(crate) seat: Seat,
    pub(crate) slot: Arc<Slot>,
}

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The server cannot take it up.
    #[error("it cannot be registered: {0}")]
    Control(#[from] ControlError),
    /// Its plugin does not take its configuration.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl StartError {
    /// Whether it may go better later without anybody changing anything.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Control(error) => !matches!(error, ControlError::Registration(_)),
            Self::Bind(error) => {
                matches!(error, BindError::Call(CallError::TimedOut(_) | CallError::Busy(_)))
            }
        }
    }
}

/// Registers a controller, binds its plugin and connects both.
pub(crate) async fn start(
    runtime: &Runtime,
    control: &Control,
    plugin: &Plugin,
    controller: &ControllerConfig,
) -> Result<Running, StartError> {
    let registration = Registration {
        controller_type: plugin.backend_type().to_owned(),
        name: controller.name.clone(),
        // In this process: there is no way to it but the one handed over below.
        endpoint: String::new(),
        labels: controller.labels.clone(),
    };
    let id = control.register_controller(registration).await?;
    let config = BackendConfig {
        controller_id: id.to_string(),
        config: controller.config.clone(),
        endpoints: controller.endpoints.clone(),
        secrets: controller.secrets.clone(),
        limits: controller.limits,
    };
    let seat = Seat::new(runtime, config)?;
    let slot = Slot::new(seat.bind(plugin.clone()).await?);
    // More would only wait for each other.
    control.limit_calls(&id, Limits::granted(&controller.limits).calls);
    control.attach_controller(&id, Shell::over(Arc::clone(&slot)).into_transport()).await?;
    tracing::info!(controller = %id, name = controller.name, plugin = plugin.name(), "controller serves");
    Ok(Running { name: controller.name.clone(), id, seat, slot })
}
