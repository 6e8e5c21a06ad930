//! Turns what a caller presents into who they are. Today that is a token of this server; whatever else vouches for
//! people comes in here, and nothing behind it has to know.

use std::sync::Arc;

use chrono::Duration;

use super::credential::Credential;
use crate::domain::{Role, Token, now};
use crate::store::{Store, StoreError};

/// The use of a token is written down no more often than that.
const USE_NOTED_EVERY: Duration = Duration::minutes(5);

/// Who presented something.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// The user.
    pub(super) user_id: String,
    /// What they may do.
    pub(super) role: Role,
    /// The token that they presented.
    pub(super) token: Token,
}

/// Knows whose a token is.
pub(super) struct Authenticator<'a> {
    store: &'a Arc<dyn Store>,
}

impl<'a> Authenticator<'a> {
    pub(super) fn new(store: &'a Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Whose a token is, if it is valid now: every request asks the store, so that a token that was revoked is
    /// refused at once.
    pub(super) async fn identify(&self, token: &Credential) -> Result<Option<Identity>, StoreError> {
        // Only the hash is looked up: how long the search takes says nothing about the token.
        let Some(owner) = self.store.token_owner(token.hash()).await? else { return Ok(None) };
        self.note_use(&owner.token);
        Ok(Some(Identity { user_id: owner.user_id, role: owner.role, token: owner.token }))
    }

    /// Nobody waits for it, and nobody misses it if it fails.
    fn note_use(&self, token: &Token) {
        let at = now();
        if token.last_used_at.is_some_and(|last| at - last < USE_NOTED_EVERY) {
            return;
        }
        let (store, id) = (Arc::clone(self.store), token.id.clone());
        tokio::spawn(async move {
            if let Err(error) = store.token_used(&id, at).await {
                tracing::debug!(%error, token = id, "the use of a token was not noted");
            }
        });
    }
}
