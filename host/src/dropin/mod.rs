//! The directory into which plugins are dropped: adds, replaces and removes them while controllers serve.
//!
//! One task owns everything here. It compares the directory with what it has taken, lets changed files be loaded, and
//! decides what becomes of them. Nothing that a file does can end a call that is under way.

mod files;
mod service;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use chrono::{DateTime, Utc};
use streamspace_control::Control;
use streamspace_runtime::{Digest, Plugin, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::files::{Fingerprint, Loaded, SETTLED};
use self::service::Service;
use self::view::{About, Directory};
use self::watch::Watch;
use crate::config::ControllerConfig;
use crate::controllers::{self, ByDefault};
use crate::plugins;

/// How often the directory is looked at, whether it says that it changed or not.
const RESCAN: Duration = Duration::from_secs(10);

/// Changes come in crowds.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Files that are loaded at once. Compiling takes every processor it gets.
const LOADS: usize = 2;

/// How long the start waits for files that are still being written.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// What is said to those who call a controller whose plugin was removed.
const REMOVED: &str = "plugin file removed";

/// The directory.
pub(crate) struct DropIn {
    runtime: Runtime,
    control: Arc<Control>,
    dir: PathBuf,
    /// Controllers of the configuration; none = those that are found.
    configured: Vec<ControllerConfig>,
    watch: Watch,
    files: BTreeMap<String, File>,
    /// By the plugin's name.
    services: BTreeMap<String, Service>,
    loading: JoinSet<(String, Option<Loaded>)>,
    loads: Arc<Semaphore>,
    directory: Arc<Directory>,
    /// Why the directory could not be read the last time.
    unreadable: Option<String>,
}

/// One file in the directory.
struct File {
    seen: Fingerprint,
    seen_since: Instant,
    /// It was not there the last time.
    absent_since: Option<Instant>,
    /// What was loaded last, or is being loaded.
    taken: Option<Fingerprint>,
    is_loading: bool,
    digest: Option<Digest>,
    about: Option<About>,
    verdict: Verdict,
    since: DateTime<Utc>,
}

/// What became of the content of a file.
enum Verdict {
    /// Nothing yet.
    New,
    /// It serves.
    Serves,
    /// Nobody has granted what it asks for.
    AwaitingGrant,
    /// It could serve, but nothing is there for it; looked at again from time to time.
    Unused { plugin: Plugin, reason: String },
    /// It cannot serve.
    Refused(String),
    /// It cannot serve as long as another file has its name.
    NameTaken { by: String },
}

impl File {
    fn new(seen: Fingerprint) -> Self {
        Self {
            seen,
            seen_since: Instant::now(),
            absent_since: None,
            taken: None,
            is_loading: false,
            digest: None,
            about: None,
            verdict: Verdict::New,
            since: Utc::now(),
        }
    }

    fn is_current(&self) -> bool {
        self.taken == Some(self.seen) && !self.is_loading
    }
}

impl DropIn {
    /// Loads what is there and starts its controllers. A controller of the configuration whose plugin is there, but
    /// does not fit, is an error; one whose plugin is not there waits for it.
    pub(crate) async fn open(
        runtime: Runtime,
        control: Arc<Control>,
        dir: &Path,
        configured: Vec<ControllerConfig>,
    ) -> anyhow::Result<Self> {
        let mut this = Self {
            runtime,
            control,
            dir: dir.to_owned(),
            configured,
            watch: Watch::new(dir),
            files: BTreeMap::new(),
            services: BTreeMap::new(),
            loading: JoinSet::new(),
            loads: Arc::new(Semaphore::new(LOADS)),
            directory: Arc::default(),
            unreadable: None,
        };
        let mut loaded = BTreeMap::new();
        let patience = Instant::now() + START_PATIENCE;
        loop {
            this.look().await;
            while let Some(done) = this.loading.join_next().await {
                let (file, result) = done?;
                loaded.insert(file, result);
            }
            if !this.is_unsettled() || Instant::now() > patience {
                break;
            }
            tokio::time::sleep(SETTLED).await;
        }
        // In the order of their names: which of two files gets a name is the same at every start.
        for (file, result) in loaded {
            this.loaded(&file, result).await;
        }
        this.check_configured()?;
        this.publish();
        Ok(this)
    }

    /// For the REST API.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// What an operator wrote has to work.
    fn check_configured(&self) -> anyhow::Result<()> {
        for controller in &self.configured {
            let name = &controller.name;
            let refused = self.files.values().find_map(|file| match (&file.about, &file.verdict) {
                (Some(about), Verdict::Refused(reason)) if about.name == controller.plugin => Some(reason),
                _ => None,
            });
            match self.services.get(&controller.plugin) {
                Some(service) => {
                    if let Some(problem) = service.problem_of(name) {
                        bail!("controller `{name}`: {problem}");
                    }
                }
                None => match refused {
                    Some(reason) => bail!("{reason}"),
                    None => {
                        let found: Vec<_> =
                            self.files.values().filter_map(|file| file.about.as_ref()).collect();
                        let found: Vec<_> = found.iter().map(|about| about.name.as_str()).collect();
                        tracing::warn!(
                            controller = name,
                            "this controller waits for the plugin `{}`, which is not there (found: {})",
                            controller.plugin,
                            found.join(", ")
                        );
                    }
                },
            }
        }
        Ok(())
    }

    /// Keeps up with the directory until it is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let rescan = tokio::time::sleep(if self.is_unsettled() { SETTLED } else { RESCAN });
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = self.loading.join_next() => match done {
                    Ok((file, result)) => self.loaded(&file, result).await,
                    Err(error) => tracing::error!("loading a plugin failed: {error}"),
                },
                () = self.watch.changed() => tokio::time::sleep(DEBOUNCE).await,
                () = rescan => self.reconsider().await,
            }
            self.look().await;
            self.publish();
        }
    }

    /// Whether the next look should come soon.
    fn is_unsettled(&self) -> bool {
        self.files
            .values()
            .any(|file| file.absent_since.is_some() || (!file.is_loading && !file.is_current()))
    }

    /// Compares the directory with what was taken, and takes what has changed and is settled.
    async fn look(&mut self) {
        self.watch.renew();
        let dir = self.dir.clone();
        let scanned = tokio::task::spawn_blocking(move || files::scan(&dir)).await;
        let found = match scanned
            .map_err(|error| error.to_string())
            .and_then(|found| found.map_err(|error| error.to_string()))
        {
            Ok(found) => found,
            // What cannot be read is not gone.
            Err(error) => {
                if self.unreadable.as_ref() != Some(&error) {
                    tracing::warn!(dir = %self.dir.display(), "the directory of plugins cannot be read: {error}");
                    self.unreadable = Some(error);
                }
                return;
            }
        };
        self.unreadable = None;
        let now = Instant::now();
        for (name, seen) in &found {
            let file = self.files.entry(name.clone()).or_insert_with(|| File::new(*seen));
            file.absent_since = None;
            if file.seen != *seen {
                (file.seen, file.seen_since) = (*seen, now);
            }
            let settled = seen.is_old() || now.duration_since(file.seen_since) >= SETTLED;
            if settled && !file.is_loading && file.taken != Some(*seen) {
                (file.taken, file.is_loading) = (Some(*seen), true);
                let (runtime, loads) = (self.runtime.clone(), Arc::clone(&self.loads));
                let (name, path, seen) = (name.clone(), self.dir.join(name), *seen);
                self.loading.spawn(async move {
                    let _permit = loads.acquire_owned().await;
                    let loaded = files::load(&runtime, &path, seen).await;
                    (name, loaded)
                });
            }
        }
        let mut gone = Vec::new();
        for (name, file) in self.files.iter_mut().filter(|(name, _)| !found.contains_key(*name)) {
            // Some programs remove a file before they write its successor.
            let absent = now.duration_since(*file.absent_since.get_or_insert(now));
            if absent >= SETTLED {
                gone.push(name.clone());
            }
        }
        for name in gone {
            self.removed(&name).await;
        }
    }

    async fn removed(&mut self, file: &str) {
        self.files.remove(file);
        tracing::info!(file, "plugin file removed");
        for service in self.services.values_mut().filter(|service| service.file == file) {
            service.vacate(&self.control, REMOVED);
        }
        self.reconsider().await;
    }

    /// A file was loaded, or has changed while it was.
    async fn loaded(&mut self, name: &str, loaded: Option<Loaded>) {
        let Some(file) = self.files.get_mut(name) else { return };
        file.is_loading = false;
        let Some(Loaded { digest, plugin }) = loaded else {
            (file.taken, file.seen_since) = (None, Instant::now());
            return;
        };
        file.digest = digest;
        file.about = plugin.as_ref().ok().map(About::of);
        let verdict = match plugin {
            Ok(plugin) => self.admit(name, plugin).await,
            Err(error) => Verdict::Refused(error.to_string()),
        };
        self.conclude(name, verdict);
    }

    fn conclude(&mut self, name: &str, verdict: Verdict) {
        let Some(file) = self.files.get_mut(name) else { return };
        match &verdict {
            Verdict::New | Verdict::Serves => {}
            Verdict::AwaitingGrant => {
                let lines = file.about.as_ref().map(|about| about.configuration.as_str()).unwrap_or_default();
                tracing::warn!(
                    file = name,
                    "awaiting grant: this release does not know this plugin. To use it, write into the configuration:\n{lines}"
                );
            }
            Verdict::Unused { reason, .. } => tracing::warn!(file = name, "no controller: {reason}"),
            Verdict::Refused(reason) => tracing::error!(file = name, "this file is not served: {reason}"),
            Verdict::NameTaken { by } => {
                tracing::error!(file = name, "left out: there is another plugin of this name in {by}");
            }
        }
        (file.verdict, file.since) = (verdict, Utc::now());
    }

    /// Looks again at files that wait for something other than their own change.
    async fn reconsider(&mut self) {
        let mut unused = Vec::new();
        for (name, file) in &mut self.files {
            match &file.verdict {
                Verdict::Unused { plugin, .. } if file.is_current() => {
                    unused.push((name.clone(), plugin.clone()));
                }
                Verdict::NameTaken { by }
                    if !self.services.values().any(|one| one.file == *by && one.serves()) =>
                {
                    // As if it were new.
                    file.taken = None;
                }
                _ => {}
            }
        }
        for (name, plugin) in unused {
            let verdict = self.admit(&name, plugin).await;
            if !matches!(verdict, Verdict::Unused { .. }) {
                self.conclude(&name, verdict);
            }
        }
    }

    /// Decides what becomes of a plugin, and lets it serve if it can.
    async fn admit(&mut self, file: &str, plugin: Plugin) -> Verdict {
        let name = plugin.name().to_owned();
        if let Some((other, _)) =
            self.services.iter().find(|(other, one)| one.file == file && one.serves() && **other != name)
        {
            // Most likely a mistake, and an expensive one.
            return Verdict::Refused(format!(
                "it is the plugin `{name}`, but this file serves as `{other}`: remove it first, or use another file"
            ));
        }
        if let Some(earlier) = self.services.get(&name).filter(|one| one.serves() && one.file != file) {
            // A file that this release knows is not pushed aside by one that only bears its name.
            if !plugins::is_known(plugin.digest()) || earlier.digest().is_some_and(plugins::is_known) {
                return Verdict::NameTaken { by: earlier.file.clone() };
            }
        }
        let wanted = match self.wanted(&plugin).await {
            Ok(wanted) => wanted,
            Err(verdict) => return verdict,
        };
        let pushed_aside = self
            .services
            .get(&name)
            .filter(|one| one.serves() && one.file != file)
            .map(|one| one.file.clone());
        let admitted = match self.services.get_mut(&name) {
            Some(service) => service.replace(&self.runtime, &self.control, file, plugin, &wanted).await,
            None => match Service::start(&self.runtime, &self.control, file, plugin, &wanted).await {
                Ok(service) => {
                    self.services.insert(name, service);
                    Ok(())
                }
                Err(reason) => Err(reason),
            },
        };
        if let Err(reason) = admitted {
            return Verdict::Refused(reason);
        }
        if let Some(other) = pushed_aside {
            self.conclude(&other, Verdict::NameTaken { by: file.to_owned() });
        }
        Verdict::Serves
    }

    /// The controllers that a plugin should serve.
    async fn wanted(&self, plugin: &Plugin) -> Result<Vec<ControllerConfig>, Verdict> {
        let unused = |reason: String| Verdict::Unused { plugin: plugin.clone(), reason };
        if !self.configured.is_empty() {
            let wanted: Vec<_> =
                self.configured.iter().filter(|one| one.plugin == plugin.name()).cloned().collect();
            return match wanted.is_empty() {
                false => Ok(wanted),
                true if plugins::is_known(plugin.digest()) => {
                    Err(unused("the configuration names controllers, but none of this plugin".to_owned()))
                }
                true => Err(Verdict::AwaitingGrant),
            };
        }
        match controllers::by_default(&self.control, plugin).await {
            Ok(ByDefault::Controller(controller)) => Ok(vec![controller]),
            Ok(ByDefault::NotKnown) => Err(Verdict::AwaitingGrant),
            Ok(ByDefault::NothingAt(place)) => Err(unused(format!("there is nothing at {place}"))),
            Ok(ByDefault::NoUsualPlace(endpoint)) => {
                Err(unused(format!("its endpoint `{endpoint}` is nowhere by default")))
            }
            Err(error) => Err(unused(format!("{error:#}"))),
        }
    }

    fn publish(&mut self) {
        self.services.values_mut().for_each(Service::forget_drained);
        self.directory.publish(&self.files, &self.services);
    }
}
