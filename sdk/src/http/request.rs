//! Requests, put together step by step.

use std::time::Duration;

use serde::Serialize;

use super::stream::{Download, Upload};
use super::{MAX_BODY, Response, encode, imported};
use crate::{Deadline, Error, ErrorExt as _, Result};

/// Which connection a request takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'a> {
    /// Any, to the endpoint of this name.
    Pool(&'a str),
    /// This one.
    Pinned(&'a imported::Connection),
}

/// A request to be sent.
#[derive(Debug)]
#[must_use = "nothing is sent before `send`, `stream` or `upload`"]
pub struct RequestBuilder<'a> {
    way: Way<'a>,
    deadline: Option<Deadline>,
    request: imported::Request,
    /// A body that could not be written down is told when the request is sent.
    body: Result<Vec<u8>>,
    max_body: u32,
}

impl<'a> RequestBuilder<'a> {
    pub(super) fn new(way: Way<'a>, deadline: Option<Deadline>, method: &str, path: String) -> Self {
        let method = method.to_owned();
        let request =
            imported::Request { method, path, headers: Vec::new(), timeout_ms: None, ext: Vec::new() };
        Self { way, deadline, request, body: Ok(Vec::new()), max_body: MAX_BODY }
    }

    /// Adds a header. Those that say who is asking are the host's.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.request.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a name and a value to the query, both encoded here.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let path = &mut self.request.path;
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(&encode(name));
        path.push('=');
        path.push_str(&encode(value));
        self
    }

    /// Sets the body.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Ok(body.into());
        self.header("content-type", content_type)
    }

    /// Sets the body to JSON.
    pub fn json(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.body = serde_json::to_vec(value)
            .map_err(|error| Error::internal(format!("the request's body cannot be written: {error}")));
        self.header("content-type", "application/json")
    }

    /// Sets the body to the pairs of a form.
    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        self.body("application/x-www-form-urlencoded", pairs.join("&"))
    }

    /// Time until the answer's head must have come; without it what is left of the call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout_ms = Some(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Bytes that the whole answer may have, instead of [`MAX_BODY`]. A longer one is `exhausted`.
    pub fn max_body(mut self, bytes: u32) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sends it and reads the whole answer, whatever its status.
    pub fn send(self) -> Result<Response> {
        let max_body = self.max_body;
        let (way, request, body) = self.ready()?;
        let response = match way {
            Way::Pool(endpoint) => imported::send(endpoint, &request, &body, max_body)?,
            Way::Pinned(connection) => connection.send(&request, &body, max_body)?,
        };
        Ok(response.into())
    }

    /// Sends it with the body given so far, and leaves the answer's body to be read in pieces.
    pub fn stream(self) -> Result<Download> {
        let (way, request, body) = self.ready()?;
        let upload = open(way, &request, Some(body.len() as u64))?;
        upload.write(&body)?;
        upload.finish()
    }

    /// Begins it, with a body that is written in pieces: with Content-Length if its length is known, else chunked.
    pub fn upload(self, length: Option<u64>) -> Result<Upload> {
        let (way, request, _) = self.ready()?;
        open(way, &request, length)
    }

    fn ready(mut self) -> Result<(Way<'a>, imported::Request, Vec<u8>)> {
        if let (Some(deadline), None) = (self.deadline, self.request.timeout_ms) {
            self.request.timeout_ms = Some(deadline.remaining_ms());
        }
        Ok((self.way, self.request, self.body?))
    }
}

fn open(way: Way<'_>, request: &imported::Request, length: Option<u64>) -> Result<Upload> {
    let exchange = match way {
        Way::Pool(endpoint) => imported::open(endpoint, request, length)?,
        Way::Pinned(connection) => connection.open(request, length)?,
    };
    Ok(Upload::new(exchange))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn a_query_is_encoded_and_joined() {
        let client = Client::new("api");
        let request = client.get("/a").query("q", "x y").query("r", "1&2").request;
        assert_eq!(request.path, "/a?q=x%20y&r=1%262");
    }

    #[test]
    fn a_body_brings_its_type() {
        let client = Client::new("api");
        let (_, request, body) = client.post("/a").form(&[("a", "b c"), ("d", "e")]).ready().unwrap();
        assert_eq!(body, b"a=b%20c&d=e");
        assert_eq!(request.headers[0].1, "application/x-www-form-urlencoded");
        let (_, request, body) = client.post("/a").json(&[1, 2]).ready().unwrap();
        assert_eq!((request.headers[0].1.as_str(), body.as_slice()), ("application/json", b"[1,2]".as_slice()));
    }

    #[test]
    fn a_deadline_counts_unless_the_request_has_its_own_time() {
        let client = Client::new("api").by(Deadline::after(Duration::from_secs(60)));
        let (_, request, _) = client.get("/").ready().unwrap();
        assert!(request.timeout_ms.is_some_and(|ms| (30_000..=60_000).contains(&ms)));
        let (_, request, _) = client.get("/").timeout(Duration::from_secs(5)).ready().unwrap();
        assert_eq!(request.timeout_ms, Some(5000));
        assert_eq!(Client::new("api").get("/").ready().unwrap().1.timeout_ms, None);
    }
}
