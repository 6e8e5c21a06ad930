//! What somebody shows to be let in: a token, kept to see later whether it is still good, and secrets that stand for one.

use crate::domain::sha256_hex;

/// Random bytes of a ticket or a cookie.
const SECRET_BYTES: usize = 32;

/// A token, by its hash: nobody who finds it can use it.
#[derive(Clone)]
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

/// The text of a new ticket or cookie.
pub(crate) fn fresh_secret() -> String {
    hex::encode(rand::random::<[u8; SECRET_BYTES]>())
}

/// Whether a text can be one of our tickets and cookies: nothing else is looked up.
pub(crate) fn is_secret(text: &str) -> bool {
    text.len() == SECRET_BYTES * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
