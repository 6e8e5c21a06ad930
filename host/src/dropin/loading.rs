//! Files that are being loaded.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use streamspace_runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinError, JoinSet};

use super::files::{self, Fingerprint, Loaded};

/// Files that are loaded at once. Compiling takes every processor it gets.
const LOADS: usize = 2;

/// Loads under way.
pub(super) struct Loading {
    tasks: JoinSet<Option<Loaded>>,
    /// Which file a task loads: also one that panics.
    files: HashMap<Id, (String, Fingerprint)>,
    permits: Arc<Semaphore>,
}

/// A load that has ended.
pub(super) struct Done {
    pub(super) name: String,
    /// What was to be loaded. The name may stand for another file by now.
    pub(super) seen: Fingerprint,
    /// None if the file was another one, or changed, when it was read.
    pub(super) result: Result<Option<Loaded>, JoinError>,
}

impl Loading {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), files: HashMap::new(), permits: Arc::new(Semaphore::new(LOADS)) }
    }

    /// Begins to load a file.
    pub(super) fn begin(&mut self, runtime: &Runtime, path: PathBuf, name: &str, seen: Fingerprint) {
        let (runtime, permits) = (runtime.clone(), Arc::clone(&self.permits));
        let task = self.tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            files::load(&runtime, &path, seen).await
        });
        self.files.insert(task.id(), (name.to_owned(), seen));
    }

    /// The next one that ends; none while there is none. May be cancelled.
    pub(super) async fn next(&mut self) -> Option<Done> {
        let joined = self.tasks.join_next_with_id().await?;
        let (id, result) = match joined {
            Ok((id, loaded)) => (id, Ok(loaded)),
            Err(error) => (error.id(), Err(error)),
        };
        let (name, seen) = self.files.remove(&id)?;
        Some(Done { name, seen, result })
    }
}
