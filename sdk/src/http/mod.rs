//! HTTP to a named endpoint.
//!
//! The plugin names the endpoint of its manifest and a path below it; where that is and with which credentials only
//! the host knows. A status is an answer and never an error: what a 404 means, only the plugin can say.
//!
//! ```ignore
//! let api = http::Client::new("api");
//! let answer = api.get("/nodes").query("type", "vm").send()?;
//! if answer.status == 403 {
//!     return Err(Error::new(ErrorKind::Denied, answer.reason));
//! }
//! let nodes: Vec<Node> = answer.json()?;
//! ```

mod request;
mod stream;

use std::fmt::Write as _;

use serde::de::DeserializeOwned;

pub use self::request::RequestBuilder;
pub use self::stream::{Download, Line, Lines, Upload};
use crate::bindings::streamspace::backend::http as imported;
use crate::{Deadline, Error, ErrorExt as _, Result};

pub use imported::Chunk;

/// Bytes of a whole answer, unless the request says more.
pub const MAX_BODY: u32 = 8 << 20;

/// An endpoint of the manifest.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: String,
    deadline: Option<Deadline>,
}

impl Client {
    /// The endpoint with this name.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), deadline: None }
    }

    /// The same endpoint for requests whose answers begin before then. Without it the end of the call counts.
    pub fn by(&self, deadline: Deadline) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    /// A request with a method of one's own; the path and its query are already encoded.
    pub fn request(&self, method: &str, path: impl Into<String>) -> RequestBuilder<'_> {
        RequestBuilder::new(request::Way::Pool(&self.endpoint), self.deadline, method, path.into())
    }

    /// `GET`.
    pub fn get(&self, path: impl Into<String>) -> RequestBuilder<'_> {
        self.request("GET", path)
    }

    /// `POST`.
    pub fn post(&self, path: impl Into<String>) -> RequestBuilder<'_> {
        self.request("POST", path)
    }

    /// `PUT`.
    pub fn put(&self, path: impl Into<String>) -> RequestBuilder<'_> {
        self.request("PUT", path)
    }

    /// `PATCH`.
    pub fn patch(&self, path: impl Into<String>) -> RequestBuilder<'_> {
        self.request("PATCH", path)
    }

    /// `DELETE`.
    pub fn delete(&self, path: impl Into<String>) -> RequestBuilder<'_> {
        self.request("DELETE", path)
    }

    /// A TCP connection of one's own: a new one, or one that an earlier call parked with this tag.
    pub fn connect(&self, tag: Option<&str>) -> Result<Connection> {
        imported::connect(&self.endpoint, tag).map(|inner| Connection { inner, deadline: self.deadline })
    }
}

/// One TCP connection, for protocols that authenticate connections.
#[derive(Debug)]
pub struct Connection {
    inner: imported::Connection,
    deadline: Option<Deadline>,
}

impl Connection {
    /// What the call that parked it left with it; none = it is new.
    pub fn memo(&self) -> Option<Vec<u8>> {
        self.inner.memo()
    }

    /// Channel binding `tls-server-end-point` (RFC 5929); none without TLS.
    pub fn tls_server_end_point(&self) -> Option<Vec<u8>> {
        self.inner.tls_server_end_point()
    }

    /// A request on this connection. One at a time.
    pub fn request(&self, method: &str, path: impl Into<String>) -> RequestBuilder<'_> {
        RequestBuilder::new(request::Way::Pinned(&self.inner), self.deadline, method, path.into())
    }

    /// Leaves it to a later call that connects with the same tag.
    pub fn park(self, tag: &str, memo: &[u8]) {
        imported::Connection::park(self.inner, tag, memo);
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Reason phrase; some servers put the message there. Empty on HTTP/2.
    pub reason: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. An answer that is none makes no sense: `internal`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::internal(format!("the answer (status {}) cannot be read: {error}", self.status)))
    }
}

impl From<imported::Response> for Response {
    fn from(response: imported::Response) -> Self {
        let imported::ResponseHead { status, reason, headers } = response.head;
        Self { status, reason, headers, body: response.body }
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// Whether a failed request may have had an effect: then the object has to be looked at before the request is
/// repeated.
pub fn may_have_happened(error: &Error) -> bool {
    error.ext.iter().any(|(key, value)| key == "http.sent" && value == "true")
}

/// Encodes a text as one segment of a path, or as a name or value of a query (RFC 3986: all but unreserved
/// characters). The host refuses a segment with a slash in it, encoded or not.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            // Writing to a text cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn whatever_has_a_meaning_is_encoded() {
        assert_eq!(encode("aZ9-._~"), "aZ9-._~");
        assert_eq!(encode("a b/c?d&e=ä%"), "a%20b%2Fc%3Fd%26e%3D%C3%A4%25");
    }

    #[test]
    fn an_answer_that_is_no_json_is_an_error_with_its_status() {
        let response = Response { status: 502, reason: String::new(), headers: Vec::new(), body: b"<html>".to_vec() };
        let error = response.json::<serde_json::Value>().unwrap_err();
        assert!(error.kind == ErrorKind::Internal && error.message.contains("502"));
    }

    #[test]
    fn only_a_request_that_was_sent_may_have_happened() {
        let mut error = Error::new(ErrorKind::Unavailable, "");
        assert!(!may_have_happened(&error));
        error.ext = vec![("http.sent".to_owned(), "false".to_owned())];
        assert!(!may_have_happened(&error));
        error.ext = vec![("http.sent".to_owned(), "true".to_owned())];
        assert!(may_have_happened(&error));
    }
}
