//! What stands in the directory.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use streamspace_runtime::{Digest, LoadError, Plugin, Runtime, read_file};

/// A file that has not changed for so long is taken to be written whole. One that is not, but still compiles, is a
/// plugin; one that does not is refused, and taken again when it changes.
pub(super) const SETTLED: Duration = Duration::from_millis(300);

/// By what a changed file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Changes also where a copying program sets the time of modification back.
    changed: (i64, i64),
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether its last change is long ago by the clock.
    pub(super) fn is_old(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let at = Duration::new(seconds.max(0).unsigned_abs(), nanos.clamp(0, 999_999_999) as u32);
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + at).is_ok_and(|age| age > SETTLED)
    }
}

/// What is in a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// All plugin files by name, links followed.
    pub(super) files: BTreeMap<String, Fingerprint>,
    /// Names of which cannot be said whether a file is there, and why not.
    pub(super) unknown: BTreeMap<String, String>,
}

/// Looks at a directory.
pub(super) fn scan(dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Temporary files of rsync and editors begin with a dot.
        if !name.ends_with(".wasm") || name.starts_with('.') {
            continue;
        }
        // One that went away meanwhile is none; neither is a pipe, which would never end.
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => {
                found.files.insert(name, Fingerprint::of(&metadata));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                found.unknown.insert(name, error.to_string());
            }
        }
    }
    Ok(found)
}

/// A file that was read, and what it is.
pub(super) struct Loaded {
    /// None if it could not be read.
    pub(super) digest: Option<Digest>,
    pub(super) plugin: Result<Plugin, LoadError>,
}

/// Reads and loads a file. None if it is not, or not any more, the one that was seen.
pub(super) async fn load(runtime: &Runtime, path: &Path, seen: Fingerprint) -> Option<Loaded> {
    let unchanged = async || {
        let now = tokio::fs::metadata(path).await.ok();
        now.is_some_and(|metadata| Fingerprint::of(&metadata) == seen)
    };
    if !unchanged().await {
        return None;
    }
    let content = read_file(path).await;
    if !unchanged().await {
        return None;
    }
    let content = match content {
        Ok(content) => content,
        Err(error) => return Some(Loaded { digest: None, plugin: Err(error) }),
    };
    let hashed = tokio::task::spawn_blocking(move || (Digest::of(&content), content)).await;
    let (digest, content) = hashed.ok()?;
    Some(Loaded { digest: Some(digest), plugin: runtime.load(content).await })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plugin_files_are_seen_and_every_change_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wasm");
        fs::write(&path, "1").unwrap();
        fs::write(dir.path().join(".b.wasm"), "1").unwrap();
        fs::write(dir.path().join("c.txt"), "1").unwrap();
        fs::create_dir(dir.path().join("d.wasm")).unwrap();
        let first = scan(dir.path()).unwrap();
        assert_eq!(first.files.keys().collect::<Vec<_>>(), ["a.wasm"]);
        assert!(!first.files["a.wasm"].is_old(), "just written");

        fs::write(dir.path().join("new"), "2").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_ne!(scan(dir.path()).unwrap(), first, "of the same size");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere/b.wasm", dir.path().join("b.wasm")).unwrap();
        assert_eq!(scan(dir.path()).unwrap(), Found::default(), "a link to nothing is nothing");
        assert!(scan(&path).is_err(), "a directory that is not there is not an empty one");
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("a.wasm", dir.path().join("a.wasm")).unwrap();
        fs::write(dir.path().join("b.wasm"), "1").unwrap();
        let found = scan(dir.path()).unwrap();
        assert_eq!(found.files.keys().collect::<Vec<_>>(), ["b.wasm"]);
        assert_eq!(found.unknown.keys().collect::<Vec<_>>(), ["a.wasm"]);
    }
}
