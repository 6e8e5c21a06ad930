//! From plugins and configuration to controllers that serve.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use streamspace_control::{Control, Registration};
use streamspace_runtime::{Backend, BackendConfig, EndpointConfig, EndpointKind, Plugin};
use streamspace_shell::Shell;

use crate::config::ControllerConfig;
use crate::plugins;

/// The controller for a plugin that nobody has configured: only if this release knows the very file, and only if
/// something is to be found where its endpoints usually are. Once it was there it stays: a backend that is away is not
/// gone, and neither are its sessions.
pub(crate) async fn by_default(
    control: &Control,
    plugin: &Plugin,
) -> anyhow::Result<Option<ControllerConfig>> {
    let Some((controller, missing)) = usual_controller(plugin) else { return Ok(None) };
    if let Some(missing) = missing
        && !control.knows_controller(plugin.backend_type(), &controller.name).await?
    {
        tracing::warn!(plugin = plugin.name(), "no controller: there is nothing at {missing}");
        return Ok(None);
    }
    Ok(Some(controller))
}

/// The controller with all endpoints where they usually are, and a socket among them that is not there.
fn usual_controller(plugin: &Plugin) -> Option<(ControllerConfig, Option<String>)> {
    let name = plugin.name();
    if !plugins::is_known(plugin.digest()) {
        tracing::warn!(plugin = name, digest = %plugin.digest(), "awaiting grant: this release does not know this plugin. To use it, write into the configuration:\n{}", lines_to_paste(plugin));
        return None;
    }
    let mut missing = None;
    let mut endpoints = BTreeMap::new();
    for asked in &plugin.manifest().endpoints {
        let target = usual_place(asked.kind, asked.default.as_deref())?;
        if let Some(socket) = target.strip_prefix("unix://")
            && !Path::new(socket).exists()
        {
            missing = Some(socket.to_owned());
        }
        endpoints.insert(asked.name.clone(), EndpointConfig::of_kind(asked.kind, &target)?);
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
    Some((controller, missing))
}

/// Where an endpoint is when nobody says so.
fn usual_place(kind: EndpointKind, default: Option<&str>) -> Option<String> {
    let from_environment = match kind {
        EndpointKind::Docker => std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()),
        EndpointKind::Http | EndpointKind::Socket => None,
    };
    from_environment.or_else(|| default.map(str::to_owned))
}

/// What an operator has to write to use a plugin.
fn lines_to_paste(plugin: &Plugin) -> String {
    let name = plugin.name();
    let mut lines = format!("[[controller]]\nname = \"{name}-local\"\nplugin = \"{name}\"\n");
    for endpoint in &plugin.manifest().endpoints {
        let target = endpoint.default.as_deref().unwrap_or("…");
        lines.push_str(&format!(
            "[controller.endpoints.{}]   # {}\n{} = {target:?}\n",
            endpoint.name,
            // A line break in it would be a line of the configuration.
            endpoint.description.replace(char::is_control, " "),
            endpoint.kind.key()
        ));
        if !endpoint.allow.is_empty() {
            lines.push_str(&format!("allow = {:?}   # all that it asks for\n", endpoint.allow));
        }
    }
    lines
}

/// Registers a controller, binds its plugin and connects both.
pub(crate) async fn start(
    control: &Control,
    plugins: &BTreeMap<String, Plugin>,
    controller: &ControllerConfig,
) -> anyhow::Result<()> {
    let plugin = plugins.get(&controller.plugin).ok_or_else(|| {
        let found: Vec<&str> = plugins.keys().map(String::as_str).collect();
        anyhow!("there is no plugin `{}` (found: {})", controller.plugin, found.join(", "))
    })?;
    let registration = Registration {
        controller_type: plugin.backend_type().to_owned(),
        name: controller.name.clone(),
        // In this process: there is no way to it but the one handed over below.
        endpoint: String::new(),
        labels: controller.labels.clone(),
    };
    let id = control.register_controller(registration).await.context("it cannot be registered")?;
    let config = BackendConfig {
        controller_id: id.to_string(),
        config: controller.config.clone(),
        endpoints: controller.endpoints.clone(),
        secrets: controller.secrets.clone(),
        limits: controller.limits,
    };
    let backend = Backend::bind(plugin.clone(), config).await?;
    control.attach_controller(&id, Shell::new(backend).into_transport()).await?;
    tracing::info!(controller = %id, name = controller.name, plugin = plugin.name(), "controller serves");
    Ok(())
}
