//! What can go wrong when the API server is put together.

use std::io;
use std::path::PathBuf;

use streamspace_call_auth::KeyFileError;

use crate::domain::ControllerId;
use crate::store::StoreError;

/// Why the API server does not start, or refuses a controller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The address of the database makes no sense.
    #[error("database: {0}")]
    Database(String),
    /// Another process uses the same data.
    #[error("{} is in use by another StreamSpace process (SQLite is for one process)", path.display())]
    InUse {
        /// What is locked.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no key to sign calls with.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No controller was registered under this id.
    #[error("no controller with the id {0} is registered")]
    UnknownController(ControllerId),
    /// The description of the gRPC API that is built in cannot be read.
    #[error("the description of the gRPC API: {0}")]
    Contract(String),
    /// A registration that cannot be.
    #[error("registration of a controller: {0}")]
    Registration(String),
}

impl ControlError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
