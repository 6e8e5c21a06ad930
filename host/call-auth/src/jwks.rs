//! The keys of all servers, as a JWK Set.

use serde::{Deserialize, Serialize};

use crate::PublicKey;

/// Public keys. In JSON a JWK Set (RFC 7517) of `OKP` keys on `Ed25519` (RFC 8037).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Set", into = "Set")]
pub struct Jwks(Vec<PublicKey>);

/// Why a JWK Set is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// There is no Ed25519 key under `x`.
    #[error("the key `{0}` has no Ed25519 key in `x`")]
    NoKey(String),
    /// Signatures would name the key by its thumbprint, and not be found.
    #[error("the key `{0}` is not named by its thumbprint")]
    Name(String),
}

#[derive(Serialize, Deserialize)]
struct Set {
    keys: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    x: String,
}

impl Jwks {
    /// A set of these keys.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self(keys.into_iter().collect())
    }

    /// Its keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.0
    }
}

impl From<Jwks> for Set {
    fn from(keys: Jwks) -> Self {
        let key = |key: PublicKey| Key {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            kid: key.kid(),
            x: key.to_string(),
        };
        Self { keys: keys.0.into_iter().map(key).collect() }
    }
}

impl TryFrom<Set> for Jwks {
    type Error = JwksError;

    fn try_from(set: Set) -> Result<Self, JwksError> {
        // Keys of kinds to come are for those who know them.
        let ours = set.keys.into_iter().filter(|key| key.kty == "OKP" && key.crv == "Ed25519");
        let read = |key: Key| match key.x.parse::<PublicKey>() {
            Ok(public) if public.kid() == key.kid => Ok(public),
            Ok(_) => Err(JwksError::Name(key.kid)),
            Err(_) => Err(JwksError::NoKey(key.kid)),
        };
        ours.map(read).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    #[test]
    fn a_set_is_a_standard_one() {
        let keys = Jwks::new([X.parse().unwrap()]);
        let written = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": KID, "x": X}]});
        assert_eq!(serde_json::to_value(&keys).unwrap(), written);
        assert_eq!(serde_json::from_value::<Jwks>(written).unwrap(), keys);
    }

    #[test]
    fn keys_of_other_kinds_are_passed_over() {
        let other = json!({"kty": "RSA", "kid": "x", "n": "AQAB", "e": "AQAB"});
        let ours = json!({"kty": "OKP", "crv": "Ed25519", "kid": KID, "x": X, "use": "sig"});
        let curve = json!({"kty": "OKP", "crv": "X25519", "kid": "y", "x": X});
        let keys: Jwks = serde_json::from_value(json!({"keys": [other, ours, curve]})).unwrap();
        assert_eq!(keys, Jwks::new([X.parse().unwrap()]));
    }

    #[test]
    fn a_damaged_key_is_named() {
        for (kid, x, words) in [("a", X, "`a` is not named"), (KID, "AAAA", "has no Ed25519 key")] {
            let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}]});
            let error = serde_json::from_value::<Jwks>(set).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
