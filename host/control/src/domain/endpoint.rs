//! Addresses of remote controllers: `grpc://host:port`, `grpcs://host:port`, or none.

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
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
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
