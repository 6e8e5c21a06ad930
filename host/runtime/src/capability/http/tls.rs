//! How a server is known, and how the host shows itself.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, OtherError, RootCertStore};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use streamspace_tls::{Pin, Verifier, certificates};
use tokio_rustls::TlsConnector;
use x509_cert::der::Decode as _;

use crate::files;
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

impl TlsPolicy {
    /// Checks everything that can be checked before there is a connection. The error names the key.
    pub(super) async fn new(host: &str, config: &TlsConfig) -> Result<Self, String> {
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
        let pin = config.sha256.as_deref().map(Pin::parse).transpose();
        let pin = pin.map_err(|error| format!("sha256: {error}"))?;
        let system = match (&config.ca, pin) {
            (None, None) => {
                Some(Arc::new(streamspace_tls::trusted_by_the_system().ok_or_else(nobody_is_trusted)?))
            }
            _ => None,
        };
        let policy = Self {
            name,
            pin,
            ca: config.ca.clone(),
            identity,
            system,
            provider: streamspace_tls::provider(),
            made: Mutex::new(None),
        };
        policy.connector(false).await?;
        Ok(policy)
    }

    /// What to connect with, made of the files as they are now.
    pub(super) async fn connector(&self, http2: bool) -> Result<(TlsConnector, ServerName<'static>), String> {
        let files = Files::read(self).await?;
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
        let verifier = Arc::new(self.verifier(files)?);
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

    fn verifier(&self, files: &Files) -> Result<Verifier, String> {
        let roots = match (&files.ca, &self.system, self.pin) {
            // The pin alone decides.
            (None, None, Some(pin)) => return Ok(Verifier::pinned(pin, &self.provider)),
            (None, None, None) => return Err(nobody_is_trusted()),
            (None, Some(system), _) => Arc::clone(system),
            (Some(pem), _, _) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem).map_err(|reason| format!("ca: {reason}"))? {
                    roots.add(certificate).map_err(|error| format!("ca: {error}"))?;
                }
                Arc::new(roots)
            }
        };
        Verifier::authorities(roots, self.pin, &self.provider).map_err(|error| format!("ca: {error}"))
    }

    /// Why no TLS came about.
    pub(super) fn explain(error: &io::Error) -> String {
        match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error)))) => {
                error.to_string()
            }
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
            "1.2.840.113549.1.1.4"
            | "1.2.840.113549.1.1.5"
            | "1.2.840.113549.1.1.11"
            | "1.2.840.10045.4.1"
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
    async fn read(policy: &TlsPolicy) -> Result<Self, String> {
        let read = async |key: &str, path: &Path| {
            let read = files::read(path).await;
            read.map_err(|error| format!("{key}: {} cannot be read: {error}", path.display()))
        };
        let ca = match &policy.ca {
            Some(path) => Some(read("ca", path).await?),
            None => None,
        };
        let identity = match &policy.identity {
            Some((certificate, key)) => {
                Some((read("certificate", certificate).await?, read("key", key).await?))
            }
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

fn nobody_is_trusted() -> String {
    "ca: this system trusts no authority, so that `ca` or `sha256` has to be given".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_work_is_told_by_its_key() {
        let config = async |change: fn(&mut TlsConfig)| {
            let mut config = TlsConfig { sha256: Some("ab".repeat(32)), ..TlsConfig::default() };
            change(&mut config);
            TlsPolicy::new("localhost", &config).await.unwrap_err()
        };
        for (message, key) in [
            (config(|tls| tls.sha256 = Some("x".into())).await, "sha256: "),
            (config(|tls| tls.ca = Some("/nonexistent".into())).await, "ca: "),
            (config(|tls| tls.ca = Some("/dev/null".into())).await, "ca: "),
            (config(|tls| tls.key = Some("/k".into())).await, "certificate: "),
            (config(|tls| tls.certificate = Some("/c".into())).await, "key: "),
            (config(|tls| tls.server_name = Some("a b".into())).await, "server_name: "),
        ] {
            assert!(message.starts_with(key), "{message}");
        }
    }
}
