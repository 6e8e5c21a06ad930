//! The directory into which plugins are dropped: adds, replaces and removes them while controllers serve.
//!
//! One task owns everything here. It compares the directory with what it has taken, lets changed files be loaded, and
//! decides what becomes of them. Nothing that a file does can end a call that is under way.

mod files;
mod loading;
mod retry;
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
use streamspace_runtime::{CallError, Digest, LoadError, Plugin, Runtime};
use tokio_util::sync::CancellationToken;

use self::files::{Fingerprint, Found, Loaded, SETTLED};
use self::loading::{Done, Loading};
use self::retry::Retry;
use self::service::{Problem, Service};
use self::view::{About, Directory};
use self::watch::Watch;
use crate::config::ControllerConfig;
use crate::controllers::{self, ByDefault};
use crate::plugins;

/// How often the directory is looked at, whether it says that it changed or not.
const RESCAN: Duration = Duration::from_secs(10);

/// Changes come in crowds.
const DEBOUNCE: Duration = Duration::from_millis(50);

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
    loading: Loading,
    directory: Arc<Directory>,
    /// Why the directory could not be read the last time.
    unreadable: Option<String>,
    /// Files that could not be looked at the last time, and why not.
    unknown: BTreeMap<String, String>,
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
    retry: Retry,
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
    /// It does not serve for a reason that may pass without any change of the file.
    TryAgain(String),
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
            retry: Retry::default(),
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
            loading: Loading::new(),
            directory: Arc::default(),
            unreadable: None,
            unknown: BTreeMap::new(),
        };
        let mut loaded = BTreeMap::new();
        let patience = Instant::now() + START_PATIENCE;
        loop {
            this.look().await;
            while let Some(done) = this.loading.next().await {
                loaded.insert(done.name.clone(), done);
            }
            if !this.is_unsettled() || Instant::now() > patience {
                break;
            }
            tokio::time::sleep(SETTLED).await;
        }
        // In the order of their names: which of two files gets a name is the same at every start.
        for done in loaded.into_values() {
            this.loaded(done).await;
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
                    if let Some(problem) = service.problem_of(name).filter(|problem| !problem.is_passing()) {
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
            let rescan = tokio::time::sleep(self.pause());
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = self.loading.next() => self.loaded(done).await,
                () = self.watch.changed() => tokio::time::sleep(DEBOUNCE).await,
                () = rescan => self.reconsider().await,
            }
            self.look().await;
            self.try_again().await;
            self.publish();
        }
    }

    /// How long until the next look, if nothing calls for one before.
    fn pause(&self) -> Duration {
        let usual = if self.is_unsettled() { SETTLED } else { RESCAN };
        let files = self.files.values().filter(|file| !file.is_loading).map(|file| &file.retry);
        let retries = files.chain(self.services.values().map(|service| &service.retry));
        // What is due may have to wait for a directory that cannot be read now.
        retries.filter_map(Retry::left).fold(usual, Duration::min).max(SETTLED)
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
            .and_then(|found| found.map_err(|error| format!("the directory cannot be read: {error}")))
        {
            Ok(found) => found,
            // What cannot be read is not gone.
            Err(error) => {
                if self.unreadable.as_ref() != Some(&error) {
                    tracing::warn!(dir = %self.dir.display(), "no plugins: {error}");
                    self.unreadable = Some(error);
                }
                return;
            }
        };
        self.unreadable = None;
        let Found { files: found, unknown } = found;
        for (name, error) in unknown.iter().filter(|(name, error)| self.unknown.get(*name) != Some(*error)) {
            tracing::warn!(file = name, "this file cannot be looked at: {error}");
        }
        self.unknown = unknown;
        let now = Instant::now();
        for (name, seen) in &found {
            let file = self.files.entry(name.clone()).or_insert_with(|| File::new(*seen));
            file.absent_since = None;
            if file.seen != *seen {
                (file.seen, file.seen_since) = (*seen, now);
                file.retry.forget();
            }
            if matches!(file.verdict, Verdict::TryAgain(_)) && file.is_current() && file.retry.is_due() {
                // As if it were new.
                file.taken = None;
            }
            let settled = seen.is_old() || now.duration_since(file.seen_since) >= SETTLED;
            if settled && !file.is_loading && file.taken != Some(*seen) {
                (file.taken, file.is_loading) = (Some(*seen), true);
                self.loading.begin(&self.runtime, self.dir.join(name), name, *seen);
            }
        }
        let mut gone = Vec::new();
        for (name, file) in self.files.iter_mut().filter(|(name, _)| !found.contains_key(*name)) {
            // What cannot be looked at is not gone either.
            if self.unknown.contains_key(name) {
                file.absent_since = None;
                continue;
            }
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
    async fn loaded(&mut self, Done { name, seen, result }: Done) {
        // It may have gone, and another one have come under its name.
        let Some(file) = self.files.get_mut(&name).filter(|file| file.taken == Some(seen)) else { return };
        file.is_loading = false;
        let Loaded { digest, plugin } = match result {
            Ok(Some(loaded)) => loaded,
            Ok(None) => {
                (file.taken, file.seen_since) = (None, Instant::now());
                return;
            }
            Err(error) => {
                self.conclude(&name, Verdict::Refused(format!("loading it failed: {error}")));
                return;
            }
        };
        file.digest = digest;
        file.about = plugin.as_ref().ok().map(About::of);
        let verdict = match plugin {
            Ok(plugin) => self.admit(&name, plugin).await,
            Err(error) if is_passing(&error) => Verdict::TryAgain(error.to_string()),
            Err(error) => Verdict::Refused(error.to_string()),
        };
        self.conclude(&name, verdict);
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
            Verdict::TryAgain(reason) => {
                tracing::warn!(file = name, "this file is not served yet, and tried again: {reason}");
            }
            Verdict::NameTaken { by } => {
                tracing::error!(file = name, "left out: there is another plugin of this name in {by}");
            }
        }
        match verdict {
            Verdict::TryAgain(_) => file.retry.failed(),
            _ => file.retry.forget(),
        }
        (file.verdict, file.since) = (verdict, Utc::now());
    }

    /// Lets services try again to start the controllers that they could not start.
    async fn try_again(&mut self) {
        let due = self.services.values().filter(|service| service.retry.is_due());
        let due: Vec<_> = due.filter_map(|service| Some((service.file.clone(), service.plugin()?))).collect();
        for (file, plugin) in due {
            let name = plugin.name().to_owned();
            // A verdict on the file is none on what serves already.
            if !matches!(self.admit(&file, plugin).await, Verdict::Serves)
                && let Some(service) = self.services.get_mut(&name)
            {
                service.retry.failed();
            }
        }
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
                Err(problem) => Err(problem),
            },
        };
        match admitted {
            Ok(()) => {}
            Err(Problem::Passing(reason)) => return Verdict::TryAgain(reason),
            Err(Problem::Lasting(reason)) => return Verdict::Refused(reason),
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
        let unknown = self.unknown.iter().map(|(name, reason)| (name.as_str(), reason.as_str()));
        // There is no better place for it: without, an empty list would say that there are no plugins.
        let dir = self.dir.to_string_lossy();
        let unreadable = self.unreadable.as_deref().map(|reason| (&*dir, reason));
        self.directory.publish(&self.files, &self.services, unknown.chain(unreadable));
    }
}

