//! What a plugin may say in a request. Everything is looked at before a byte leaves.

use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use streamspace_bindings::imports::http::Request;
use streamspace_bindings::types::{Error, ErrorKind};

use super::error;

/// Headers that a request may have.
const MAX_HEADERS: usize = 100;

/// Bytes of all headers of a request.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// Bytes of a path with its query.
const MAX_PATH: usize = 16 << 10;

/// Rounds of decoding after which a path is taken for an attempt to hide something.
const MAX_DECODINGS: usize = 5;

/// Headers that belong to the connection or say how long the body is (RFC 9110, section 7.6.1, and what is older).
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers by which somebody says who they are or where they come from, or turns a request into another one.
const OF_THE_HOST: &[&str] = &[
    "cookie",
    "cookie2",
    "forwarded",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// The same, by their beginnings. `x-remote-` is how Kubernetes is told of a user by its front proxy.
const BEGINNINGS_OF_THE_HOST: &[&str] = &["impersonate-", "proxy-", "x-forwarded-", "x-remote-"];

/// A request that passed.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) method: Method,
    /// Path and query as they were given.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

/// Whether a header belongs to the connection rather than to the request.
pub(super) fn is_of_the_connection(name: &HeaderName) -> bool {
    let name = plain(name);
    OF_THE_CONNECTION.contains(&name.as_str()) || name == "proxy-connection"
}

/// Some servers read an underscore as a dash.
fn plain(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

/// The path without its query.
pub(super) fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// Checks method, path and headers. `may_authorize` is whether `authorization` is the plugin's business.
pub(super) fn check(request: Request, may_authorize: bool) -> Result<Checked, Error> {
    let method = check_method(&request.method)?;
    check_path(&request.path)?;
    let headers = check_headers(&request.headers, may_authorize)?;
    Ok(Checked { method, path: request.path, headers })
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error { field: Some(field.to_owned()), ..error(ErrorKind::Invalid, message) }
}

fn check_method(text: &str) -> Result<Method, Error> {
    let fits = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    match Method::from_bytes(text.as_bytes()) {
        // CONNECT is no request for an object, and TRACE would show the host's credential.
        Ok(Method::CONNECT | Method::TRACE) => {
            Err(error(ErrorKind::Denied, format!("the method {text} is not for plugins")))
        }
        Ok(method) if fits => Ok(method),
        _ => Err(invalid("method", "a method has 1 to 32 letters in upper case")),
    }
}

/// That a path means the same to everybody who reads it, and does not lead out of the endpoint.
pub(super) fn check_path(whole: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(invalid("path", format!("the path {why}")));
    if whole.len() > MAX_PATH {
        return wrong(&format!("has more than {MAX_PATH} bytes"));
    }
    if !whole.bytes().all(|b| b.is_ascii_graphic()) {
        return wrong("has a space, a control character or one outside of ASCII, which has to be encoded");
    }
    if whole.contains(['\\', '#']) {
        return wrong("has a backslash or a fragment");
    }
    let path = without_query(whole);
    let Some(rest) = path.strip_prefix('/') else { return wrong("does not begin with a slash") };
    if rest.starts_with('/') || rest.contains("//") {
        return wrong("has two slashes in a row");
    }
    rest.split('/').try_for_each(check_segment)
}

/// Decodes a segment until nothing is left to decode: a server, or a proxy before it, may do so more than once.
fn check_segment(segment: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(invalid("path", format!("the path {why}")));
    let mut bytes = segment.as_bytes().to_vec();
    for _ in 0..MAX_DECODINGS {
        // What follows a semicolon is a parameter to some servers, so that `..;x` is `..`.
        let name = bytes.split(|b| *b == b';').next().unwrap_or_default();
        if matches!(name, b"." | b"..") {
            return wrong("has a segment `.` or `..`");
        }
        if bytes.iter().any(|b| matches!(b, b'/' | b'\\')) {
            return wrong("has an encoded slash or backslash");
        }
        if bytes.iter().any(|b| b.is_ascii_control()) {
            return wrong("has an encoded control character");
        }
        if bytes.windows(2).any(|pair| matches!(pair, [b'%', b'u' | b'U'])) {
            return wrong("has an escape %u, which only some servers know");
        }
        if bytes.windows(2).any(|pair| is_overlong(pair[0], pair[1])) {
            return wrong("has a character encoded in more bytes than it needs");
        }
        let Some(decoded) = decode(&bytes) else { return Ok(()) };
        bytes = decoded;
    }
    wrong("is encoded many times over")
}

/// Whether a character in UTF-8 begins so that is longer than it has to be. What takes it all the same sees another
/// character: `%c0%ae` for a dot.
fn is_overlong(first: u8, second: u8) -> bool {
    match first {
        0xc0 | 0xc1 => true,
        0xe0 => matches!(second, 0x80..=0x9f),
        0xf0 => matches!(second, 0x80..=0x8f),
        _ => false,
    }
}

/// Decodes once; none where nothing is encoded. A `%` that begins no escape stays as it is.
fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        decoded.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    (decoded.len() != bytes.len()).then_some(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn check_headers(given: &[(String, String)], may_authorize: bool) -> Result<HeaderMap, Error> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if given.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let message =
            format!("a request has at most {MAX_HEADERS} headers of {MAX_HEADER_BYTES} bytes in all");
        return Err(invalid("headers", message));
    }
    let mut headers = HeaderMap::with_capacity(given.len());
    for (name, value) in given {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| invalid("headers", "a header's name has a character that no name has"))?;
        let value = HeaderValue::try_from(value.as_str())
            .map_err(|_| invalid("headers", format!("the value of `{parsed}` has a control character")))?;
        let refused = match plain(&parsed).as_str() {
            "authorization" => !may_authorize || parsed != AUTHORIZATION,
            plain => {
                is_of_the_connection(&parsed)
                    || OF_THE_HOST.contains(&plain)
                    || BEGINNINGS_OF_THE_HOST.iter().any(|beginning| plain.starts_with(beginning))
            }
        };
        if refused {
            return Err(error(ErrorKind::Denied, format!("the header `{parsed}` is the host's")));
        }
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// Says how long the body is. Where there is none, that is only said for methods that usually have one.
pub(super) fn set_length(method: &Method, headers: &mut HeaderMap, length: u64) {
    if length > 0 || matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_or_could_be_misread_is_refused() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a%20b/c?x=%2F..//&y=..",
            "/a..b/...",
            "/x?a=b?c",
            "/100%",
            "/a;b=c",
            "/%41",
            "/%c3%a4",
            "/%e2%82%ac",
        ] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "a",
            "https://evil/",
            "//evil/a",
            "/a//b",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/a/..?x",
            "/%2e%2E/b",
            "/.%2e/b",
            "/%252e%252e/b",
            "/%25252e./b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%252fb",
            "/a\\b",
            "/a b",
            "/a\tb",
            "/a\r\nX: y",
            "/a%0d%0aX:%20y",
            "/a%00",
            "/a#b",
            "/ä",
            "/..;/b",
            "/..;x=y/b",
            "/%2e%2e%3b/b",
            "/a%7f",
            "/%25252525252e",
            "/%u002e%u002e/b",
            "/%U002E./b",
            "/%25u002e./b",
            "/%c0%ae%c0%ae/b",
            "/%c1%9cb",
            "/%e0%80%ae./b",
            "/%f0%80%80%ae./b",
            "/%25c0%25ae./b",
        ] {
            assert!(check_path(path).is_err(), "{path}");
        }
        assert!(check_path(&format!("/{}", "a".repeat(MAX_PATH))).is_err());
    }

    #[test]
    fn a_header_of_the_host_is_refused_however_it_is_written() {
        let try_one = |name: &str, value: &str| {
            check_headers(&[(name.to_owned(), value.to_owned())], false).map(drop).map_err(|error| error.kind)
        };
        assert_eq!(try_one("X-Plain", "a b"), Ok(()));
        for name in [
            "Authorization",
            "COOKIE",
            "host",
            "Connection",
            "Proxy-Authorization",
            "Impersonate-User",
            "TE",
            "Impersonate-Extra-scopes",
            "X-Forwarded-For",
            "X_Forwarded_For",
            "x_forwarded-host",
            "Forwarded",
            "Transfer-Encoding",
            "Content-Length",
            "Upgrade",
            "X-Remote-User",
            "X-HTTP-Method-Override",
            "Expect",
        ] {
            assert_eq!(try_one(name, "x"), Err(ErrorKind::Denied), "{name}");
        }
        for (name, value) in [
            ("a b", "x"),
            ("", "x"),
            ("a:", "x"),
            ("a\r\nb", "x"),
            ("a", "x\r\nb: c"),
            ("a", "x\ny"),
            ("a", "\0"),
        ] {
            assert_eq!(try_one(name, value), Err(ErrorKind::Invalid), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn authorization_is_only_allowed_where_it_is_the_plugins_business() {
        let headers = |name: &str| [(name.to_owned(), "NTLM x".to_owned())];
        assert!(check_headers(&headers("Authorization"), true).is_ok());
        assert!(check_headers(&headers("Authorization"), false).is_err());
    }

    #[test]
    fn a_method_is_a_word_in_upper_case_and_not_every_one() {
        for method in ["GET", "POST", "PROPFIND", "M-SEARCH"] {
            assert!(check_method(method).is_ok(), "{method}");
        }
        for method in ["", "get", "GET /", "G\r\nT", "CONNECT", "TRACE", &"A".repeat(33)] {
            assert!(check_method(method).is_err(), "{method}");
        }
    }
}
