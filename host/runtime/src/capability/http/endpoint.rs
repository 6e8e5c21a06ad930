//! One server that the operator granted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{HeaderValue, Uri};
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use streamspace_bindings::imports::http::{Request, ResponseHead};
use streamspace_bindings::types::{Error, ErrorKind};
use url::Url;

use super::connector::{Connector, Target};
use super::credential::Credential;
use super::error;
use super::jar::Jar;
use super::open::{InController, OpenInController};
use super::parking::Parking;
use super::request::{self, Checked};
use super::tls::TlsPolicy;
use crate::capability::deadline::{TimeIsOver, until};
use crate::http_config::{HttpConfig, TlsConfig};
use crate::manifest::EndpointRequest;
use crate::routes::{self, Route};

/// How long a pooled connection may wait for its next request. Servers close theirs after a minute or more, and one
/// that is about to be closed costs an error.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// Pooled connections that wait.
const POOL_SIZE: usize = 8;

/// Bytes that the head of an answer may have.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// Headers that an answer may have.
pub(super) const MAX_ANSWER_HEADERS: usize = 200;

/// The sending of a body was given up, so that the request must not look complete.
#[derive(Debug, thiserror::Error)]
#[error("the request's body was given up")]
pub(super) struct GivenUp;

/// A request's body: whole, or in pieces.
pub(super) type Body = Either<Full<Bytes>, Channel<Bytes, GivenUp>>;

/// A named server: where it is, what may be asked of it, and what outlives a call.
pub(crate) struct HttpEndpoint {
    /// What every path is put behind: scheme, authority and base.
    base: String,
    /// The same for the cookies' sake.
    url: Url,
    asked: Vec<Route>,
    granted: Option<Vec<Route>>,
    credential: Option<Credential>,
    jar: Option<Jar>,
    pub(super) connector: Connector,
    pub(super) pool: Client<Connector, Body>,
    pub(super) parking: Arc<Parking>,
    open: OpenInController,
}

/// Which connection a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Pool,
    Pinned,
}

/// A request that may be sent, but for its body and the host's own headers.
pub(super) struct Permitted {
    checked: Checked,
    on: On,
}

impl HttpEndpoint {
    /// Takes a server from the configuration; does not connect. The error names the key.
    pub(crate) async fn new(
        asked: &EndpointRequest,
        config: &HttpConfig,
        open: OpenInController,
    ) -> Result<Self, String> {
        let routes = |reason| format!("allow: {reason}");
        let place = Place::of(config).await?;
        let credential = config.credential.as_ref().map(Credential::new).transpose();
        let credential = credential.map_err(|reason| format!("credential.{reason}"))?;
        if config.cookies && credential.as_ref().is_some_and(|credential| *credential.header() == COOKIE) {
            return Err(
                "credential.header: with `cookies = true` the header `Cookie` is the jar's".to_owned()
            );
        }
        let connector = Connector::new(place.target, config.http2);
        let pool = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http1_max_buf_size(MAX_HEAD)
            .http1_max_headers(MAX_ANSWER_HEADERS)
            .http2_max_header_list_size(MAX_HEAD as u32)
            .build(connector.clone());
        Ok(Self {
            url: Url::parse(&place.base).map_err(|error| format!("http: {error}"))?,
            base: place.base,
            asked: routes::parse_all(&asked.allow).map_err(routes)?,
            granted: config.allow.as_deref().map(routes::parse_all).transpose().map_err(routes)?,
            credential,
            jar: config.cookies.then(Jar::default),
            connector,
            pool,
            parking: Arc::default(),
            open,
        })
    }

    /// Checks a request against the grant. Nothing was sent if it is refused.
    pub(super) fn permit(&self, request: Request, on: On) -> Result<Permitted, Error> {
        // Some protocols authenticate a connection (NTLM); with a credential of the host there is nothing to say.
        let may_authorize = on == On::Pinned && self.credential.is_none();
        let checked = request::check(request, may_authorize)?;
        if let Some(credential) = &self.credential
            && checked.headers.contains_key(credential.header())
        {
            let message = format!("the header `{}` is the host's", credential.header());
            return Err(error(ErrorKind::Denied, message));
        }
        let (method, path) = (checked.method.as_str(), request::without_query(&checked.path));
        let refused = |by: &str| Err(error(ErrorKind::Denied, format!("{method} {path} is not {by}")));
        if !routes::any_allows(&self.asked, method, path) {
            return refused("among the requests that the plugin's manifest asks for");
        }
        if !self.granted.as_ref().is_none_or(|granted| routes::any_allows(granted, method, path)) {
            return refused("granted by the operator");
        }
        Ok(Permitted { checked, on })
    }

