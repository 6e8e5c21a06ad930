//! Ed25519 keys.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

/// What the text of a private key is called in PEM (RFC 5208).
const PEM_TAG: &str = "PRIVATE KEY";

/// Bytes of a public key.
const LENGTH: usize = 32;

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM, or with something else in it.
    #[error("there is no private key in PEM in it")]
    NoPem,
    /// PKCS#8 of another kind, or damaged.
    #[error("it is no Ed25519 key in PKCS#8: {0}")]
    Rejected(String),
    /// No key is made.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// A public key of another form.
    #[error("a public key has {LENGTH} bytes in base64url")]
    NotPublic,
}

/// Signs calls.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    kid: String,
}

impl SigningKey {
    /// A new key, with the text that it is kept as.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?;
        let key = Self::from_pkcs8(document.as_ref())?;
        Ok((key, pem::encode(&pem::Pem::new(PEM_TAG, document.as_ref()))))
    }

    /// Reads a key in PKCS#8 and PEM. One without its public half, as OpenSSL makes it, will do.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let parsed = pem::parse(text).map_err(|_| KeyError::NoPem)?;
        if parsed.tag() != PEM_TAG {
            return Err(KeyError::NoPem);
        }
        Self::from_pkcs8(parsed.contents())
    }

    fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map_err(|error| KeyError::Rejected(error.to_string()))?;
        let public = <[u8; LENGTH]>::try_from(pair.public_key().as_ref()).map_err(|_| KeyError::NotPublic)?;
        let public = PublicKey(public);
        Ok(Self { pair, public, kid: public.kid() })
    }

    /// What the other side verifies with.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The key's name: that of its public half.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn sign(&self, message: &[u8]) -> impl AsRef<[u8]> {
        self.pair.sign(message)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Verifies signatures. As a text: its bytes in base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; LENGTH]);

impl PublicKey {
    /// The key's name, which is its thumbprint (RFC 7638): nobody has to give keys names, and none is given twice.
    pub fn kid(&self) -> String {
        // The members in this order, without space: this very text is hashed.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{self}"}}"#);
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(members))
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::NotPublic)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::NotPublic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_after_it_was_kept() {
        let (key, text) = SigningKey::generate().unwrap();
        let read = SigningKey::from_pem(&text).unwrap();
        assert_eq!((read.public(), read.kid()), (key.public(), key.kid()));
        assert!(key.public().verifies(b"said", read.sign(b"said").as_ref()));
        assert!(!key.public().verifies(b"other", read.sign(b"said").as_ref()));
        assert_ne!(SigningKey::generate().unwrap().0.public(), key.public());
    }

    #[test]
    fn a_key_of_another_program_will_do() {
        // As `openssl genpkey -algorithm ed25519` makes it.
        let text = "-----BEGIN PRIVATE KEY-----\n\
                    MC4CAQAwBQYDK2VwBCIEIJML+zBS42FKng5OfeAunE/A01xdZO1o7reekbtUXfwB\n\
                    -----END PRIVATE KEY-----\n";
        let key = SigningKey::from_pem(text).unwrap();
        assert_eq!(key.public().to_string(), "YbzOaaOc9-8R3sBavumeL5XGcdnPbdDmxWIZRz7ubjQ");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(SigningKey::from_pem("").unwrap_err(), KeyError::NoPem);
        let public = pem::encode(&pem::Pem::new("PUBLIC KEY", [1; 44]));
        assert_eq!(SigningKey::from_pem(&public).unwrap_err(), KeyError::NoPem);
        let other = pem::encode(&pem::Pem::new(PEM_TAG, [1; 44]));
        assert!(matches!(SigningKey::from_pem(&other).unwrap_err(), KeyError::Rejected(_)));
        for text in ["", "AAAA", "!", &"A".repeat(44)] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::NotPublic), "{text}");
        }
    }

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        // RFC 8037, appendix A.3.
        let key: PublicKey = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".parse().unwrap();
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_private_key_is_not_shown() {
        let (key, text) = SigningKey::generate().unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains(key.kid()) && !text.lines().any(|line| shown.contains(line)), "{shown}");
    }
}
