//! Machine code of plugins, kept between starts.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::RuntimeError;
use crate::load::Digest;

/// Bytes of the SHA-256 at the end of every file.
const CHECKSUM: usize = 32;

/// A directory of compiled plugins, named by the digest of the `.wasm` and by everything of the engine that the
/// machine code depends on.
///
/// Loading such a file runs whatever is in it, outside of the sandbox. So it is only ever a file that this host
/// wrote, in a directory that nobody else can write to: [`open`](Self::open) refuses any other.
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
        refuse_foreign(&dir).map_err(fail)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { engine_hash: hasher.finish(), dir })
    }

    /// The compiled plugin, if it is there and fits. A file that does not load is removed: it is only a cache.
    pub(crate) fn load(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        let path = self.path(digest);
        let file = match fs::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), "a compiled plugin cannot be read and is made anew: {error}");
                return None;
            }
        };
        match deserialize(engine, &file) {
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
        let temporary = path.with_extension(format!("{nonce:016x}.tmp"));
        let write = || -> std::io::Result<()> {
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
        self.dir.join(format!("{digest}-{:016x}.cwasm", self.engine_hash))
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
    // SAFETY: this is what `store` below has serialized, whole and unchanged, read from a directory that only this
    // user can write to.
    #[allow(unsafe_code)]
    let loaded = unsafe { Component::deserialize(engine, code) };
    loaded.map_err(|error| format!("{error:#}"))
}

/// Refuses a directory into which somebody else could put machine code for us to run.
fn refuse_foreign(dir: &Path) -> Result<(), String> {
    let metadata = fs::metadata(dir).map_err(|error| error.to_string())?;
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
