//! What somebody showed when a connection was opened, kept to see later whether it is still good.

use crate::domain::sha256_hex;

/// A token, by its hash: nobody who finds it can use it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential(String);

impl Credential {
    /// Of the token itself.
    pub(crate) fn of(token: &str) -> Self {
        Self(sha256_hex(token))
    }

    /// As it is stored beside a ticket.
    pub(super) fn with_hash(token_hash: String) -> Self {
        Self(token_hash)
    }

    pub(super) fn hash(&self) -> &str {
        &self.0
    }
}
