//! What the gateway says to a session's server on behalf of its controller: the browser can neither change it nor see it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::headers::{HOP_BY_HOP, cookie_name};

/// Headers, with credentials among them. No `Debug`: nothing of it belongs into a log.
#[derive(Default)]
pub(super) struct Added {
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Pairs of the `Cookie` header, which is shared with the application's own.
    cookies: Vec<String>,
}

/// A controller gave a header that cannot be sent. Says nothing of its value.
#[derive(Debug, thiserror::Error)]
#[error("a header cannot be sent")]
pub(super) struct AddedError;

impl Added {
    /// Reads headers, and what to log in with by HTTP's basic authentication if no header does.
    pub(super) fn read(
        given: HashMap<String, String>,
        login: Option<(&str, &str)>,
    ) -> Result<Self, AddedError> {
        let mut added = Self::default();
        for (name, value) in given {
            let name = HeaderName::try_from(name).map_err(|_| AddedError)?;
            if is_of_the_message(&name) {
                return Err(AddedError);
            }
            added.add(name, &value)?;
        }
        let has_own = added.headers.iter().any(|(name, _)| *name == header::AUTHORIZATION);
        if let Some((username, password)) = login
            && !has_own
        {
            let pair = STANDARD.encode(format!("{username}:{password}"));
            added.add(header::AUTHORIZATION, &format!("Basic {pair}"))?;
        }
        Ok(added)
    }

    fn add(&mut self, name: HeaderName, value: &str) -> Result<(), AddedError> {
        let mut sent = HeaderValue::from_str(value).map_err(|_| AddedError)?;
        if name == header::COOKIE {
            let pairs = value.split(';').map(str::trim).filter(|pair| !pair.is_empty());
            self.cookies.extend(pairs.map(str::to_owned));
            return Ok(());
        }
        sent.set_sensitive(true);
        self.headers.push((name, sent));
        Ok(())
    }

    /// Puts it into a request, in place of whatever the browser says there.
    pub(super) fn put_into(&self, request: &mut HeaderMap) {
        for (name, _) in &self.headers {
            let alike: Vec<HeaderName> =
                request.keys().filter(|known| are_alike(known.as_str(), name.as_str())).cloned().collect();
            for known in alike {
                request.remove(known);
            }
        }
        for (name, value) in &self.headers {
            request.append(name, value.clone());
        }
        if self.cookies.is_empty() {
            return;
        }
        let mut pairs: Vec<String> = request
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .map(str::trim)
            .filter(|pair| !pair.is_empty() && !self.has_cookie(cookie_name(pair)))
            .map(str::to_owned)
            .collect();
        pairs.extend(self.cookies.iter().cloned());
        if let Ok(mut value) = HeaderValue::from_str(&pairs.join("; ")) {
            value.set_sensitive(true);
            request.insert(header::COOKIE, value);
        }
    }

    /// Whether a cookie of this name is the controller's affair: the browser is not to get it from the server either.
    pub(super) fn has_cookie(&self, name: &str) -> bool {
        self.cookies.iter().any(|pair| cookie_name(pair).eq_ignore_ascii_case(name))
    }
}

/// Whether a header says where a message ends, or what becomes of its connection: for the gateway alone to say.
fn is_of_the_message(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
        || *name == header::CONTENT_LENGTH
        || *name == header::EXPECT
        || name.as_str().starts_with("sec-websocket-")
}

/// Whether a server may take two names for one: gateways of the CGI kind know no difference between `-` and `_`.
fn are_alike(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.bytes().map(plain).eq(other.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(given: &[(&str, &str)], login: Option<(&str, &str)>) -> Result<Added, AddedError> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Added::read(given.collect(), login)
    }

    fn sent(added: &Added, browser: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in browser {
            headers.append(*name, HeaderValue::from_static(value));
        }
        added.put_into(&mut headers);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        all.sort();
        all
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_browser_cannot_override() {
        let added = added(&[("X-Remote-User", "alice")], Some(("a", "b"))).ok().unwrap();
        let browser = [
            ("x-remote-user", "root"),
            ("x_remote_user", "root"),
            ("x-remote_user", "root"),
            ("authorization", "Basic cm9vdA=="),
            ("accept", "*/*"),
        ];
        let expected =
            pairs(&[("accept", "*/*"), ("authorization", "Basic YTpi"), ("x-remote-user", "alice")]);
        assert_eq!(sent(&added, &browser), expected);
    }

    #[test]
    fn a_header_of_its_own_is_the_login() {
        let added = added(&[("authorization", "Bearer x")], Some(("a", "b"))).ok().unwrap();
        assert_eq!(sent(&added, &[]), pairs(&[("authorization", "Bearer x")]));
    }

    #[test]
    fn cookies_are_shared() {
        let added = added(&[("cookie", "ticket=t=1; mode=x")], None).ok().unwrap();
        let browser = [("cookie", "own=1; Ticket=forged"), ("cookie", "ticket=forged; other=2")];
        assert_eq!(sent(&added, &browser), pairs(&[("cookie", "own=1; other=2; ticket=t=1; mode=x")]));
        assert!(added.has_cookie("TICKET") && !added.has_cookie("own"));
    }

    #[test]
    fn what_would_break_the_message_is_refused() {
        for (name, value) in [
            ("content-length", "1"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("upgrade", "h2c"),
            ("sec-websocket-key", "x"),
            ("a b", "x"),
            ("x-own", "a\r\nb: c"),
            ("cookie", "a=\n"),
        ] {
            assert!(added(&[(name, value)], None).is_err(), "{name}");
        }
    }
}
