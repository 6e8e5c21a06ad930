//! The JWT of a call, in its compact form (RFC 7515).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{ISSUER, LIFETIME, PublicKey, Refusal, SigningKey};

/// The one way to sign (RFC 8037).
const ALGORITHM: &str = "EdDSA";

/// Bytes of a token that is looked at. Ours have about 500.
const LONGEST: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// What a reader would have to understand to read the rest. We understand nothing of the kind.
    #[serde(default, skip_serializing)]
    crit: Option<serde_json::Value>,
}

/// What is said of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ins: Option<String>,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    pub(crate) jti: Uuid,
    pub(crate) mth: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bdy: Option<String>,
}

impl Claims {
    /// Of a call that is made now.
    pub(crate) fn of_call(audience: &str, method: &str, body: Option<&[u8]>) -> Self {
        let now = unix_now();
        Self {
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            ins: None,
            iat: now,
            exp: now + LIFETIME.as_secs(),
            jti: Uuid::new_v4(),
            mth: method.to_owned(),
            bdy: body.map(body_hash),
        }
    }

    /// The token.
    pub(crate) fn sign(&self, key: &SigningKey) -> Result<String, serde_json::Error> {
        let header = Header { alg: ALGORITHM.to_owned(), kid: key.kid().to_owned(), crit: None };
        let encode = |json: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(json);
        let signed =
            format!("{}.{}", encode(serde_json::to_vec(&header)?), encode(serde_json::to_vec(self)?));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        Ok(format!("{signed}.{signature}"))
    }
}

/// A token that nobody has verified yet: what it claims is not to be had.
pub(crate) struct Unverified<'a> {
    pub(crate) kid: String,
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > LONGEST {
            return Err(Refusal::Malformed("it is too long"));
        }
        let parts = text.rsplit_once('.').and_then(|(signed, signature)| {
            signed.split_once('.').map(|(header, claims)| (signed, header, claims, signature))
        });
        let (signed, header, claims, signature) =
            parts.ok_or(Refusal::Malformed("it has not three parts"))?;
        let header = decode(header).ok_or(Refusal::Malformed("its header is not base64url"))?;
        let header: Header = serde_json::from_slice(&header)
            .map_err(|_| Refusal::Malformed("its header is no JOSE header"))?;
        if header.alg != ALGORITHM || header.crit.is_some() {
            return Err(Refusal::Algorithm);
        }
        let signature = decode(signature).ok_or(Refusal::Malformed("its end is not base64url"))?;
        Ok(Self { kid: header.kid, signed, claims, signature })
    }

    pub(crate) fn verify(self, key: &PublicKey) -> Result<Claims, Refusal> {
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(Refusal::Signature);
        }
        let claims = decode(self.claims).ok_or(Refusal::Malformed("its claims are not base64url"))?;
        serde_json::from_slice(&claims).map_err(|_| Refusal::Malformed("its claims are not those of a call"))
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// What stands for a body.
pub(crate) fn body_hash(body: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(body))
}

/// Seconds since 1970; 0 for a clock before that.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
