//! The way to a controller that listens somewhere.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use rustls::RootCertStore;
use streamspace_tls::PemError;
use tonic::transport::{ClientTlsConfig, Endpoint as Target};
use tower::{Service, ServiceExt as _};

use crate::domain::{Endpoint, InsecureEndpoint, InvalidEndpoint, never_called};
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
    /// It would be called unencrypted.
    #[error(transparent)]
    Insecure(#[from] InsecureEndpoint),
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
pub(super) fn dial(endpoint: &str, ca: &str, insecure: bool) -> Result<ControllerTransport, DialError> {
    let endpoint = Endpoint::parse(endpoint)?;
    // It was registered when that was allowed.
    if !endpoint.is_safe() && !insecure {
        return Err(InsecureEndpoint.into());
    }
    let Endpoint::Direct { tls, authority } = endpoint else { return Err(DialError::Outbound) };
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
    let resolver = Resolver { names: GaiResolver::new(), only_here: !tls && !insecure };
    let mut connector = HttpConnector::new_with_resolver(resolver);
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

/// Finds the addresses of a name, without those that [are never called](never_called): a name says nothing of where it leads.
#[derive(Clone)]
struct Resolver {
    names: GaiResolver,
    /// Only this machine is called.
    only_here: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Service::<Name>::poll_ready(&mut self.names, context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, only_here) = (self.names.call(name), self.only_here);
        Box::pin(async move { only_callable(found.await?, only_here).map(Vec::into_iter) })
    }
}

fn only_callable(found: impl Iterator<Item = SocketAddr>, only_here: bool) -> io::Result<Vec<SocketAddr>> {
    let mut refused = None;
    let mut callable = Vec::new();
    for address in found {
        let ip = address.ip();
        match never_called(ip) {
            Some(what) => refused = Some(format!("it leads to {ip}, {what}: none is called")),
            None if only_here && !ip.to_canonical().is_loopback() => {
                refused = Some(format!("it leads to {ip}, not to this machine: {InsecureEndpoint}"));
            }
            None => callable.push(address),
        }
    }
    match refused {
        Some(why) if callable.is_empty() => Err(io::Error::new(io::ErrorKind::PermissionDenied, why)),
        _ => Ok(callable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_has_an_address_is_dialled() {
        assert!(matches!(dial("", "", false), Err(DialError::Outbound)));
        assert!(matches!(dial("http://a:1", "", false), Err(DialError::Endpoint(_))));
        assert!(matches!(
            dial("grpcs://a:1", "nothing", false),
            Err(DialError::Certificates(PemError::Empty))
        ));
        assert!(matches!(dial("grpc://a:1", "", false), Err(DialError::Insecure(_))));
        assert!(matches!(dial("grpc://169.254.169.254:1", "", true), Err(DialError::Endpoint(_))));
        assert!(dial("grpc://127.0.0.1:1", "", false).is_ok() && dial("grpc://a:1", "", true).is_ok());
    }

    #[test]
    fn a_name_leads_only_where_may_be_called() {
        let found = |addresses: &[&str]| -> Vec<SocketAddr> {
            addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect()
        };
        let only = |addresses: &[&str], only_here| only_callable(found(addresses).into_iter(), only_here);
        assert_eq!(only(&["169.254.169.254", "10.0.0.1"], false).unwrap(), found(&["10.0.0.1"]));
        let refused = only(&["169.254.169.254", "::"], false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        // An address that is called unencrypted has to be this machine's, whatever it is called.
        assert_eq!(only(&["127.0.0.1", "10.0.0.1"], true).unwrap(), found(&["127.0.0.1"]));
        assert!(only(&["10.0.0.1"], true).unwrap_err().to_string().contains("allow_insecure_endpoints"));
    }

    #[tokio::test]
    async fn a_number_that_is_no_address_as_written_is_looked_at_as_a_name() {
        // The same as 169.254.169.254, for those who ask the system.
        let call = http::Request::new(tonic::body::Body::empty());
        let mut transport = dial("grpc://2852039166:1", "", true).unwrap();
        let error = transport.ready().await.unwrap().call(call).await.unwrap_err();
        let mut words = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(error.as_ref());
        while let Some(error) = next {
            words.push_str(&error.to_string());
            next = error.source();
        }
        assert!(words.contains("link-local"), "{words}");
    }
}