    /// Completes a request with what is the host's, until a point in time. `length` is the length of the body; none =
    /// chunks.
    pub(super) async fn complete(
        &self,
        permitted: Permitted,
        length: Option<u64>,
        body: Body,
        by: Instant,
    ) -> Result<http::Request<Body>, Error> {
        let Permitted { checked: Checked { method, path, mut headers }, on } = permitted;
        match length {
            Some(length) => request::set_length(&method, &mut headers, length),
            None => {
                headers.insert(http::header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        if let Some(credential) = &self.credential {
            let applied = until(by, credential.apply(&mut headers)).await;
            let applied = applied.unwrap_or_else(|TimeIsOver| Err("reading it takes too long".to_owned()));
            applied.map_err(|reason| {
                error(ErrorKind::FailedPrecondition, format!("the credential cannot be had: {reason}"))
            })?;
        }
        let too_long = |_| error(ErrorKind::Invalid, "the path cannot be requested");
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(too_long)?;
        if let Some(cookies) = self.jar.as_ref().and_then(|jar| jar.value_for(&self.address(&path))) {
            headers.insert(COOKIE, cookies);
        }
        let uri = match on {
            On::Pool => uri,
            // On a connection of one's own nobody else makes an origin form and a host of it.
            On::Pinned => {
                let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
                headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| too_long_host())?);
                let origin = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
                origin.parse().map_err(too_long)?
            }
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The right to hold one more thing open. Connections that nobody waits for any more are no reason to refuse it.
    pub(super) fn open_one(&self) -> Result<InController, Error> {
        self.open.take().or_else(|_| {
            self.parking.sweep();
            self.open.take()
        })
    }

    /// What a path below the base is in whole, for the cookies' sake.
    fn address(&self, path: &str) -> Url {
        let base = self.url.path().trim_end_matches('/');
        let mut url = self.url.clone();
        url.set_path(&format!("{base}{}", request::without_query(path)));
        url
    }

    /// Takes the head of an answer for the plugin, and its cookies for the jar.
    pub(super) fn head(&self, path: &str, response: &http::Response<Incoming>) -> ResponseHead {
        if let Some(jar) = &self.jar {
            jar.keep(&self.address(path), response.headers());
        }
        let reason = match response.extensions().get::<ReasonPhrase>() {
            Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
            None if response.version() == http::Version::HTTP_2 => String::new(),
            None => response.status().canonical_reason().unwrap_or_default().to_owned(),
        };
        let headers = response.headers().iter();
        ResponseHead {
            status: response.status().as_u16(),
            reason,
            headers: headers
                // What is in the jar is the host's.
                .filter(|(name, _)| self.jar.is_none() || *name != SET_COOKIE)
                .map(|(name, value)| {
                    (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect(),
        }
    }
}

fn too_long_host() -> Error {
    error(ErrorKind::Internal, "the endpoint's host cannot stand in a header")
}

impl Permitted {
    /// The path that the plugin gave, with its query.
    pub(super) fn path(&self) -> &str {
        &self.checked.path
    }
}

/// Where a server is, parsed.
struct Place {
    /// Scheme, authority and base path without a slash at its end.
    base: String,
    target: Target,
}

impl Place {
    async fn of(config: &HttpConfig) -> Result<Self, String> {
        let url = config.url.as_str();
        let only_https = |key: &str| Err(format!("{key}: only https:// has it"));
        if let Some(path) = url.strip_prefix("unix://") {
            if !path.starts_with('/') || path.len() < 2 {
                return Err(format!("http: `{url}` needs an absolute path, like unix:///run/x.sock"));
            }
            if config.tls.is_some() {
                return only_https("tls");
            }
            for (key, given) in [("proxy", config.proxy.is_some()), ("insecure", config.insecure)] {
                if given {
                    return Err(format!("{key}: a unix socket has no use for it"));
                }
            }
            if config.http2 {
                return only_https("http2");
            }
            return Ok(Self { base: "http://localhost".to_owned(), target: Target::Unix(path.into()) });
        }
        let (secure, uri) = parse_url("http", url)?;
        let host = uri.host().unwrap_or_default().to_owned();
        let base = uri.path().trim_end_matches('/').to_owned();
        if !base.is_empty() {
            request::check_path(&base).map_err(|error| format!("http: {}", error.message))?;
        }
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let tls = if secure {
            let tls = TlsPolicy::new(&host, config.tls.as_ref().unwrap_or(&TlsConfig::default())).await;
            Some(Box::new(tls.map_err(|reason| format!("tls.{reason}"))?))
        } else if config.tls.is_some() {
            return only_https("tls");
        } else if config.http2 {
            return only_https("http2");
        } else {
            None
        };
        if secure && config.insecure {
            return Err("insecure: it allows plain http://; https:// has no use for it".to_owned());
        }
        let loopback_only = !secure && !config.insecure;
        if loopback_only && !is_loopback(&host) {
            return Err(format!(
                "http: {authority} is not on this machine, and everybody on the way could read along; use https://, or set `insecure = true`"
            ));
        }
        let proxy = match config.proxy.as_deref().map(|url| parse_url("proxy", url)).transpose()? {
            Some((true, _)) => return Err("proxy: only http:// proxies are known".to_owned()),
            Some((false, uri)) if uri.path() != "/" => return Err("proxy: it has no path".to_owned()),
            Some(_) if loopback_only => return Err("proxy: plain http:// stays on this machine".to_owned()),
            Some((false, uri)) => Some(uri),
            None => None,
        };
        let scheme = if secure { "https" } else { "http" };
        Ok(Self {
            base: format!("{scheme}://{authority}{base}"),
            target: Target::Tcp { uri, tls, loopback_only, proxy },
        })
    }
}

/// Parses `http(s)://host[:port][/path]`. The error does not show a URL that could have a password in it.
fn parse_url(key: &str, url: &str) -> Result<(bool, Uri), String> {
    if url.contains('@') {
        return Err(format!("{key}: a user or password does not belong into a URL; use `credential`"));
    }
    if url.contains(['?', '#']) {
        return Err(format!("{key}: the URL has a query or fragment"));
    }
    let uri: Uri = url.parse().map_err(|error| format!("{key}: `{url}` is no URL: {error}"))?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => {
            return Err(format!(
                "{key}: `{url}` is neither https://host:port, http://host:port nor unix:///path"
            ));
        }
    };
    match uri.host() {
        Some(host) if !host.is_empty() => {}
        _ => return Err(format!("{key}: `{url}` has no host")),
    }
    if uri.port_u16() == Some(0) || uri.authority().is_some_and(|a| a.as_str().ends_with(':')) {
        return Err(format!("{key}: `{url}` has no proper port"));
    }
    Ok((secure, uri))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::SecretSource;
    use crate::http_config::CredentialConfig;
    use crate::manifest::EndpointKind;

    async fn bind(config: HttpConfig) -> Result<HttpEndpoint, String> {
        let asked = EndpointRequest {
            name: "api".into(),
            kind: EndpointKind::Http,
            description: String::new(),
            default: None,
            allow: vec!["* /**".into()],
        };
        HttpEndpoint::new(&asked, &config, OpenInController::default()).await
    }

    #[tokio::test]
    async fn every_mistake_is_told_by_its_key() {
        let pinned = || Some(TlsConfig { sha256: Some("ab".repeat(32)), ..Default::default() });
        let https = || HttpConfig { tls: pinned(), ..HttpConfig::new("https://pve:8006") };
        let plain = || HttpConfig::new("http://127.0.0.1:1");
        let cookie = || CredentialConfig {
            header: Some("cookie".into()),
            secret: Some(SecretSource::Env("SESSION".into())),
            ..Default::default()
        };
        for (config, start) in [
            (HttpConfig::new("pve:8006"), "http: "),
            (HttpConfig::new("ftp://pve"), "http: "),
            (HttpConfig::new("https://"), "http: "),
            (HttpConfig::new("https://u:hunter2@pve"), "http: "),
            (HttpConfig::new("http://127.0.0.1:0"), "http: "),
            (HttpConfig::new("http://127.0.0.1/a/../b"), "http: "),
            (HttpConfig::new("http://127.0.0.1/a?b"), "http: "),
            (HttpConfig::new("http://192.0.2.1:80"), "http: "),
            (HttpConfig::new("http://localhost.example"), "http: "),
            (HttpConfig::new("unix://x.sock"), "http: "),
            (HttpConfig { tls: pinned(), ..plain() }, "tls: "),
            (HttpConfig { http2: true, ..plain() }, "http2: "),
            (HttpConfig { insecure: true, ..https() }, "insecure: "),
            (
                HttpConfig {
                    tls: Some(TlsConfig { sha256: Some("x".into()), ..Default::default() }),
                    ..https()
                },
                "tls.sha256: ",
            ),
            (HttpConfig { credential: Some(Default::default()), ..plain() }, "credential."),
            (HttpConfig { credential: Some(cookie()), cookies: true, ..plain() }, "credential.header: "),
            (HttpConfig { proxy: Some("http://u:hunter2@p:1".into()), ..https() }, "proxy: "),
            (HttpConfig { proxy: Some("https://p:1".into()), ..https() }, "proxy: "),
            (HttpConfig { proxy: Some("http://p:1".into()), ..plain() }, "proxy: "),
            (HttpConfig { proxy: Some("http://p:1".into()), ..HttpConfig::new("unix:///x") }, "proxy: "),
            (HttpConfig { allow: Some(vec!["everything".into()]), ..plain() }, "allow: "),
        ] {
            let message = bind(config.clone()).await.err().unwrap_or_else(|| panic!("{config:?} was taken"));
            assert!(message.starts_with(start), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[tokio::test]
    async fn what_is_right_is_taken_without_connecting() {
        let pinned = Some(TlsConfig { sha256: Some("ab".repeat(32)), ..Default::default() });
        for config in [
            HttpConfig { tls: pinned, ..HttpConfig::new("https://[2001:db8::1]:8006/base/") },
            HttpConfig::new("http://localhost:8006"),
            HttpConfig::new("http://[::1]/"),
            HttpConfig { insecure: true, ..HttpConfig::new("http://192.0.2.1") },
            HttpConfig::new("unix:///run/x.sock"),
        ] {
            bind(config).await.map(drop).unwrap();
        }
    }
}
