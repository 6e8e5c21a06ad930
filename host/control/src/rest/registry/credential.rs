//! What a controller comes with.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use tower_http::request_id::RequestId;

use super::refusals::{self, Refused};
use crate::control::Shared;
use crate::domain::{Actor, sha256_hex, shortened};
use crate::rest::auth::bearer;
use crate::rest::problem::Problem;
use crate::store::Credential;

/// A good token of a controller, or one that lets controllers in; all others are refused.
pub(super) struct Presented {
    /// The token's hash.
    pub(super) hash: String,
    /// What it is.
    pub(super) credential: Credential,
    /// The request, as the log has it.
    pub(super) request_id: Option<String>,
}

impl Presented {
    /// Who says what this request says.
    pub(super) fn actor(&self) -> Actor {
        let (id, join_token) = match &self.credential {
            Credential::Join(token) => (None, Some((token.id.clone(), token.name.clone()))),
            Credential::Own(own) => (Some(own.controller_id.clone()), None),
        };
        Actor::Controller { id, join_token, request_id: self.request_id.clone() }
    }
}

impl FromRequestParts<Arc<Shared>> for Presented {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let request_id = parts.extensions.get::<RequestId>();
        let request_id = request_id.and_then(|id| id.header_value().to_str().ok()).map(shortened);
        let found = match bearer(&parts.headers) {
            Some(token) => {
                let hash = sha256_hex(token);
                shared.store.credential(&hash).await?.map(|credential| (hash, credential))
            }
            None => None,
        };
        if let Some((hash, credential)) = found {
            return Ok(Self { hash, credential, request_id });
        }
        // Only one of the requests names a controller in its path.
        let named =
            Path::<String>::from_request_parts(parts, shared).await.ok().map(|Path(id)| shortened(&id));
        let by = Actor::Controller { id: None, join_token: None, request_id };
        let request = if named.is_some() { "heartbeat" } else { "register" };
        let target = named.as_deref().unwrap_or("unknown");
        refusals::note(shared, Refused { by, target, request, reason: "no valid token" }).await;
        Err(Problem::unauthorized("expected a valid token of a controller: Authorization: Bearer <token>"))
    }
}
