//! How a server is known, and how the host shows itself.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio_rustls::TlsConnector;
use x509_cert::der::Decode as _;

use crate::http_config::TlsConfig;

/// The policy of one endpoint. Files are looked at again for every connection, so that certificates can be replaced
/// at any time.
pub(super) struct TlsPolicy {
    name: ServerName<'static>,
    pin: Option<Pin>,
    ca: Option<PathBuf>,
    /// Certificate and key.
    identity: Option<(PathBuf, PathBuf)>,
    /// What this system trusts, where no file says so.
    system: Option<Arc<RootCertStore>>,
    provider: Arc<CryptoProvider>,
    /// The configurations (with and without HTTP/2) made of the files as they were last.
    made: Mutex<Option<Made>>,
}

struct Made {
    files: [u8; 32],
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pin([u8; 32]);

impl TlsPolicy {
    /// Checks everything that can be checked before there is a connection. The error names the key.
    pub(super) fn new(host: &str, config: &TlsConfig) -> Result<Self, String> {
        let (key, name) = match &config.server_name {
            Some(name) => ("server_name", name.as_str()),
            None => ("server_name: the URL's host", host.trim_start_matches('[').trim_end_matches(']')),
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{key}: `{name}` is neither a name nor an address"))?;
        let identity = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => return Err("key: it is missing beside `certificate`".to_owned()),
            (None, Some(_)) => return Err("certificate: it is missing beside `key`".to_owned()),
        };
        let pin = config.sha256.as_deref().map(Pin::parse).transpose()?;
        let system = match (&config.ca, pin) {
            (None, None) => Some(Arc::new(trusted_by_the_system()?)),
            _ => None,
        };
        let policy = Self {
            name,
            pin,
            ca: config.ca.clone(),
            identity,
            system,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            made: Mutex::new(None),
        };
        policy.connector(false)?;
        Ok(policy)
    }

    /// What to connect with, made of the files as they are now.
    pub(super) fn connector(&self, http2: bool) -> Result<(TlsConnector, ServerName<'static>), String> {
        let files = Files::read(self)?;
        let digest = files.digest();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match made.take().filter(|made| made.files == digest) {
            Some(unchanged) => made.insert(unchanged),
            None => {
                let http1 = self.config(&files)?;
                let mut http2 = http1.clone();
                http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                made.insert(Made { files: digest, http1: Arc::new(http1), http2: Arc::new(http2) })
            }
        };
        let config = if http2 { &made.http2 } else { &made.http1 };
        Ok((TlsConnector::from(Arc::clone(config)), self.name.clone()))
    }

    fn config(&self, files: &Files) -> Result<ClientConfig, String> {
        let verifier = Arc::new(Verifier {
            pin: self.pin,
            chain: self.chain(files)?,
            algorithms: self.provider.signature_verification_algorithms,
        });
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let Some((certificate, key)) = &files.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(certificate).map_err(|reason| format!("certificate: {reason}"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            // The parser's own message could quote the file.
            .map_err(|_| "key: the file has no private key in PEM".to_owned())?;
        builder.with_client_auth_cert(chain, key).map_err(|error| format!("key: it does not fit: {error}"))
    }

    /// The check by authorities; none where the pin alone decides.
    fn chain(&self, files: &Files) -> Result<Option<Arc<WebPkiServerVerifier>>, String> {
        let roots = match (&files.ca, &self.system) {
            (None, None) => return Ok(None),
            (None, Some(system)) => Arc::clone(system),
            (Some(pem), _) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem).map_err(|reason| format!("ca: {reason}"))? {
                    roots.add(certificate).map_err(|error| format!("ca: {error}"))?;
                }
                Arc::new(roots)
            }
        };
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map(Some)
            .map_err(|error| format!("ca: {error}"))
    }

