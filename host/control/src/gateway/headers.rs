//! What changes in the headers of requests and answers on their way through the gateway.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::authorize::COOKIE;

/// Belong to one connection, not to the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
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
const FOR_THE_ORIGIN: [HeaderName; 4] = [
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
];

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
    for name in &connection {
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
                .filter(|pair| pair.split('=').next().is_some_and(|name| name.trim() != COOKIE))
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

/// Makes an answer fit for its place below `prefix`.
pub(super) fn rewrite_answer(headers: &mut HeaderMap, prefix: &str, host: Option<&HeaderValue>) {
    for name in &FOR_THE_ORIGIN {
        headers.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let moved = headers.get(&name).and_then(|value| relocate(value.to_str().ok()?, prefix, host));
        if let Some(value) = moved.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
    let cookies: Vec<HeaderValue> = headers
        .get_all(header::SET_COOKIE)
        .iter()
        .filter_map(|value| HeaderValue::from_str(&confine_cookie(value.to_str().ok()?, prefix)?).ok())
        .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Where a redirection of the application leads in the browser: its own paths are below the prefix. Where an
/// application knows its prefix, it is not added twice; `None` = as it is.
fn relocate(location: &str, prefix: &str, host: Option<&HeaderValue>) -> Option<String> {
    let path = if location.starts_with('/') && !location.starts_with("//") {
        location
    } else {
        // A full URL to where the browser is already.
        let (_, rest) = location.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !authority.as_bytes().eq_ignore_ascii_case(host?.as_bytes()) {
            return None;
        }
        if path.starts_with('/') { path } else { return Some(format!("{prefix}/{path}")) }
    };
    let is_prefixed =
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    Some(if is_prefixed { path.to_owned() } else { format!("{prefix}{path}") })
}

/// A cookie of the application, for its own paths and this host only; `None` = it would replace ours.
fn confine_cookie(cookie: &str, prefix: &str) -> Option<String> {
    let mut parts = cookie.split(';').map(str::trim);
    let pair = parts.next()?;
    if pair.split('=').next()?.trim().eq_ignore_ascii_case(COOKIE) {
        return None;
    }
    let mut path = "/".to_owned();
    let mut kept = vec![pair.to_owned()];
    for attribute in parts {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "path" if value.starts_with('/') => path = value.to_owned(),
            "path" | "domain" => {}
            _ => kept.push(attribute.to_owned()),
        }
    }
    let path = relocate(&path, prefix, None).unwrap_or(path);
    kept.push(format!("Path={path}"));
    Some(kept.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/s/1";

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
            ("relative", None),
        ] {
            assert_eq!(relocate(from, PREFIX, Some(&host)).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn cookies_are_confined_and_ours_cannot_be_set() {
        for (from, to) in [
            ("a=1", Some("a=1; Path=/s/1/")),
            ("a=1; Path=/x; Domain=example.org; HttpOnly", Some("a=1; HttpOnly; Path=/s/1/x")),
            ("a=1; path=/s/1/", Some("a=1; Path=/s/1/")),
            ("a=1; Path=relative", Some("a=1; Path=/s/1/")),
            ("streamspace-access=stolen; Path=/s/2/", None),
        ] {
            assert_eq!(confine_cookie(from, PREFIX).as_deref(), to, "{from}");
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
    }
}
