//! TLS to sessions: who their servers have to be.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use streamspace_proto::controller::v1 as proto;
use streamspace_tls::{NotPinned, Pin, Verifier};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::ConnectError;

/// Whom connections to sessions trust.
#[derive(Default)]
pub(super) struct Trust {
    /// The authorities of this system, once somebody asked for them.
    system: Mutex<Option<Arc<RootCertStore>>>,
}

/// How one server is known.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why a server is not taken for the session's. Addresses and names of the backend are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TlsFault {
    #[error("its certificate is not the pinned one")]
    NotPinned,
    #[error("its certificate is not valid at this time")]
    OutOfTime,
    #[error("its certificate is for another name")]
    OtherName,
    #[error("its certificate comes from an authority that is not trusted")]
    UnknownAuthority,
    #[error("its certificate is not accepted")]
    Refused,
    #[error("TLS with it fails")]
    Broken,
}

impl Trust {
    /// How a server at a host is known. Only what the controller gave can be at fault.
    pub(super) fn tls(
        &self,
        host: &str,
        identity: Option<proto::ServerIdentity>,
    ) -> Result<Tls, ConnectError> {
        let identity = identity.unwrap_or_default();
        let name = if identity.server_name.is_empty() { host.to_owned() } else { identity.server_name };
        let name = ServerName::try_from(name).map_err(|_| ConnectError::NoWay)?;
        let pin = match identity.sha256.as_str() {
            "" => None,
            text => Some(Pin::parse(text).map_err(|_| ConnectError::NoWay)?),
        };
        let provider = streamspace_tls::provider();
        let verifier = match (identity.ca.as_str(), pin) {
            ("", Some(pin)) => Verifier::pinned(pin, &provider),
            ("", None) => Verifier::authorities(self.system()?, None, &provider)
                .map_err(|_| ConnectError::Tls(TlsFault::UnknownAuthority))?,
            (pem, pin) => {
                let mut roots = RootCertStore::empty();
                for certificate in
                    streamspace_tls::certificates(pem.as_bytes()).map_err(|_| ConnectError::NoWay)?
                {
                    roots.add(certificate).map_err(|_| ConnectError::NoWay)?;
                }
                Verifier::authorities(Arc::new(roots), pin, &provider).map_err(|_| ConnectError::NoWay)?
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| ConnectError::Tls(TlsFault::Broken))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { connector: TlsConnector::from(Arc::new(config)), name })
    }

    fn system(&self) -> Result<Arc<RootCertStore>, ConnectError> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*system {
            return Ok(Arc::clone(known));
        }
        let found = streamspace_tls::trusted_by_the_system().map(Arc::new);
        let found = found.ok_or(ConnectError::Tls(TlsFault::UnknownAuthority))?;
        Ok(Arc::clone(system.insert(found)))
    }
}

impl Tls {
    /// Speaks TLS over a connection.
    pub(super) async fn over(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsFault> {
        self.connector.connect(self.name.clone(), stream).await.map_err(|error| fault(&error))
    }
}

fn fault(error: &std::io::Error) -> TlsFault {
    use CertificateError as Bad;
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = error else { return TlsFault::Broken };
    match reason {
        Bad::Other(other) if other.0.is::<NotPinned>() => TlsFault::NotPinned,
        Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            TlsFault::OutOfTime
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => TlsFault::OtherName,
        Bad::UnknownIssuer => TlsFault::UnknownAuthority,
        _ => TlsFault::Refused,
    }
}
