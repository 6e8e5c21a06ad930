//! How plugins look to operators.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use streamspace_control::{
    AskedEndpoint, AskedLimits, PluginController, PluginDirectory, PluginState, PluginView, Replacement,
};
use streamspace_runtime::{Plugin, WeakPlugin};
use streamspace_shell::Slot;

use super::service::Service;
use super::{File, REMOVED, Verdict};
use crate::controllers;

/// What a plugin says of itself, without keeping it alive.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) name: String,
    version: String,
    controller_type: String,
    endpoints: Vec<AskedEndpoint>,
    secrets: Vec<String>,
    limits: AskedLimits,
    /// The lines that grant what it asks for.
    pub(super) configuration: String,
}

impl About {
    pub(super) fn of(plugin: &Plugin) -> Self {
        let manifest = plugin.manifest();
        let endpoints = manifest.endpoints.iter().map(|asked| AskedEndpoint {
            name: asked.name.clone(),
            kind: asked.kind.key().to_owned(),
            description: asked.description.clone(),
            default: asked.default.clone(),
        });
        Self {
            name: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            controller_type: plugin.backend_type().to_owned(),
            endpoints: endpoints.collect(),
            secrets: manifest.secrets.iter().map(|asked| asked.name.clone()).collect(),
            limits: AskedLimits {
                memory: manifest.limits.memory.map(|memory| memory.to_string()),
                cpu_ms: manifest.limits.cpu_ms,
                calls: manifest.limits.calls,
            },
            configuration: controllers::lines_to_paste(plugin),
        }
    }
}

/// What the REST API shows. Written by the task that owns the directory, read at any time.
#[derive(Default)]
pub(crate) struct Directory(ArcSwap<Vec<Shown>>);

/// A view, and what it takes to bring it up to the moment.
struct Shown {
    view: PluginView,
    slots: Vec<Arc<Slot>>,
    draining: Vec<WeakPlugin>,
}

impl Directory {
    /// Shows what there is, and beside it names of which nothing is known, with the reason.
    pub(super) fn publish<'a>(
        &self,
        files: &BTreeMap<String, File>,
        services: &BTreeMap<String, Service>,
        unknown: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let of_file = |file: &str| services.values().find(|service| service.file == file);
        let mut shown: Vec<_> =
            files.iter().map(|(name, file)| Shown::file(name, file, of_file(name))).collect();
        let gone = services.values().filter(|service| !files.contains_key(&service.file));
        shown.extend(gone.map(Shown::removed));
        let unknown = unknown.filter(|(name, _)| shown.iter().all(|one| one.view.file != *name));
        let unknown: Vec<_> = unknown.map(|(name, reason)| Shown::unknown(name, reason)).collect();
        shown.extend(unknown);
        shown.sort_by(|one, other| one.view.file.cmp(&other.view.file));
        self.0.store(Arc::new(shown));
    }
}

impl PluginDirectory for Directory {
    fn plugins(&self) -> Vec<PluginView> {
        self.0.load().iter().map(Shown::now).collect()
    }
}

impl Shown {
    fn file(name: &str, file: &File, service: Option<&Service>) -> Self {
        let (state, reason) = file.state();
        let Some(service) = service.filter(|service| service.serves()) else {
            let mut view = view(name, file.about.as_ref(), state, file.since);
            view.digest = file.digest.map(|digest| digest.to_string());
            view.reason = reason;
            // Those that wait for it.
            view.controllers = service.map(controllers_of).unwrap_or_default();
            return Self {
                view,
                slots: Vec::new(),
                draining: service.map(|one| one.draining.clone()).unwrap_or_default(),
            };
        };
        let mut view = view(name, Some(&service.about), PluginState::Serving, service.since);
        view.digest = service.digest().map(|digest| digest.to_string());
        view.controllers = controllers_of(service);
        view.configuration = None;
        view.reason = (!service.problems.is_empty()).then(|| service.problems_in_words());
        if state != PluginState::Serving {
            view.reason = match state {
                PluginState::Loading => view.reason,
                _ => reason
                    .as_ref()
                    .map(|reason| format!("the file is not taken, and the version before serves: {reason}")),
            };
            let digest = file.digest.filter(|_| file.is_current()).map(|digest| digest.to_string());
            if state == PluginState::AwaitingGrant {
                view.configuration = file.about.as_ref().map(|about| about.configuration.clone());
            }
            view.replacement = Some(Replacement { digest, state, reason, since: file.since });
        }
        let slots = service.controllers.values().map(|controller| Arc::clone(&controller.slot)).collect();
        Self { view, slots, draining: service.draining.clone() }
    }

