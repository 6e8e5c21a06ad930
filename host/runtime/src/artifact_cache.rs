//! Machine code of plugins, kept between starts.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::RuntimeError;
use crate::load::Digest;

/// Bytes of the SHA-256 at the end of every file.
const CHECKSUM: usize = 32;

/// Extension of the files.
const ARTEFACT: &str = "cwasm";

/// Extension of a file that is being written.
const TEMPORARY: &str = "tmp";

/// Age at which the file of somebody who is still writing is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How long an artefact is kept that nobody loads: the plugin, or the engine, was replaced by another version.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A directory of compiled plugins, named by the digest of the `.wasm` and by everything of the engine that the
/// machine code depends on.
///
/// Loading such a file runs whatever is in it, outside of the sandbox. So it is only ever a file that this user wrote
/// and nobody else can write to, in a directory of which the same is true: [`open`](Self::open) refuses any other.
#[derive(Debug)]
pub(crate) struct ArtifactCache {
    dir: PathBuf,
    engine_hash: u64,
}

impl ArtifactCache {
    pub(crate) fn open(dir: PathBuf, engine: &Engine) -> Result<Self, RuntimeError> {
        let fail = |reason: String| RuntimeError::Cache { path: dir.clone(), reason };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| fail(error.to_string()))?;
        fs::metadata(&dir)
            .map_err(|error| error.to_string())
            .and_then(|metadata| refuse_foreign(&metadata))
            .map_err(fail)?;
        remove_old(&dir, SystemTime::now());
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { engine_hash: hasher.finish(), dir })
    }

    /// The compiled plugin, if it is there and fits. A file that does not load is removed: it is only a cache.
    pub(crate) fn load(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        let path = self.path(digest);
        let loaded = match read(&path) {
            Ok(None) => return None,
            Ok(Some(file)) => deserialize(engine, &file),
            Err(reason) => Err(reason),
        };
        match loaded {
            Ok(component) => Some(component),
            Err(reason) => {
                tracing::warn!(path = %path.display(), "a compiled plugin does not load and is made anew: {reason}");
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), "it cannot be removed either: {error}");
                }
                None
            }
        }
    }

    /// Keeps a compiled plugin. Failure costs the next start a compilation and nothing else.
    pub(crate) fn store(&self, digest: Digest, component: &Component) {
        if let Err(reason) = self.try_store(digest, component) {
            tracing::warn!(dir = %self.dir.display(), "a compiled plugin could not be kept: {reason}");
        }
    }

    fn try_store(&self, digest: Digest, component: &Component) -> Result<(), String> {
        let code = component.serialize().map_err(|error| format!("{error:#}"))?;
        let path = self.path(digest);
        // Unique also among processes that share the directory from different containers.
        let nonce = RandomState::new().build_hasher().finish();
        let temporary = path.with_extension(format!("{nonce:016x}.{TEMPORARY}"));
        let write = || -> io::Result<()> {
            let mut file: File =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&code)?;
            file.write_all(&Sha256::digest(&code))?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| {
            // Best effort: what matters is the first error.
            let _ = fs::remove_file(&temporary);
            error.to_string()
        })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{digest}-{:016x}.{ARTEFACT}", self.engine_hash))
    }
}

/// Reads a file that this user wrote and nobody else can write to; none where there is no file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    // Not through a link, and not waiting for somebody at the other end of a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| error.to_string())?,
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no regular file".to_owned());
    }
    refuse_foreign(&metadata)?;
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut content).map_err(|error| error.to_string())?;
    // Tells that it is in use, also where the file system does not note it by itself.
    if let Err(error) = file.set_times(FileTimes::new().set_accessed(SystemTime::now())) {
        tracing::debug!(path = %path.display(), "the use of a compiled plugin cannot be noted: {error}");
    }
    Ok(Some(content))
}

/// Removes what an interrupted write has left, and what nobody has used for long.
fn remove_old(dir: &Path, now: SystemTime) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), "the compiled plugins cannot be listed: {error}");
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let limit = match path.extension().and_then(|extension| extension.to_str()) {
            Some(TEMPORARY) => ABANDONED,
            Some(ARTEFACT) => UNUSED,
            _ => continue,
        };
        let used = metadata.modified().into_iter().chain(metadata.accessed()).max();
        let age = used.and_then(|used| now.duration_since(used).ok()).unwrap_or_default();
        if age <= limit {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => tracing::debug!(path = %path.display(), "an old file of the cache was removed"),
            // Another process that shares the directory was quicker.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), "an old file of the cache cannot be removed: {error}");
            }
        }
    }
}

