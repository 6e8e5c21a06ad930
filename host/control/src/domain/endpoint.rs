//! Addresses of remote controllers: `grpc://host:port`, `grpcs://host:port`, or none.

use std::net::{IpAddr, Ipv6Addr};

use url::Url;

/// Where a controller serves unless its address says otherwise.
const DEFAULT_PORT: u16 = 50051;

/// Why a text is no address of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It is no URL, or one of another kind.
    #[error("must be empty, or like grpc://host:50051 or grpcs://host:50051")]
    Form,
    /// There is more in it than a host and a port.
    #[error("must have nothing but a host and a port")]
    Excess,
    /// No controller is there.
    #[error("must not be {0}: none is called")]
    NeverCalled(&'static str),
}

/// Why an address that is one is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "calls to it would leave this machine unencrypted; that needs grpcs://, or remote.allow_insecure_endpoints in the \
     configuration of the server"
)]
pub struct InsecureEndpoint;

/// Where a cloud answers its machines, beside the link-local addresses: secrets of the server's own machine.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// IPv4 behind a translation, in the last 32 bits (RFC 6052).
const TRANSLATED: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// What an address is at which neither a controller nor a session is called, whoever says so: what is there is the server's
/// machine or its surroundings, and some of it gives away the machine's own credentials. Loopback and private addresses are
/// called: operators have controllers there.
pub fn never_called(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(four) => match four {
            _ if four.octets()[0] == 0 => Some("an unspecified address"),
            _ if four.is_link_local() => Some("a link-local address"),
            _ if four.is_multicast() => Some("a multicast address"),
            _ if four.is_broadcast() => Some("a broadcast address"),
            _ => None,
        },
        IpAddr::V6(six) => match six.segments() {
            _ if six.is_unspecified() => Some("an unspecified address"),
            _ if six.is_unicast_link_local() || six == METADATA => Some("a link-local address"),
            _ if six.is_multicast() => Some("a multicast address"),
            [a, b, c, d, e, f, high, low] if [a, b, c, d, e, f] == TRANSLATED => {
                let bits = u32::from(high) << 16 | u32::from(low);
                never_called(IpAddr::V4(bits.into()))
            }
            _ => None,
        },
    }
}

/// How a process of a controller is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// It connects by itself.
    Outbound,
    /// It listens.
    Direct {
        /// Whether it speaks TLS.
        tls: bool,
        /// Host and port.
        authority: String,
    },
}

impl Endpoint {
    /// Whether it is on the machine that calls it.
    pub fn is_loopback(&self) -> bool {
        let Self::Direct { authority, .. } = self else { return false };
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        host == "localhost" || literal(host).is_some_and(|address| address.to_canonical().is_loopback())
    }

    /// Whether what goes there can be read by nobody on the way.
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Outbound) || self.is_tls() || self.is_loopback()
    }

    /// Reads an address; an empty one is none.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        if text.is_empty() {
            return Ok(Self::Outbound);
        }
        let url = Url::parse(text).map_err(|_| InvalidEndpoint::Form)?;
        let tls = match url.scheme() {
            "grpc" => false,
            "grpcs" => true,
            _ => return Err(InvalidEndpoint::Form),
        };
        let plain = |host: &str| {
            let is_ip_6 = host.starts_with('[');
            !host.is_empty()
                && host.chars().all(|c| {
                    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || is_ip_6 && "[:]".contains(c)
                })
        };
        let host = url.host_str().filter(|host| plain(host)).ok_or(InvalidEndpoint::Form)?;
        if let Some(what) = literal(host).and_then(never_called) {
            return Err(InvalidEndpoint::NeverCalled(what));
        }
        let only_host = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        if !only_host {
            return Err(InvalidEndpoint::Excess);
        }
        let port = url.port().unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err(InvalidEndpoint::Form);
        }
        Ok(Self::Direct { tls, authority: format!("{host}:{port}") })
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Direct { tls: true, .. })
    }
}

/// The address that a host is written as, if it is.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let direct =
            |tls: bool, authority: &str| Ok(Endpoint::Direct { tls, authority: authority.to_owned() });
        assert_eq!(Endpoint::parse(""), Ok(Endpoint::Outbound));
        assert_eq!(Endpoint::parse("grpc://docker.local:50052"), direct(false, "docker.local:50052"));
        assert_eq!(Endpoint::parse("grpcs://10.0.0.7/"), direct(true, "10.0.0.7:50051"));
        assert_eq!(Endpoint::parse("grpc://[::1]:7"), direct(false, "[::1]:7"));
        for form in [
            "host:50051",
            "http://host:1",
            "grpc://",
            "grpc://:1",
            "grpc://a b:1",
            "grpc:host",
            "grpc://h:0",
            "grpc://h:99999",
            "unix:///run/x",
            "grpc://h%00:1",
        ] {
            assert_eq!(Endpoint::parse(form), Err(InvalidEndpoint::Form), "{form}");
        }
        for excess in ["grpc://user@host:1", "grpc://host:1/path", "grpc://host:1?x", "grpc://host:1#x"] {
            assert_eq!(Endpoint::parse(excess), Err(InvalidEndpoint::Excess), "{excess}");
        }
    }

    #[test]
    fn surroundings_of_the_server_are_never_called() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(never_called(address.parse().unwrap()).is_some(), "{address}");
            let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            let parsed = Endpoint::parse(&format!("grpcs://{host}:1"));
            assert!(matches!(parsed, Err(InvalidEndpoint::NeverCalled(_))), "{address}: {parsed:?}");
        }
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "8.8.8.8",
            "::1",
            "fd12::1",
            "64:ff9b::808:808",
        ] {
            assert_eq!(never_called(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn what_leaves_this_machine_is_encrypted() {
        for (endpoint, safe) in [
            ("", true),
            ("grpc://127.0.0.1:1", true),
            ("grpc://[::1]:1", true),
            ("grpc://localhost:1", true),
            ("grpcs://a:1", true),
            ("grpc://a:1", false),
            ("grpc://10.0.0.1:1", false),
        ] {
            assert_eq!(Endpoint::parse(endpoint).unwrap().is_safe(), safe, "{endpoint}");
        }
    }

    #[test]
    fn only_this_machine_is_here() {
        for (endpoint, here) in [
            ("grpc://127.0.0.1:1", true),
            ("grpcs://[::1]:1", true),
            ("grpc://localhost:1", true),
            ("grpc://10.0.0.1:1", false),
            ("grpcs://127.0.0.1.example.org:1", false),
            ("", false),
        ] {
            assert_eq!(Endpoint::parse(endpoint).unwrap().is_loopback(), here, "{endpoint}");
        }
    }
}
