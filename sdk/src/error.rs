//! Making and telling apart errors.

use crate::{Error, ErrorKind};

/// Constructors and helpers for the contract's [`Error`], which is a plain record.
pub trait ErrorExt: Sized {
    /// An error with a kind and a message.
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self;

    /// Wrong input, and where.
    fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self;

    /// Something that this backend cannot do at all.
    fn unsupported(what: &str) -> Self;

    /// An answer that makes no sense.
    fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Puts what was tried before the message.
    fn context(self, doing: &str) -> Self;

    /// Whether it is the authoritative "does not exist".
    fn is_not_found(&self) -> bool;
}

impl ErrorExt for Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), field: None, retry_after_ms: None, ext: Vec::new() }
    }

    fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(ErrorKind::Invalid, message) }
    }

    fn unsupported(what: &str) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{what} is not supported by this backend"))
    }

    fn context(self, doing: &str) -> Self {
        Self { message: format!("{doing}: {}", self.message), ..self }
    }

    fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
}
