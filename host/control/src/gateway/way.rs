//! How to reach a service of a session, as its controller says. Read and checked once for every connection, and kept no
//! longer than that: it holds addresses and credentials.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use streamspace_proto::controller::v1 as proto;
use streamspace_proto::controller::v1::access_point::Target;

use super::added::{Added, AddedError};
use super::connect::ConnectError;
use super::service::Speech;
use super::tls::{Tls, Trust};

/// So often a path may be encoded.
const MOST_ENCODINGS: u32 = 4;

/// The way to a service. It has no `Debug`: nothing of it belongs into a log.
pub(super) struct Way {
    /// Address or name.
    pub(super) host: String,
    /// Port.
    pub(super) port: u16,
    /// How the server is known, where TLS is spoken.
    pub(super) tls: Option<Tls>,
    /// What of it concerns requests.
    pub(super) site: Site,
}

/// Where at its server a web application is, and what has to be said there.
#[derive(Default)]
pub(super) struct Site {
    base: String,
    authority: Option<Authority>,
    /// What every request carries.
    pub(super) added: Added,
}

impl Way {
    /// Reads what a controller says about a service that speaks so.
    pub(super) fn read(
        point: proto::AccessPoint,
        speech: Speech,
        trust: &Trust,
    ) -> Result<Self, ConnectError> {
        let login = (!point.username.is_empty() || !point.password.is_empty())
            .then_some((point.username.as_str(), point.password.as_str()));
        match (point.target.ok_or(ConnectError::NoWay)?, speech) {
            (Target::Tunnel(_), _) => Err(ConnectError::Unsupported("it is behind a tunnel")),
            (Target::Tcp(_), Speech::Rfb) if login.is_some() => {
                Err(ConnectError::Unsupported("its desktop asks for a password"))
            }
            (Target::Tcp(target), _) => {
                let port = u16::try_from(target.port).ok().filter(|port| *port > 0);
                let added = Added::read(Default::default(), login)?;
                Ok(Self {
                    host: target.host,
                    port: port.ok_or(ConnectError::NoWay)?,
                    tls: None,
                    site: Site { added, ..Site::default() },
                })
            }
            (Target::Http(_), Speech::Rfb) => {
                Err(ConnectError::Unsupported("its desktop is behind a web server"))
            }
            (Target::Http(target), Speech::Http) => Self::to_a_web_server(target, login, trust),
        }
    }

    fn to_a_web_server(
        target: proto::HttpTarget,
        login: Option<(&str, &str)>,
        trust: &Trust,
    ) -> Result<Self, ConnectError> {
        let parts = target.base_url.parse::<Uri>().map_err(|_| ConnectError::NoWay)?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(ConnectError::NoWay);
        };
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        // A password in a URL ends up in too many places.
        if path.query().is_some() || authority.as_str().contains('@') {
            return Err(ConnectError::NoWay);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (default_port, tls) = if scheme == Scheme::HTTPS {
            (443, Some(trust.tls(&host, target.identity)?))
        } else if scheme == Scheme::HTTP {
            (80, None)
        } else {
            return Err(ConnectError::NoWay);
        };
        let port = match authority.port() {
            None => default_port,
            Some(port) => Some(port.as_u16()).filter(|port| *port > 0).ok_or(ConnectError::NoWay)?,
        };
        let base = path.path().trim_end_matches('/').to_owned();
        let added = Added::read(target.headers, login)?;
        Ok(Self { host, port, tls, site: Site { base, authority: Some(authority), added } })
    }
}

impl From<AddedError> for ConnectError {
    fn from(_: AddedError) -> Self {
        Self::NoWay
    }
}

impl Site {
    /// The path at the server for one of the application. None where it would lead out of the application: what the
    /// controller logs in with may open more than that on the same server.
    pub(super) fn path(&self, path: &str) -> Option<String> {
        if self.base.is_empty() {
            return Some(path.to_owned());
        }
        (!climbs(path)).then(|| format!("{}{path}", self.base))
    }

    /// The path of the application for one at its server, where that is below the base.
    pub(super) fn inner<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.base.is_empty() {
            return None;
        }
        path.strip_prefix(&self.base).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }

    /// Whether this is how the application's server is called by its own network.
    pub(super) fn is_called(&self, authority: &str) -> bool {
        self.authority.as_ref().is_some_and(|own| own.as_str().eq_ignore_ascii_case(authority))
    }
}

/// Whether any server could take a part of the path for a step up: encoded once or several times, with a backslash, or
/// with parameters behind the dots.
fn climbs(path: &str) -> bool {
    let mut path = path.as_bytes().to_vec();
    for _ in 0..MOST_ENCODINGS {
        let is_step = |part: &[u8]| matches!(part.split(|byte| *byte == b';').next(), Some(b"." | b".."));
        if path.split(|byte| matches!(byte, b'/' | b'\\')).any(is_step) {
            return true;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&path).collect();
        if decoded == path {
            return false;
        }
        path = decoded;
    }
    // Nobody encodes so often who means well.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(base_url: &str) -> Result<Way, ConnectError> {
        let target = proto::HttpTarget { base_url: base_url.to_owned(), ..Default::default() };
        let point = proto::AccessPoint { target: Some(Target::Http(target)), ..Default::default() };
        Way::read(point, Speech::Http, &Trust::default())
    }

    #[test]
    fn a_base_url_is_taken_apart() {
        for (url, host, port, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080, "/a"),
            ("http://127.0.0.1:8080/", "127.0.0.1", 8080, "/a"),
            ("http://[::1]:8080", "::1", 8080, "/a"),
            ("http://session.internal", "session.internal", 80, "/a"),
            ("http://session.internal/x/y/", "session.internal", 80, "/x/y/a"),
        ] {
            let way = http(url).ok().unwrap();
            assert_eq!((way.host.as_str(), way.port), (host, port), "{url}");
            assert_eq!(way.site.path("/a").unwrap(), path, "{url}");
        }
        for url in ["no url", "/path", "ftp://a/", "http://a:0/", "http://a/?b=c", "http://me:pw@a/"] {
            assert!(matches!(http(url), Err(ConnectError::NoWay)), "{url}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_base() {
        let site = http("http://a/x").ok().unwrap().site;
        for path in ["/a", "/a/.b/..c", "/a%2Fb", "/a...", "/%252525", "/a;v=../1"] {
            assert_eq!(site.path(path).unwrap(), format!("/x{path}"));
        }
        for path in [
            "/..",
            "/../y",
            "/a/../../y",
            "/%2e%2e/y",
            "/.%2E/y",
            "/%252e%252e/y",
            "/..%2fy",
            "/a%5c..%5cy",
            "/a\\..\\y",
            "/..;/y",
            "/..;a=b/y",
            "/./y",
            "/%2e/",
            "/%25252e%25252e/",
            "/%252525252525252525",
        ] {
            assert_eq!(site.path(path), None, "{path}");
        }
        // Without a base there is nothing to lead out of.
        assert_eq!(Site::default().path("/a%2Fb/../c").unwrap(), "/a%2Fb/../c");
    }

    #[test]
    fn paths_below_the_base_are_known() {
        let site = http("http://a/x").ok().unwrap().site;
        for (path, inner) in [
            ("/x", Some("")),
            ("/x/", Some("/")),
            ("/x/y?z", Some("/y?z")),
            ("/x?z", Some("?z")),
            ("/xy", None),
            ("/", None),
        ] {
            assert_eq!(site.inner(path), inner, "{path}");
        }
        assert!(site.is_called("A") && !site.is_called("b"));
    }
}
