//! How a TLS server is known: by authorities, by the fingerprint of its certificate, or by both. One policy for whatever
//! this program connects to.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// The cryptography that all connections use.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates in a text in PEM; at least one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(PemError::Empty),
        Err(error) => Err(PemError::Malformed(error)),
    }
}

/// Why a text holds no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// There is none in it.
    #[error("the file has no certificate in PEM")]
    Empty,
    /// It cannot be read.
    #[error("the file is not PEM: {0}")]
    Malformed(rustls::pki_types::pem::Error),
}

/// The authorities that this system trusts. None where it trusts nobody.
pub fn trusted_by_the_system() -> Option<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    (!roots.is_empty()).then_some(roots)
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; 32]);

/// What was given is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has to be 32 bytes in hexadecimal, like AB:CD:…")]
pub struct PinError;

impl Pin {
    /// Reads hexadecimal digits, with or without colons.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let mut pin = [0; 32];
        hex::decode_to_slice(digits, &mut pin).map_err(|_| PinError)?;
        Ok(Self(pin))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The server showed another certificate than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is not the pinned one, but {0}")]
pub struct NotPinned(Pin);

/// Checks the authorities, the pin, or both.
#[derive(Debug)]
pub struct Verifier {
    pin: Option<Pin>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// The certificate has to come from one of these authorities, and be the pinned one if there is a pin.
    pub fn authorities(
        roots: Arc<RootCertStore>,
        pin: Option<Pin>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::client::VerifierBuilderError> {
        let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?;
        Ok(Self { pin, chain: Some(chain), algorithms: provider.signature_verification_algorithms })
    }

    /// The certificate has to be this one, whatever it says of names and dates.
    pub fn pinned(pin: Pin, provider: &CryptoProvider) -> Self {
        Self { pin: Some(pin), chain: None, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(pin) = self.pin {
            let shown = Pin::of(end_entity);
            if shown != pin {
                let error = OtherError(Arc::new(NotPinned(shown)));
                return Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)));
            }
        }
        match (&self.chain, self.pin) {
            (Some(chain), _) => {
                chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            (None, Some(_)) => Ok(ServerCertVerified::assertion()),
            // Not reached: one of them is always there.
            (None, None) => Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(Pin::parse(&plain), Pin::parse(&colons));
        assert_eq!(Pin::parse(&plain).unwrap().to_string(), colons);
        for text in ["", "AB:CD", &"zz".repeat(32), &"ab".repeat(33)] {
            assert_eq!(Pin::parse(text), Err(PinError), "{text}");
        }
    }

    #[test]
    fn certificates_are_asked_for_and_found() {
        assert!(matches!(certificates(b"nothing"), Err(PemError::Empty)));
        let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(certificates(broken), Err(PemError::Malformed(_))));
    }
}