    fn removed(service: &Service) -> Self {
        let mut view = view(&service.file, Some(&service.about), PluginState::Draining, service.since);
        view.reason = Some(REMOVED.to_owned());
        view.controllers = controllers_of(service);
        view.configuration = None;
        Self { view, slots: Vec::new(), draining: service.draining.clone() }
    }

    fn unknown(name: &str, reason: &str) -> Self {
        let mut view = view(name, None, PluginState::Refused, Utc::now());
        view.reason = Some(reason.to_owned());
        Self { view, slots: Vec::new(), draining: Vec::new() }
    }

    fn now(&self) -> PluginView {
        let mut view = self.view.clone();
        let draining = self.draining.iter().filter(|plugin| plugin.is_in_use());
        view.draining = draining.map(|plugin| plugin.digest().to_string()).collect();
        if view.state == PluginState::Draining && view.draining.is_empty() {
            view.state = PluginState::Removed;
        }
        if let Some(failing) = self.slots.iter().find_map(|slot| slot.failing()) {
            view.state = PluginState::Failing;
            view.reason = Some(failing.to_string());
            view.since = Utc::now() - failing.since.elapsed();
        }
        view
    }
}

impl File {
    fn state(&self) -> (PluginState, Option<String>) {
        if !self.is_current() {
            return (PluginState::Loading, None);
        }
        match &self.verdict {
            Verdict::New => (PluginState::Loading, None),
            Verdict::Serves => (PluginState::Serving, None),
            Verdict::AwaitingGrant => {
                let reason =
                    "this release does not know this plugin: a controller has to be configured for it";
                (PluginState::AwaitingGrant, Some(reason.to_owned()))
            }
            Verdict::Unused { reason, .. } => (PluginState::Unused, Some(reason.clone())),
            Verdict::Refused(reason) => (PluginState::Refused, Some(reason.clone())),
            Verdict::TryAgain(reason) => (PluginState::Refused, Some(format!("{reason}; it is tried again"))),
            Verdict::NameTaken { by } => {
                (PluginState::Refused, Some(format!("there is another plugin of this name in {by}")))
            }
        }
    }
}

fn controllers_of(service: &Service) -> Vec<PluginController> {
    let running = service.controllers.values();
    running.map(|one| PluginController { id: one.id.to_string(), name: one.name.clone() }).collect()
}

fn view(file: &str, about: Option<&About>, state: PluginState, since: DateTime<Utc>) -> PluginView {
    let about = about.cloned();
    let mut view = PluginView {
        file: file.to_owned(),
        name: None,
        version: None,
        controller_type: None,
        digest: None,
        state,
        reason: None,
        since,
        controllers: Vec::new(),
        endpoints: Vec::new(),
        secrets: Vec::new(),
        limits: AskedLimits::default(),
        replacement: None,
        draining: Vec::new(),
        configuration: None,
    };
    if let Some(about) = about {
        view.name = Some(about.name);
        view.version = Some(about.version);
        view.controller_type = Some(about.controller_type);
        view.endpoints = about.endpoints;
        view.secrets = about.secrets;
        view.limits = about.limits;
        view.configuration =
            matches!(state, PluginState::AwaitingGrant | PluginState::Unused).then_some(about.configuration);
    }
    view
}
