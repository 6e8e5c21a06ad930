//! What changes in the headers of requests and answers on their way through the gateway.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::authorize::COOKIE;
use super::way::Site;

/// Belong to one connection, not to the message (RFC 9110, section 7.6.1).
pub(super) const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Speak for the whole origin, which is not the session's alone.
const FOR_THE_ORIGIN: [HeaderName; 7] = [
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    // With these an application would be told of everything the browser does at this origin.
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("public-key-pins"),
];

/// Needed at the other end of the gateway too, whatever a browser says of its connection.
const END_TO_END: [HeaderName; 3] = [header::HOST, header::COOKIE, header::AUTHORIZATION];

/// Removes what belongs to the connection. An upgrade that was asked for is given back, to be asked for anew.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let connection: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let upgrade = headers.get(header::UPGRADE).cloned();
    for name in connection.iter().filter(|name| END_TO_END.iter().all(|kept| kept != name.as_str())) {
        headers.remove(name.as_str());
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    upgrade.filter(|_| connection.iter().any(|name| name == "upgrade"))
}

/// Takes our own cookie out of a request and leaves those of the application.
pub(super) fn remove_own_cookie(headers: &mut HeaderMap) {
    let kept: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| {
            let Ok(text) = value.to_str() else { return Some(value.clone()) };
            let others: Vec<&str> = text
                .split(';')
                .map(str::trim)
                .filter(|pair| !cookie_name(pair).eq_ignore_ascii_case(COOKIE))
                .filter(|pair| !pair.is_empty())
                .collect();
            HeaderValue::from_str(&others.join("; ")).ok().filter(|value| !value.is_empty())
        })
        .collect();
    headers.remove(header::COOKIE);
    for value in kept {
        headers.append(header::COOKIE, value);
    }
}

/// Where an answer of an application is shown.
pub(super) struct Place<'a> {
    /// What stands before its paths in the browser.
    pub(super) prefix: &'a str,
    /// How the browser calls this server.
    pub(super) host: Option<&'a HeaderValue>,
    /// Where the application is at its own server.
    pub(super) site: &'a Site,
}

/// Makes an answer fit for its place.
pub(super) fn rewrite_answer(headers: &mut HeaderMap, place: &Place<'_>) {
    for name in &FOR_THE_ORIGIN {
        headers.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let moved = headers.get(&name).and_then(|value| place.relocate(value.to_str().ok()?));
        if let Some(value) = moved.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
    let cookies: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| HeaderValue::from_str(&place.confine_cookie(value.to_str().ok()?)?).ok())
        .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
}

impl Place<'_> {
    /// Where a redirection of the application leads in the browser: its own paths are below the prefix. Where an
    /// application knows its prefix, it is not added twice; `None` = as it is.
    fn relocate(&self, location: &str) -> Option<String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(self.path(location));
        }
        // A full URL, or one without the scheme, to where the browser is already or to the server behind.
        let rest =
            location.split_once("://").map(|(_, rest)| rest).or_else(|| location.strip_prefix("//"))?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let is_here =
            self.host.is_some_and(|host| authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()));
        if !is_here && !self.site.is_called(authority) {
            return None;
        }
        if path.starts_with('/') { Some(self.path(path)) } else { Some(format!("{}/{path}", self.prefix)) }
    }

    /// The browser's path for one of the application, which may know about the prefix, about its base at its own
    /// server, about both or none.
    fn path(&self, path: &str) -> String {
        let is_whole = |rest: &str| rest.is_empty() || rest.starts_with(['/', '?', '#']);
        let path = path.strip_prefix(self.prefix).filter(|rest| is_whole(rest)).unwrap_or(path);
        let path = self.site.inner(path).unwrap_or(path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{path}", self.prefix)
    }

    /// A cookie of the application, for its own paths and this host only; `None` = it would replace ours, or show what
    /// only the gateway is to know.
    fn confine_cookie(&self, cookie: &str) -> Option<String> {
        let mut parts = cookie.split(';').map(str::trim);
        let pair = parts.next()?;
        let name = cookie_name(pair);
        if name.eq_ignore_ascii_case(COOKIE) || self.site.added.has_cookie(name) {
            return None;
        }
        let mut path = "/".to_owned();
        let mut kept = vec![pair.to_owned()];
        for attribute in parts {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => path = value.to_owned(),
                // The last one counts, and one that cannot be understood means the default.
                "path" => path = "/".to_owned(),
                "domain" => {}
                _ => kept.push(attribute.to_owned()),
            }
        }
        kept.push(format!("Path={}", self.path(&path)));
        Some(kept.join("; "))
    }
}

