//! The folder with the server's data: made for its owner only, and used by one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::domain::sha256_hex;
use crate::{ControlConfig, ControlError};

/// Holds the locks for as long as it lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    _locks: Vec<File>,
    instance: String,
}

impl DataDir {
    /// Makes what is missing and takes the locks.
    pub(crate) fn claim(config: &ControlConfig) -> Result<Self, ControlError> {
        let folder = &config.data_dir;
        make_private_folder(folder)?;
        let mut locks = vec![lock(&folder.join("lock"))?];
        let instance = instance(folder)?;

        // A server has its own locks.
        let Some(database) = config.database.path() else { return Ok(Self { _locks: locks, instance }) };
        if let Some(parent) = database.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            make_private_folder(parent)?;
        }
        // SQLite gives its other files the mode of this one; the environment of sessions is in there.
        open_private(database).map_err(ControlError::file(database))?;
        make_private_files(database)?;
        // Two data folders may name one database, and one of them by another path.
        let mut name = database.canonicalize().map_err(ControlError::file(database))?.into_os_string();
        name.push(".lock");
        locks.push(lock(&PathBuf::from(name))?);
        Ok(Self { _locks: locks, instance })
    }

    /// Names whoever holds this folder, from one process to the next: they are never two at once.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }
}

/// A name for the folder that a copy of it does not share, on this machine or another.
fn instance(folder: &Path) -> Result<String, ControlError> {
    let path = folder.join("instance");
    let mut file = open_private(&path).map_err(ControlError::file(&path))?;
    let mut id = String::new();
    file.read_to_string(&mut id).map_err(ControlError::file(&path))?;
    if id.is_empty() {
        id = Uuid::new_v4().to_string();
        file.write_all(id.as_bytes()).map_err(ControlError::file(&path))?;
    }
    let file = file.metadata().map_err(ControlError::file(&path))?;
    let host = Path::new("/proc/sys/kernel/hostname");
    let host = fs::read_to_string(host).map_err(ControlError::file(host))?;
    let mut name = sha256_hex(format!("{id} {} {} {host}", file.dev(), file.ino()));
    name.truncate(16);
    Ok(name)
}

fn make_private_folder(path: &Path) -> Result<(), ControlError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(ControlError::file(path))
}

/// A database may have been there before, with its other files, open to all.
fn make_private_files(database: &Path) -> Result<(), ControlError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match fs::set_permissions(&path, fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ControlError::File { path, source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock(path: &Path) -> Result<File, ControlError> {
    let file = open_private(path).map_err(ControlError::file(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ControlError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(ControlError::File { path: path.to_owned(), source }),
    }
}