/// What a file says, if it is still what was written: a disk that flips a bit must not choose the instructions that
/// this process runs.
fn deserialize(engine: &Engine, file: &[u8]) -> Result<Component, String> {
    let length = file.len().checked_sub(CHECKSUM).ok_or("it is too short")?;
    let (code, checksum) = file.split_at(length);
    if *checksum != *Sha256::digest(code) {
        return Err("its checksum is not that of its content".to_owned());
    }
    // SAFETY: this is what `store` above has serialized, whole and unchanged, read from a file and a directory that
    // only this user can write to.
    #[allow(unsafe_code)]
    let loaded = unsafe { Component::deserialize(engine, code) };
    loaded.map_err(|error| format!("{error:#}"))
}

/// Refuses a directory, or a file, into which somebody else could put machine code for us to run.
fn refuse_foreign(metadata: &Metadata) -> Result<(), String> {
    // /proc/self belongs to the effective user: the safe way to learn who we are.
    let ours = fs::metadata("/proc/self").map_err(|error| error.to_string())?.uid();
    if metadata.uid() != ours {
        return Err(format!("it belongs to user {}, not to us", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err("others can write to it (chmod go-w it)".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = ArtifactCache::open(dir.path().to_owned(), &Engine::default());
        assert!(refused.unwrap_err().to_string().contains("others can write"));
    }

    /// The smallest component that there is.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A cache with one artefact that loads.
    fn filled(dir: &Path, engine: &Engine) -> (ArtifactCache, Digest) {
        let cache = ArtifactCache::open(dir.join("cache"), engine).unwrap();
        let digest = Digest::of(EMPTY);
        cache.store(digest, &Component::from_binary(engine, EMPTY).unwrap());
        assert!(cache.load(engine, digest).is_some());
        (cache, digest)
    }

    #[test]
    fn an_artefact_that_others_can_write_to_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let (cache, digest) = filled(dir.path(), &engine);
        for mode in [0o620, 0o602] {
            cache.store(digest, &Component::from_binary(&engine, EMPTY).unwrap());
            fs::set_permissions(cache.path(digest), fs::Permissions::from_mode(mode)).unwrap();
            assert!(cache.load(&engine, digest).is_none(), "{mode:o}");
            assert!(!cache.path(digest).exists(), "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_file_of_the_directory_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let (cache, digest) = filled(dir.path(), &engine);
        let (path, elsewhere) = (cache.path(digest), dir.path().join("elsewhere"));
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(cache.load(&engine, digest).is_none(), "a link");
        assert!(
            fs::symlink_metadata(&path).is_err() && elsewhere.exists(),
            "the link goes, its target stays"
        );
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(cache.load(&engine, digest).is_none(), "a pipe, and nobody waits at it");
    }

    #[test]
    fn what_was_given_up_or_has_not_been_used_for_long_goes() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let (cache, digest) = filled(dir.path(), &engine);
        let temporary = cache.path(digest).with_extension("0.tmp");
        let other = cache.dir.join("note");
        fs::write(&temporary, "half").unwrap();
        fs::write(&other, "somebody's").unwrap();
        let names = |at: SystemTime| {
            remove_old(&cache.dir, at);
            fs::read_dir(&cache.dir).unwrap().count()
        };
        let now = SystemTime::now();
        assert_eq!(names(now), 3);
        assert_eq!(names(now + ABANDONED * 2), 2);
        assert!(!temporary.exists());
        let old = FileTimes::new().set_modified(now - UNUSED * 2).set_accessed(now - UNUSED * 2);
        File::open(cache.path(digest)).unwrap().set_times(old).unwrap();
        assert!(cache.load(&engine, digest).is_some(), "it was used");
        assert_eq!(names(now + UNUSED / 2), 2);
        assert_eq!(names(now + UNUSED * 2), 1);
        assert!(other.exists());
    }

    #[test]
    fn a_damaged_artefact_is_dropped_and_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = ArtifactCache::open(dir.path().join("new"), &engine).unwrap();
        let digest = Digest::of(b"plugin");
        fs::write(cache.path(digest), b"not machine code").unwrap();
        assert!(cache.load(&engine, digest).is_none());
        assert!(!cache.path(digest).exists());
    }
}
