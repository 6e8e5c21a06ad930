//! Signed calls: how a controller knows that a call comes from an API server that it trusts, is meant for it, and is new.
//!
//! Every call of the controller contract carries a JWT (RFC 7519) in the gRPC metadata `authorization`, signed with Ed25519
//! (RFC 8037) by the API server that makes it. It is good for this one call: it names the controller, the method and the
//! body, and is taken once. The [`Signer`] makes it on the caller's side, the [`Verifier`] asks for it on the controller's.
//! Which servers are trusted is told to the controller when it registers and with every heartbeat, as a JWK Set (RFC 7517):
//! see [`Trust`].
//!
//! | claim | what it holds |
//! |---|---|
//! | `iss` | [`ISSUER`] |
//! | `aud` | the controller's id |
//! | `ins` | the process of the controller that is called; absent if it has no name |
//! | `iat`, `exp` | when it was signed, and [`LIFETIME`] later |
//! | `jti` | a UUID of its own |
//! | `mth` | the method's full path, `/streamspace.controller.v1.ControllerService/…` |
//! | `bdy` | SHA-256 of the request's body as it is sent (gRPC framing included), base64url; absent for [`STREAMED`] methods |

mod jwks;
mod key;
mod key_file;
mod refusal;
mod replay;
mod signer;
#[cfg(test)]
mod tests;
mod token;
mod trust;
mod verifier;

use std::time::Duration;

pub use jwks::{Jwks, JwksError};
pub use key::{KeyError, PublicKey, SigningKey};
pub use key_file::KeyFileError;
pub use refusal::Refusal;
pub use signer::{Signer, SignerLayer};
pub use trust::{KeyRequests, Missed, Trust};
pub use verifier::{Verifier, VerifierLayer};

/// Who signs.
pub const ISSUER: &str = "streamspace";

/// How long a signature is good.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// How far the clocks of both sides may be apart.
pub const SKEW: Duration = Duration::from_secs(30);

/// Methods whose request is a stream without an end: there is no body to be hashed before the call begins.
pub const STREAMED: [&str; 1] = ["/streamspace.controller.v1.ControllerService/OpenTunnel"];

/// Bytes of a body that is taken: the largest message that a gRPC server takes unless told otherwise, and its frame.
pub const MAX_BODY: usize = 4 * 1024 * 1024 + 5;

fn is_streamed(method: &str) -> bool {
    STREAMED.contains(&method)
}
