//! Where things are: the clone, and the cache beside it that survives a fresh clone.

use anyhow::{Context, Result};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories every command works with.
pub struct Paths {
    /// The clone.
    pub root: PathBuf,
    /// Downloads, data, logs, test beds.
    pub cache: PathBuf,
    /// Where cargo builds the project.
    pub target: PathBuf,
}

impl Paths {
    /// From the environment.
    pub fn find() -> Result<Self> {
        // Cargo sets it for `cargo run`; the constant serves a binary started by hand.
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("the xtask folder has no parent")?.to_path_buf();
        let cache = cache_dir(
            env::var_os("STREAMSPACE_CACHE"),
            env::var_os("XDG_CACHE_HOME"),
            env::home_dir().map(PathBuf::into_os_string),
        )
        .context("no cache directory: set STREAMSPACE_CACHE or HOME")?;
        std::fs::create_dir_all(&cache).with_context(|| {
            format!("cannot create {}; set STREAMSPACE_CACHE to a writable directory", cache.display())
        })?;
        // Absolute, because child processes start in other directories.
        let cache = cache.canonicalize()?;
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
            Some(directory) => env::current_dir()?.join(directory),
            None => cache.join("target"),
        };
        Ok(Self { root, cache, target })
    }

    /// What `build` leaves for the user.
    pub fn dist(&self) -> PathBuf {
        self.root.join("dist")
    }

    /// What the tests need around them: a hostile plugin, a registry.
    pub fn testbed(&self) -> PathBuf {
        self.cache.join("testbed")
    }
}

fn cache_dir(own: Option<OsString>, xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let set = |value: Option<OsString>| value.filter(|text| !text.is_empty()).map(PathBuf::from);
    set(own)
        .or_else(|| set(xdg).map(|directory| directory.join("streamspace")))
        .or_else(|| set(home).map(|directory| directory.join(".cache/streamspace")))
}

/// Copies a file so that nobody ever sees half of it, also over a program that is running.
pub fn place(from: &Path, to: &Path) -> Result<()> {
    let directory = to.parent().context("no directory to copy into")?;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let staged = tempfile::Builder::new().prefix(".staged-").tempfile_in(directory)?.into_temp_path();
    std::fs::copy(from, &staged)
        .with_context(|| format!("cannot copy {} to {}", from.display(), directory.display()))?;
    staged.persist(to).with_context(|| format!("cannot put {} in place", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_ours_then_xdg_then_home() {
        let of = |own: &str, xdg: &str, home: &str| {
            cache_dir(Some(own.into()), Some(xdg.into()), Some(home.into()))
        };
        assert_eq!(of("/own", "/xdg", "/home/me"), Some("/own".into()));
        assert_eq!(of("", "/xdg", "/home/me"), Some("/xdg/streamspace".into()));
        assert_eq!(of("", "", "/home/me"), Some("/home/me/.cache/streamspace".into()));
        assert_eq!(cache_dir(None, None, None), None);
    }

    #[test]
    fn placing_replaces_and_keeps_the_mode() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("sub/b"));
        for text in ["one", "two"] {
            std::fs::write(&from, text).unwrap();
            std::fs::set_permissions(&from, std::fs::Permissions::from_mode(0o755)).unwrap();
            place(&from, &to).unwrap();
            assert_eq!(std::fs::read_to_string(&to).unwrap(), text);
        }
        assert_eq!(to.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(to.parent().unwrap()).unwrap().count(), 1);
    }
}
