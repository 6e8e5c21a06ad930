//! The steps of a test, and what came of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use streamspace_sdk::http::{Chunk, Client, Connection, Download, RequestBuilder, Upload};
use streamspace_sdk::{Error, ErrorExt as _, Result};

/// Characters of a body that are told; its length is always told.
const TOLD: usize = 4096;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Step {
    /// A request with a whole body.
    Send(Request),
    /// The same on the connection that is held.
    SendPinned(Request),
    /// A request with a body in pieces, and the answer read in pieces.
    Stream(Streamed),
    StreamPinned(Streamed),
    /// Begins a request and does not end it.
    Leave(Streamed),
    Connect {
        endpoint: Option<String>,
        tag: Option<String>,
    },
    Park {
        tag: String,
        memo: String,
    },
    /// Opens so many exchanges and holds them.
    Hoard {
        count: usize,
    },
    Trap,
}

#[derive(Deserialize)]
#[serde(default)]
struct Request {
    endpoint: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    /// A body of so many bytes instead.
    body_bytes: usize,
    max_body: u32,
    timeout_ms: Option<u64>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            endpoint: "api".to_owned(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            body_bytes: 0,
            max_body: 8 << 20,
            timeout_ms: None,
        }
    }
}

#[derive(Deserialize)]
struct Streamed {
    #[serde(flatten)]
    request: Request,
    /// Pieces of so many bytes.
    #[serde(default)]
    pieces: Vec<usize>,
    length: Option<u64>,
    /// Milliseconds to wait for a piece of the answer.
    #[serde(default = "long")]
    wait_ms: u64,
    /// Reads after which it stops.
    #[serde(default = "many")]
    reads: usize,
}

fn long() -> u64 {
    600_000
}

fn many() -> usize {
    usize::MAX
}

#[derive(Default, Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    reason: String,
    headers: Vec<(String, String)>,
    body: String,
    length: usize,
    /// What each read gave: a number of bytes, `pending` or `end`.
    reads: Vec<String>,
    memo: Option<String>,
    /// The channel binding in hexadecimal.
    binding: Option<String>,
    error: Option<Told>,
}

/// An error as a test sees it.
#[derive(Serialize)]
struct Told {
    kind: String,
    message: String,
    ext: Vec<(String, String)>,
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        let Error { kind, message, ext, .. } = error;
        Self { error: Some(Told { kind: format!("{kind:?}"), message, ext }), ..Self::default() }
    }
}

pub(crate) fn run(script: &str) -> Result<String> {
    let steps: Vec<Step> =
        serde_json::from_str(script).map_err(|error| Error::invalid("session_id", error.to_string()))?;
    let mut world = World { held: None, hoard: Vec::new() };
    let outcomes: Vec<Outcome> =
        steps.into_iter().map(|step| world.act(step).unwrap_or_else(Outcome::from)).collect();
    serde_json::to_string(&outcomes).map_err(|error| Error::internal(error.to_string()))
}

struct World {
    held: Option<Connection>,
    hoard: Vec<Upload>,
}

impl World {
    fn act(&mut self, step: Step) -> Result<Outcome> {
        match step {
            Step::Send(request) => whole(pooled(&request), &request),
            Step::SendPinned(request) => whole(self.pinned(&request)?, &request),
            Step::Stream(streamed) => in_pieces(pooled(&streamed.request), &streamed),
            Step::StreamPinned(streamed) => in_pieces(self.pinned(&streamed.request)?, &streamed),
            Step::Leave(streamed) => {
                let upload = pooled(&streamed.request).upload(streamed.length)?;
                for size in &streamed.pieces {
                    upload.write(&vec![b'x'; *size])?;
                }
                Ok(Outcome::default())
            }
            Step::Connect { endpoint, tag } => {
                let client = Client::new(endpoint.unwrap_or_else(|| "api".to_owned()));
                let connection = client.connect(tag.as_deref())?;
                let memo = connection.memo().map(|memo| String::from_utf8_lossy(&memo).into_owned());
                let binding = connection
                    .tls_server_end_point()
                    .map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect());
                self.held = Some(connection);
                Ok(Outcome { memo, binding, ..Outcome::default() })
            }
            Step::Park { tag, memo } => {
                self.held.take().ok_or_else(nothing_held)?.park(&tag, memo.as_bytes());
                Ok(Outcome::default())
            }
            Step::Hoard { count } => {
                for _ in 0..count {
                    self.hoard.push(Client::new("api").post("/").upload(None)?);
                }
                Ok(Outcome::default())
            }
            Step::Trap => std::process::abort(),
        }
    }

    fn pinned(&self, request: &Request) -> Result<RequestBuilder<'_>> {
        let connection = self.held.as_ref().ok_or_else(nothing_held)?;
        Ok(filled(connection.request(&request.method, request.path.clone()), request))
    }
}

fn nothing_held() -> Error {
    Error::internal("no connection is held")
}

fn pooled(request: &Request) -> RequestBuilder<'static> {
    // The test's plugin lives for one call.
    let client: &'static Client = Box::leak(Box::new(Client::new(request.endpoint.clone())));
    filled(client.request(&request.method, request.path.clone()), request)
}

fn filled<'a>(mut builder: RequestBuilder<'a>, request: &Request) -> RequestBuilder<'a> {
    for (name, value) in &request.headers {
        builder = builder.header(name, value.clone());
    }
    if let Some(ms) = request.timeout_ms {
        builder = builder.timeout(Duration::from_millis(ms));
    }
    builder.max_body(request.max_body)
}

fn whole(builder: RequestBuilder<'_>, request: &Request) -> Result<Outcome> {
    let body = if request.body_bytes > 0 { vec![b'x'; request.body_bytes] } else { request.body.clone().into() };
    let builder = if body.is_empty() { builder } else { builder.body("text/plain", body) };
    let answer = builder.send()?;
    Ok(Outcome {
        status: Some(answer.status),
        reason: answer.reason.clone(),
        headers: answer.headers.clone(),
        length: answer.body.len(),
        body: told(&answer.body),
        ..Outcome::default()
    })
}

fn told(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(TOLD)]).into_owned()
}

fn in_pieces(builder: RequestBuilder<'_>, streamed: &Streamed) -> Result<Outcome> {
    let upload = builder.upload(streamed.length)?;
    let mut failed = None;
    for size in &streamed.pieces {
        if let Err(error) = upload.write(&vec![b'x'; *size]) {
            failed = Some(error);
            break;
        }
    }
    let download = upload.finish()?;
    let mut outcome = read(&download, streamed)?;
    outcome.error = failed.and_then(|error| Outcome::from(error).error);
    Ok(outcome)
}

fn read(download: &Download, streamed: &Streamed) -> Result<Outcome> {
    let mut body = Vec::new();
    let mut reads = Vec::new();
    while reads.len() < streamed.reads {
        match download.next(Duration::from_millis(streamed.wait_ms))? {
            Chunk::Data(piece) => {
                reads.push(piece.len().to_string());
                body.extend(piece);
            }
            Chunk::Pending => reads.push("pending".to_owned()),
            Chunk::End => {
                reads.push("end".to_owned());
                break;
            }
        }
    }
    Ok(Outcome {
        status: Some(download.status),
        reason: download.reason.clone(),
        headers: download.headers.clone(),
        length: body.len(),
        body: told(&body),
        reads,
        ..Outcome::default()
    })
}
