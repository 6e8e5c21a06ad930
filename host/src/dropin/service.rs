//! A plugin and the controllers that it serves.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use streamspace_control::Control;
use streamspace_runtime::{Digest, Plugin, Runtime, WeakPlugin};

use super::retry::Retry;
use super::view::About;
use crate::config::ControllerConfig;
use crate::controllers::{self, Running, StartError};

/// All controllers of one plugin name. It outlives the plugin: its controllers wait for one that comes back.
pub(super) struct Service {
    /// The file that serves, or did.
    pub(super) file: String,
    pub(super) about: About,
    plugin: Option<Plugin>,
    pub(super) since: DateTime<Utc>,
    controller_type: String,
    /// By name.
    pub(super) controllers: BTreeMap<String, Running>,
    /// Controllers that could not be started, and why.
    pub(super) problems: BTreeMap<String, StartError>,
    /// When those are tried again.
    pub(super) retry: Retry,
    /// Versions on which calls are still ending.
    pub(super) draining: Vec<WeakPlugin>,
}

/// Why a plugin does not serve.
pub(super) enum Problem {
    /// It may serve later.
    Passing(String),
    /// Somebody has to change something.
    Lasting(String),
}

impl Service {
    /// Starts the controllers of a plugin. An error if none of them starts.
    pub(super) async fn start(
        runtime: &Runtime,
        control: &Control,
        file: &str,
        plugin: Plugin,
        wanted: &[ControllerConfig],
    ) -> Result<Self, Problem> {
        let mut service = Self {
            file: file.to_owned(),
            about: About::of(&plugin),
            since: Utc::now(),
            controller_type: plugin.backend_type().to_owned(),
            controllers: BTreeMap::new(),
            problems: BTreeMap::new(),
            retry: Retry::default(),
            draining: Vec::new(),
            plugin: Some(plugin.clone()),
        };
        service.start_missing(runtime, control, &plugin, wanted).await;
        let words = service.problems_in_words();
        match service.controllers.is_empty() {
            false => Ok(service),
            true if service.problems.values().any(StartError::is_passing) => Err(Problem::Passing(words)),
            true => Err(Problem::Lasting(words)),
        }
    }

    /// Lets another version serve all controllers, or none: if it does not fit one of them, everything stays as it is.
    pub(super) async fn replace(
        &mut self,
        runtime: &Runtime,
        control: &Control,
        file: &str,
        plugin: Plugin,
        wanted: &[ControllerConfig],
    ) -> Result<(), Problem> {
        if plugin.backend_type() != self.controller_type {
            return Err(Problem::Lasting(format!(
                "it makes controllers of type `{}`; those that it should serve are of type `{}`",
                plugin.backend_type(),
                self.controller_type
            )));
        }
        if self.digest() != Some(plugin.digest()) {
            let running: Vec<_> = self.controllers.values().collect();
            let bound = join_all(running.iter().map(|one| one.seat.bind(plugin.clone()))).await;
            let mut backends = Vec::new();
            for (controller, bound) in running.iter().zip(bound) {
                backends.push(bound.map_err(|error| {
                    let words = format!("controller `{}`: {error}", controller.name);
                    let error = StartError::from(error);
                    if error.is_passing() { Problem::Passing(words) } else { Problem::Lasting(words) }
                })?);
            }
            for (controller, backend) in running.iter().zip(backends) {
                controller.slot.replace(backend);
                control.probe_controller(&controller.id);
            }
            tracing::info!(
                plugin = plugin.name(), version = plugin.version(), digest = %plugin.digest(), "plugin replaced"
            );
            self.draining.extend(self.plugin.take().map(|earlier| earlier.downgrade()));
            (self.about, self.since, self.plugin) = (About::of(&plugin), Utc::now(), Some(plugin.clone()));
        }
        file.clone_into(&mut self.file);
        self.start_missing(runtime, control, &plugin, wanted).await;
        Ok(())
    }

    async fn start_missing(
        &mut self,
        runtime: &Runtime,
        control: &Control,
        plugin: &Plugin,
        wanted: &[ControllerConfig],
    ) {
        let before = std::mem::take(&mut self.problems);
        for config in
            wanted.iter().filter(|config| !self.controllers.contains_key(&config.name)).collect::<Vec<_>>()
        {
            match controllers::start(runtime, control, plugin, config).await {
                Ok(running) => {
                    self.controllers.insert(config.name.clone(), running);
                }
                Err(error) => {
                    let known = before.get(&config.name).is_some_and(|b| b.to_string() == error.to_string());
                    // It is tried again and again.
                    if !known {
                        tracing::error!(controller = config.name, "this controller does not serve: {error}");
                    }
                    self.problems.insert(config.name.clone(), error);
                }
            }
        }
        if self.problems.is_empty() { self.retry.forget() } else { self.retry.failed() }
    }

    /// Takes the plugin out of service; calls under way end on it.
    pub(super) fn vacate(&mut self, control: &Control, reason: &str) {
        let Some(plugin) = self.plugin.take() else { return };
        self.retry.forget();
        for controller in self.controllers.values() {
            controller.slot.vacate(reason);
            control.probe_controller(&controller.id);
        }
        self.draining.push(plugin.downgrade());
        self.since = Utc::now();
    }

    /// What serves.
    pub(super) fn plugin(&self) -> Option<Plugin> {
        self.plugin.clone()
    }

    /// Whether there is a plugin.
    pub(super) fn serves(&self) -> bool {
        self.plugin.is_some()
    }

    /// SHA-256 of what serves.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.plugin.as_ref().map(Plugin::digest)
    }

    /// Why a controller could not be started.
    pub(super) fn problem_of(&self, controller: &str) -> Option<&StartError> {
        self.problems.get(controller)
    }

    pub(super) fn problems_in_words(&self) -> String {
        let each = self.problems.iter().map(|(name, problem)| format!("controller `{name}`: {problem}"));
        each.collect::<Vec<_>>().join("; ")
    }

    pub(super) fn forget_drained(&mut self) {
        self.draining.retain(WeakPlugin::is_in_use);
    }
}