    /// Why no TLS came about.
    pub(super) fn explain(error: &io::Error) -> String {
        match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error)))) => error.to_string(),
            Some(rustls::Error::InvalidCertificate(reason)) => {
                format!("the server's certificate is not accepted: {reason}")
            }
            Some(error) => error.to_string(),
            None => error.to_string(),
        }
    }

    /// Channel binding `tls-server-end-point` (RFC 5929, section 4): the hash of the server's certificate with the
    /// hash of its signature, SHA-256 in place of MD5 and SHA-1. None where the signature has no hash of its own
    /// (Ed25519) or says it in its parameters (RSA-PSS).
    pub(super) fn server_end_point(certificates: Option<&[CertificateDer<'_>]>) -> Option<Vec<u8>> {
        let der = certificates?.first()?;
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        match certificate.signature_algorithm.oid.to_string().as_str() {
            // MD5, SHA-1 and SHA-256 with RSA; SHA-1 and SHA-256 with ECDSA.
            "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.1"
            | "1.2.840.10045.4.3.2" => Some(Sha256::digest(der).to_vec()),
            // SHA-384 with RSA and ECDSA.
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(der).to_vec()),
            // SHA-512 with RSA and ECDSA.
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(der).to_vec()),
            _ => None,
        }
    }
}

impl fmt::Debug for TlsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPolicy").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The contents of the files of a policy.
struct Files {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    fn read(policy: &TlsPolicy) -> Result<Self, String> {
        let read = |key: &str, path: &Path| {
            std::fs::read(path).map_err(|error| format!("{key}: {} cannot be read: {error}", path.display()))
        };
        let ca = policy.ca.as_deref().map(|path| read("ca", path)).transpose()?;
        let identity = match &policy.identity {
            Some((certificate, key)) => Some((read("certificate", certificate)?, read("key", key)?)),
            None => None,
        };
        Ok(Self { ca, identity })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let identity = self.identity.as_ref();
        for file in [self.ca.as_ref(), identity.map(|(file, _)| file), identity.map(|(_, file)| file)] {
            let file = file.map(Vec::as_slice).unwrap_or_default();
            hash.update((file.len() as u64).to_le_bytes());
            hash.update(file);
        }
        hash.finalize().into()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("the file has no certificate in PEM".to_owned()),
        Err(error) => Err(format!("the file is not PEM: {error}")),
    }
}

fn trusted_by_the_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("ca: this system trusts no authority, so that `ca` or `sha256` has to be given".to_owned());
    }
    Ok(roots)
}

impl Pin {
    fn parse(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let mut pin = [0; 32];
        match hex::decode_to_slice(digits, &mut pin) {
            Ok(()) => Ok(Self(pin)),
            Err(_) => Err("sha256: it has to be 32 bytes in hexadecimal, like AB:CD:…".to_owned()),
        }
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

/// The server showed another certificate than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is not the pinned one, but {0}")]
struct NotPinned(String);

/// Checks the pin, the authorities, or both.
#[derive(Debug)]
struct Verifier {
    pin: Option<Pin>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
                let error = OtherError(Arc::new(NotPinned(shown.to_string())));
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
        assert!(Pin::parse(&plain) == Pin::parse(&colons));
        assert_eq!(Pin::parse(&plain).unwrap().to_string(), colons);
        for text in ["", "AB:CD", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(Pin::parse(text).unwrap_err().starts_with("sha256: "), "{text}");
        }
    }

    #[test]
    fn what_cannot_work_is_told_by_its_key() {
        let config = |change: fn(&mut TlsConfig)| {
            let mut config = TlsConfig { sha256: Some("ab".repeat(32)), ..TlsConfig::default() };
            change(&mut config);
            TlsPolicy::new("localhost", &config).unwrap_err()
        };
        for (message, key) in [
            (config(|tls| tls.sha256 = Some("x".into())), "sha256: "),
            (config(|tls| tls.ca = Some("/nonexistent".into())), "ca: "),
            (config(|tls| tls.ca = Some("/dev/null".into())), "ca: "),
            (config(|tls| tls.key = Some("/k".into())), "certificate: "),
            (config(|tls| tls.certificate = Some("/c".into())), "key: "),
            (config(|tls| tls.server_name = Some("a b".into())), "server_name: "),
        ] {
            assert!(message.starts_with(key), "{message}");
        }
    }
}
