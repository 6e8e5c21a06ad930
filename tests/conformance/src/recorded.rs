//! Handles that other versions of a plugin gave: a session's work may be begun by one version and ended by another.

use std::io;
use std::path::{Path, PathBuf};

/// A verb that may take more than one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// CreateSession.
    Create,
    /// DeleteSession.
    Delete,
    /// HibernateSession.
    Hibernate,
    /// WakeSession.
    Wake,
}

/// A handle from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedHandle {
    /// Where it comes from: version and file.
    pub name: String,
    /// The verb that gave it.
    pub verb: Verb,
    /// The handle.
    pub bytes: Vec<u8>,
}

/// Why handles cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// The file system says no.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Of what.
        path: PathBuf,
        /// In its words.
        error: io::Error,
    },
    /// The file's name does not say what it is.
    #[error("{}: the name begins with none of create, delete, hibernate, wake", .0.display())]
    Name(PathBuf),
}

impl RecordedHandle {
    /// All handles below a folder, which has one folder for each version; the names of files begin with the verb.
    ///
    /// # Errors
    ///
    /// When it is no such folder.
    pub fn below(folder: &Path) -> Result<Vec<Self>, RecordedError> {
        let mut handles = Vec::new();
        for version in entries(folder)? {
            for path in entries(&version)? {
                let bytes = std::fs::read(&path).map_err(io_of(&path))?;
                let verb = verb_of(&path).ok_or_else(|| RecordedError::Name(path.clone()))?;
                let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                handles.push(Self { name, verb, bytes });
            }
        }
        Ok(handles)
    }
}

fn verb_of(path: &Path) -> Option<Verb> {
    let name = path.file_name()?.to_str()?;
    match name.split('-').next()? {
        "create" => Some(Verb::Create),
        "delete" => Some(Verb::Delete),
        "hibernate" => Some(Verb::Hibernate),
        "wake" => Some(Verb::Wake),
        _ => None,
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, RecordedError> {
    let entries = std::fs::read_dir(folder).map_err(io_of(folder))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(io_of(folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn io_of(path: &Path) -> impl Fn(io::Error) -> RecordedError + '_ {
    move |error| RecordedError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_read_with_their_verb_and_version() {
        let folder = tempfile::tempdir().unwrap();
        let version = folder.path().join("1");
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("create-pull"), b"1:x").unwrap();
        std::fs::write(version.join("wake"), b"\xff").unwrap();
        let handles = RecordedHandle::below(folder.path()).unwrap();
        let seen: Vec<_> =
            handles.iter().map(|one| (one.name.as_str(), one.verb, one.bytes.as_slice())).collect();
        assert_eq!(
            seen,
            [("1/create-pull", Verb::Create, &b"1:x"[..]), ("1/wake", Verb::Wake, &b"\xff"[..])]
        );
        std::fs::write(version.join("notes"), b"").unwrap();
        assert!(matches!(RecordedHandle::below(folder.path()), Err(RecordedError::Name(_))));
        assert!(matches!(RecordedHandle::below(&folder.path().join("none")), Err(RecordedError::Io { .. })));
    }
}
