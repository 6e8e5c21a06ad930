//! The keys that calls are signed with, as controllers get them: a JWK Set (RFC 7517, RFC 8037).

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ServerKey;

/// What calls of the servers are verified with.
#[derive(Serialize, ToSchema)]
#[schema(as = KeySet)]
pub(super) struct KeySetView {
    keys: Vec<KeyView>,
}

/// The public half of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyView {
    /// Always `OKP`.
    kty: &'static str,
    /// Always `Ed25519`.
    crv: &'static str,
    /// Names it.
    kid: String,
    /// The key itself, in base64url.
    x: String,
}

impl KeySetView {
    pub(super) fn new(keys: Vec<ServerKey>) -> Self {
        let view = |ServerKey { kid, public_key }| KeyView { kty: "OKP", crv: "Ed25519", kid, x: public_key };
        Self { keys: keys.into_iter().map(view).collect() }
    }
}
