//! Hears of changes in the directory.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Watches one directory. A hint only: not every file system tells, so that whoever wants to be sure also looks
/// from time to time.
pub(super) struct Watch {
    dir: PathBuf,
    changed: Arc<Notify>,
    /// The watcher, and which directory it watches.
    watching: Option<(RecommendedWatcher, (u64, u64))>,
    warned: bool,
}

impl Watch {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), changed: Arc::new(Notify::new()), watching: None, warned: false }
    }

    /// Begins to watch, if it does not yet: the directory may come later, or be another one by now.
    pub(super) fn renew(&mut self) {
        let now = std::fs::metadata(&self.dir).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if now == self.watching.as_ref().map(|(_, watched)| *watched) {
            return;
        }
        self.watching = None;
        let Some(now) = now else { return };
        match self.watch() {
            Ok(watcher) => self.watching = Some((watcher, now)),
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(dir = %self.dir.display(), "changes are found late, as the directory cannot be watched: {error}");
            }
            Err(_) => {}
        }
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        let changed = Arc::clone(&self.changed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.map_or(true, |event| is_a_change(event.kind)) {
                changed.notify_one();
            }
        })?;
        watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// Returns when something has changed since the last time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Looking into the directory is an event as well, and must not lead to the next look.
fn is_a_change(kind: EventKind) -> bool {
    !kind.is_access() || kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}