/// The name that a browser gives back with a cookie: one that has none is sent without its first `=`.
pub(super) fn cookie_name(pair: &str) -> &str {
    let pair = pair.trim_start_matches(|c: char| c == '=' || c.is_ascii_whitespace());
    pair.split('=').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use streamspace_proto::controller::v1 as proto;
    use streamspace_proto::controller::v1::access_point::Target;

    use super::super::service::Speech;
    use super::super::tls::Trust;
    use super::super::way::Way;
    use super::*;

    const PREFIX: &str = "/s/1";

    fn site(base_url: &str, cookie: &str) -> Site {
        let target = proto::HttpTarget {
            base_url: base_url.to_owned(),
            headers: [("cookie".to_owned(), cookie.to_owned())].into(),
            ..Default::default()
        };
        let point = proto::AccessPoint { target: Some(Target::Http(target)), ..Default::default() };
        Way::read(point, Speech::Http, &Trust::default()).ok().unwrap().site
    }

    #[test]
    fn redirections_stay_below_the_prefix() {
        let host = HeaderValue::from_static("example.org:8000");
        for (from, to) in [
            ("/login?next=/", Some("/s/1/login?next=/")),
            ("/s/1/home", Some("/s/1/home")),
            ("/s/12", Some("/s/1/s/12")),
            ("http://example.org:8000/a", Some("/s/1/a")),
            ("http://EXAMPLE.org:8000?x", Some("/s/1/?x")),
            ("http://elsewhere.org/a", None),
            ("//elsewhere.org/a", None),
            ("//example.org:8000/a", Some("/s/1/a")),
            ("relative", None),
        ] {
            let place = Place { prefix: PREFIX, host: Some(&host), site: &Site::default() };
            assert_eq!(place.relocate(from).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn the_base_at_the_server_does_not_show() {
        let host = HeaderValue::from_static("example.org");
        let site = site("https://back.internal:8443/x", "");
        let place = Place { prefix: PREFIX, host: Some(&host), site: &site };
        for (from, to) in [
            ("/x", Some("/s/1/")),
            ("/x/", Some("/s/1/")),
            ("/x/login?next=/x/", Some("/s/1/login?next=/x/")),
            ("/x?a", Some("/s/1/?a")),
            ("/xy", Some("/s/1/xy")),
            ("/login", Some("/s/1/login")),
            ("/s/1/x/login", Some("/s/1/login")),
            ("/s/1/login", Some("/s/1/login")),
            ("https://back.internal:8443/x/login", Some("/s/1/login")),
            ("https://BACK.internal:8443", Some("/s/1/")),
            ("https://back.internal/x/login", None),
        ] {
            assert_eq!(place.relocate(from).as_deref(), to, "{from}");
        }
        for (from, to) in [
            ("a=1", "a=1; Path=/s/1/"),
            ("a=1; Path=/x", "a=1; Path=/s/1/"),
            ("a=1; Path=/x/y", "a=1; Path=/s/1/y"),
            ("a=1; Path=/", "a=1; Path=/s/1/"),
        ] {
            assert_eq!(place.confine_cookie(from).as_deref(), Some(to), "{from}");
        }
    }

    #[test]
    fn cookies_are_confined_and_ours_cannot_be_set() {
        let site = site("http://a/", "ticket=secret");
        let place = Place { prefix: PREFIX, host: None, site: &site };
        for (from, to) in [
            ("a=1", Some("a=1; Path=/s/1/")),
            ("a=1; Path=/x; Domain=example.org; HttpOnly", Some("a=1; HttpOnly; Path=/s/1/x")),
            ("a=1; path=/s/1/", Some("a=1; Path=/s/1/")),
            ("a=1; Path=relative", Some("a=1; Path=/s/1/")),
            ("a=1; Path=/x; Path=nowhere", Some("a=1; Path=/s/1/")),
            ("streamspace-access=stolen; Path=/s/2/", None),
            // Browsers send it back as if it were ours.
            ("=streamspace-access=stolen; Path=/", None),
            (" = Streamspace-Access =stolen", None),
            // Renewed for the gateway, not for the browser.
            ("ticket=renewed", None),
        ] {
            assert_eq!(place.confine_cookie(from).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn our_cookie_does_not_reach_the_application() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; streamspace-access=x; b=2=3"));
        headers.append(header::COOKIE, HeaderValue::from_static("streamspace-access=x"));
        remove_own_cookie(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2=3"]);
    }

    #[test]
    fn connection_headers_end_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "Upgrade, X-Private"),
            ("upgrade", "websocket"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(remove_hop_by_hop(&mut headers).unwrap(), "websocket");
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
        headers.append(header::UPGRADE, HeaderValue::from_static("h2c"));
        assert_eq!(remove_hop_by_hop(&mut headers), None, "not named by Connection");

        for name in ["connection", "host", "cookie", "authorization", "x-own"] {
            headers.append(name, HeaderValue::from_static("Host, cookie, AUTHORIZATION, x-own"));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization", "cookie", "host"], "not the connection's");
    }
}
