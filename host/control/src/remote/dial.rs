//! The way to a controller that listens somewhere.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use rustls::RootCertStore;
use streamspace_tls::PemError;
use tonic::transport::{ClientTlsConfig, Endpoint as Target};
use tower::ServiceExt as _;

use crate::domain::{Endpoint, InvalidEndpoint};
use crate::fleet::ControllerTransport;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes is asked for a sign of life after this …
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// … and so often then. By TCP and not by HTTP/2: gRPC servers take it amiss to be pinged more often than every few minutes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// A connection that is not acknowledged for so long is given up, and another one is made.
const SILENCE: Duration = Duration::from_secs(20);
/// Bytes of the headers of an answer.
const LARGEST_HEADERS: u32 = 64 * 1024;

/// Why there is no way to a controller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Its address is none.
    #[error("its endpoint {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// It connects by itself.
    #[error("it has no endpoint")]
    Outbound,
    /// The authorities that it named are none.
    #[error("its certificates: {0}")]
    Certificates(#[from] PemError),
    /// One of them cannot be used.
    #[error("its certificates: {0}")]
    Certificate(rustls::Error),
    /// There is nobody to say that it is the right one.
    #[error("this system trusts no authority, and it has named none")]
    NobodyTrusted,
    /// The address is refused by the library.
    #[error(transparent)]
    Target(#[from] tonic::transport::Error),
}

/// The authorities in a text in PEM.
pub(crate) fn trusted(pem: &str) -> Result<RootCertStore, DialError> {
    let mut roots = RootCertStore::empty();
    for certificate in streamspace_tls::certificates(pem.as_bytes())? {
        roots.add(certificate).map_err(DialError::Certificate)?;
    }
    Ok(roots)
}

/// A way to the controller at an address. The connection is made by the first call, and again after it was lost.
pub(super) fn dial(endpoint: &str, ca: &str) -> Result<ControllerTransport, DialError> {
    let Endpoint::Direct { tls, authority } = Endpoint::parse(endpoint)? else {
        return Err(DialError::Outbound);
    };
    let scheme = if tls { "https" } else { "http" };
    let mut target = Target::from_shared(format!("{scheme}://{authority}"))?
        .user_agent(concat!("streamspace/", env!("CARGO_PKG_VERSION")))?
        .http2_max_header_list_size(LARGEST_HEADERS);
    if tls {
        let roots = match ca {
            "" => streamspace_tls::trusted_by_the_system().ok_or(DialError::NobodyTrusted)?,
            pem => trusted(pem)?,
        };
        target = target.tls_config(ClientTlsConfig::new().trust_anchors(roots.roots))?;
    }
    let mut connector = HttpConnector::new();
    // What comes after the connection is the library's.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(KEEP_ALIVE));
    connector.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
    connector.set_tcp_user_timeout(Some(SILENCE));
    let channel = target.connect_timeout(CONNECT_LIMIT).connect_with_connector_lazy(connector);
    Ok(ControllerTransport::new(channel.map_err(Into::into)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_has_an_address_is_dialled() {
        assert!(matches!(dial("", ""), Err(DialError::Outbound)));
        assert!(matches!(dial("http://a:1", ""), Err(DialError::Endpoint(_))));
        assert!(matches!(dial("grpcs://a:1", "nothing"), Err(DialError::Certificates(PemError::Empty))));
        assert!(dial("grpc://127.0.0.1:1", "").is_ok());
    }
}