/// Whether the same file may be loaded later: it was this machine that failed, or that had too little time.
fn is_passing(error: &LoadError) -> bool {
    matches!(error, LoadError::Read(_) | LoadError::Probe(CallError::TimedOut(_) | CallError::Busy(_)))
}

#[cfg(test)]
mod tests {
    use streamspace_control::ControlConfig;
    use streamspace_runtime::RuntimeConfig;

    use super::*;

    async fn open(dir: &Path) -> DropIn {
        let control = Control::open(ControlConfig::new(dir.join("data"))).await.unwrap();
        let runtime = Runtime::new(RuntimeConfig::default()).unwrap();
        DropIn::open(runtime, Arc::new(control), &dir.join("plugins"), Vec::new()).await.unwrap()
    }

    /// The end of a load that has to be under way.
    async fn end(this: &mut DropIn) -> Done {
        loop {
            this.look().await;
            if let Some(done) = this.loading.next().await {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test]
    async fn what_fails_for_a_while_is_tried_again_without_any_change() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        let mut this = open(dir.path()).await;
        std::fs::write(dir.path().join("plugins/a.wasm"), "no plugin").unwrap();
        let first = end(&mut this).await;
        let failed = || Loaded { digest: None, plugin: Err(std::io::Error::from_raw_os_error(24).into()) };
        this.loaded(Done { result: Ok(Some(failed())), ..first }).await;
        assert!(matches!(this.files["a.wasm"].verdict, Verdict::TryAgain(_)));
        assert!(this.pause() <= Duration::from_secs(1));
        let second = end(&mut this).await;
        this.loaded(second).await;
        assert!(matches!(&this.files["a.wasm"].verdict, Verdict::Refused(why) if why.contains("component")));
        assert_eq!(this.pause(), RESCAN);
    }

    #[tokio::test]
    async fn a_load_concerns_the_file_that_it_was_begun_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugins/a.wasm");
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        let mut this = open(dir.path()).await;
        std::fs::write(&path, "one").unwrap();
        let one = end(&mut this).await;
        // It goes, and another one comes.
        this.removed("a.wasm").await;
        std::fs::write(&path, "two").unwrap();
        let two = end(&mut this).await;
        this.loaded(one).await;
        assert!(matches!(this.files["a.wasm"].verdict, Verdict::New) && this.files["a.wasm"].is_loading);
        // A load that panics is an end as well.
        let panicked = tokio::spawn(async { panic!("as the compiler might") }).await.unwrap_err();
        this.loaded(Done { result: Err(panicked), ..two }).await;
        assert!(matches!(&this.files["a.wasm"].verdict, Verdict::Refused(why) if why.contains("panicked")));
        assert!(!this.files["a.wasm"].is_loading);
    }
}
