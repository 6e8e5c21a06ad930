//! The file of a server's own key.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::{KeyError, SigningKey};

/// Only for its owner.
const MODE: u32 = 0o600;

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is in it is no key. It is left as it is: somebody may have a copy of the right one.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
}

impl SigningKey {
    /// The key in a file. One that is not there is made; who else could read it is kept out from now on.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let file = |source| KeyFileError::File { path: path.to_owned(), source };
        let key = |source| KeyFileError::Key { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => {
                let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
                if mode != MODE {
                    tracing::warn!(file = %path.display(), "others could read the key that calls are signed with: mode {mode:o}");
                    fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(file)?;
                }
                Self::from_pem(&text).map_err(key)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (made, text) = Self::generate().map_err(key)?;
                write_private(path, &text).map_err(file)?;
                tracing::info!(file = %path.display(), kid = made.kid(), "a key to sign calls with was made");
                Ok(made)
            }
            Err(error) => Err(file(error)),
        }
    }
}

/// Writes a file in one step. Its mode is right from its first moment on, under either name.
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", Uuid::new_v4().simple()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("call-signing.key");
        let made = SigningKey::load_or_create(&path).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(SigningKey::load_or_create(&path).unwrap().kid(), made.kid());
        assert_eq!(mode(), 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_with_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("call-signing.key");
        fs::write(&path, "no key").unwrap();
        assert!(matches!(SigningKey::load_or_create(&path), Err(KeyFileError::Key { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "no key");
        assert!(matches!(SigningKey::load_or_create(dir.path()), Err(KeyFileError::File { .. })));
        let nowhere = dir.path().join("missing/call-signing.key");
        assert!(matches!(SigningKey::load_or_create(&nowhere), Err(KeyFileError::File { .. })));
    }
}
