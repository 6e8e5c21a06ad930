//! One request and its answer, with bodies in pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use streamspace_bindings::imports::http::{Chunk, ResponseHead};
use streamspace_bindings::types::{Error, ErrorKind};
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{Body, GivenUp, HttpEndpoint, On, Permitted};
use super::error;
use super::failure::Failure;
use super::open::{InCall, InController};
use super::pinned::Turn;
use crate::capability::audit::Audit;
use crate::capability::deadline::{after, until};
use crate::capability::text::chain;
use crate::limits::MemoryShare;

/// Bytes of a body that are handed over at once. What a slow server has not taken yet stays small.
const PIECE: usize = 64 << 10;

/// Bytes that one `read` gives at most.
const MAX_READ: usize = 1 << 20;

/// How long a body goes on to be sent after the answer came and nobody takes it any more.
const GRACE: Duration = Duration::from_secs(1);

/// Which connection an exchange uses.
pub(super) enum Way {
    Pool,
    Pinned(Turn),
}

impl Way {
    pub(super) fn on(&self) -> On {
        match self {
            Self::Pool => On::Pool,
            Self::Pinned(..) => On::Pinned,
        }
    }
}

/// A request under way: a task of its own, which ends when this is dropped.
struct InFlight {
    answer: Answer,
    sent: Sent,
}

enum Answer {
    Awaited(AbortOnDropHandle<Result<http::Response<Incoming>, Failure>>),
    Came(Result<http::Response<Incoming>, Failure>),
}

/// Whether a byte of the request may have left.
enum Sent {
    /// Once the pool has a connection for it.
    WithAConnection(CaptureConnection),
    Flag(Arc<AtomicBool>),
}

impl Sent {
    fn is_true(&self) -> bool {
        match self {
            Self::WithAConnection(capture) => capture.connection_metadata().is_some(),
            Self::Flag(flag) => flag.load(Ordering::Acquire),
        }
    }
}

impl InFlight {
    fn start(endpoint: &Arc<HttpEndpoint>, way: &Way, mut request: http::Request<Body>) -> Self {
        match way {
            Way::Pool => {
                let sent = Sent::WithAConnection(capture_connection(&mut request));
                let endpoint = Arc::clone(endpoint);
                let task = tokio::spawn(async move {
                    endpoint.pool.request(request).await.map_err(|error| Failure::client(&error))
                });
                Self { answer: Answer::Awaited(AbortOnDropHandle::new(task)), sent }
            }
            Way::Pinned(turn) => {
                let flag = Arc::new(AtomicBool::new(false));
                let (connection, sent) = (turn.connection(), Arc::clone(&flag));
                let task = tokio::spawn(async move { connection.send(request, &sent).await });
                Self { answer: Answer::Awaited(AbortOnDropHandle::new(task)), sent: Sent::Flag(flag) }
            }
        }
    }

    /// Waits until the head came or will never come.
    async fn settle(&mut self) {
        if let Answer::Awaited(task) = &mut self.answer {
            let result = task.await.unwrap_or_else(|panic| {
                Err(Failure::new(ErrorKind::Internal, true, format!("the host failed: {panic}")))
            });
            self.answer = Answer::Came(result);
        }
    }

    /// Why there will be no answer, if that is known.
    fn failure(&self) -> Option<Failure> {
        match &self.answer {
            Answer::Came(Err(failure)) => Some(failure.clone()),
            Answer::Came(Ok(_)) | Answer::Awaited(_) => None,
        }
    }

    fn came(&self) -> bool {
        matches!(self.answer, Answer::Came(_))
    }

    async fn head(mut self, by: Instant) -> Result<http::Response<Incoming>, Failure> {
        // Whether it came in time shows below.
        let _ = until(by, self.settle()).await;
        match self.answer {
            Answer::Came(result) => result,
            Answer::Awaited(_) => Err(Failure::timed_out(self.sent.is_true(), "the answer")),
        }
    }
}

/// The rest of a body that is being sent. Dropped before its end, the request does not look complete.
struct Upload(Option<Sender<Bytes, GivenUp>>);

impl Upload {
    async fn send(&mut self, piece: Bytes) -> Result<(), GivenUp> {
        let Some(sender) = &mut self.0 else { return Err(GivenUp) };
        sender.send_data(piece).await.map_err(|_| GivenUp)
    }

    fn finish(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.abort(GivenUp);
        }
    }
}

/// One request with bodies that stream both ways.
pub(super) struct Exchange {
    name: String,
    endpoint: Arc<HttpEndpoint>,
    way: Option<Way>,
    path: String,
    /// Length of the request's body, if it was said.
    length: Option<u64>,
    head_by: Instant,
    audit: Option<Audit>,
    state: State,
    /// A body that nobody takes any more. Giving it up closes the connection, so it waits until the answer is read.
    stuck: Option<Upload>,
    _open: (InCall, Option<InController>),
}

/// What an exchange begins with.
pub(super) struct Start {
    /// The endpoint's name.
    pub(super) name: String,
    pub(super) endpoint: Arc<HttpEndpoint>,
    pub(super) way: Way,
    pub(super) permitted: Permitted,
    pub(super) length: Option<u64>,
    /// When the answer's head must have come.
    pub(super) head_by: Instant,
    pub(super) audit: Audit,
    pub(super) open: (InCall, Option<InController>),
}

enum State {
    /// Nothing was sent.
    Permitted(Permitted),
    /// The body is being sent; no upload = no more of it.
    Sending { in_flight: InFlight, upload: Option<Upload>, written: u64 },
    /// The answer's body is being read.
    Reading(Download),
    /// The answer was read to its end.
    Ended,
    /// It failed.
    Failed,
}

impl Exchange {
    pub(super) fn new(start: Start) -> Self {
        let Start { name, endpoint, way, permitted, length, head_by, audit, open } = start;
        Self {
            name,
            endpoint,
            way: Some(way),
            path: permitted.path().to_owned(),
            length,
            head_by,
            audit: Some(audit),
            state: State::Permitted(permitted),
            stuck: None,
            _open: open,
        }
    }

    /// Sends a piece of the request's body.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let already = match &self.state {
            State::Permitted(_) => 0,
            State::Sending { upload: Some(_), written, .. } => *written,
            _ => return Err(error(ErrorKind::FailedPrecondition, "the request's body has ended")),
        };
        let written = already.saturating_add(bytes.len() as u64);
        if let Some(length) = self.length.filter(|length| written > *length) {
            return Err(error(
                ErrorKind::Invalid,
                format!("the body is longer than the {length} bytes that were said"),
            ));
        }
        if let State::Permitted(_) = self.state {
            let (sender, body) = Channel::new(1);
            let in_flight = self.start(self.length, Either::Right(body)).await?;
            self.state = State::Sending { in_flight, upload: Some(Upload(Some(sender))), written: 0 };
        }
        if let Some(audit) = &self.audit {
            audit.may_go_on()?;
        }
        let State::Sending { in_flight, upload, written: so_far } = &mut self.state else { return Ok(()) };
        let Some(open) = upload else { return Ok(()) };
        *so_far = written;
        for piece in bytes.chunks(PIECE) {
            if let Err(failure) = push(in_flight, open, Bytes::copy_from_slice(piece), self.head_by).await {
                self.stuck = upload.take();
                return Err(failure.into_error(&self.name));
            }
        }
        Ok(())
    }

    async fn start(&mut self, length: Option<u64>, body: Body) -> Result<InFlight, Error> {
        let (State::Permitted(permitted), Some(way)) =
            (std::mem::replace(&mut self.state, State::Failed), &self.way)
        else {
            return Err(error(ErrorKind::FailedPrecondition, "the request was sent already"));
        };
        let request = self.endpoint.complete(permitted, length, body, self.head_by).await?;
        if let Some(audit) = &mut self.audit {
            audit.sending()?;
        }
        Ok(InFlight::start(&self.endpoint, way, request))
    }

    /// Ends the request's body and waits for the answer's head.
    pub(super) async fn finish(&mut self) -> Result<ResponseHead, Error> {
        if !matches!(self.state, State::Permitted(_) | State::Sending { .. }) {
            return Err(error(
                ErrorKind::FailedPrecondition,
                "`finish` was called before, or the request failed",
            ));
        }
        let result = self.finish_inner().await;
        if let Some(audit) = self.audit.take() {
            audit.end(result.as_ref().map(|head| Some(head.status)));
        }
        if result.is_err() {
            self.release(State::Failed);
        }
        result
    }

    async fn finish_inner(&mut self) -> Result<ResponseHead, Error> {
        let too_short = |length: u64, written: u64| {
            error(ErrorKind::Invalid, format!("the body has {written} of the {length} bytes that were said"))
        };
        if let State::Permitted(_) = self.state {
            if let Some(length) = self.length.filter(|length| *length > 0) {
                return Err(too_short(length, 0));
            }
            let in_flight = self.start(Some(0), Either::Left(Full::default())).await?;
            self.state = State::Sending { in_flight, upload: None, written: 0 };
        }
        let State::Sending { in_flight, upload, written } = std::mem::replace(&mut self.state, State::Failed)
        else {
            return Err(error(ErrorKind::FailedPrecondition, "`finish` was called before"));
        };
        if let Some(upload) = upload {
            if let Some(length) = self.length.filter(|length| written < *length) {
                return Err(too_short(length, written));
            }
            upload.finish();
        }
        let response =
            in_flight.head(self.head_by).await.map_err(|failure| failure.into_error(&self.name))?;
        let head = self.endpoint.head(&self.path, &response);
        self.state = State::Reading(Download { body: response.into_body(), rest: Bytes::new() });
        Ok(head)
    }

    /// Reads a piece of the answer's body.
    pub(super) async fn read(&mut self, max: u32, wait: Duration, at_last: Instant) -> Result<Chunk, Error> {
        if max == 0 {
            return Err(error(ErrorKind::Invalid, "`max` has to be at least 1"));
        }
        let download = match &mut self.state {
            State::Reading(download) => download,
            State::Ended => return Ok(Chunk::End),
            _ => return Err(error(ErrorKind::FailedPrecondition, "there is no answer to read from")),
        };
        let by = after(wait, at_last);
        match until(by, download.next(MAX_READ.min(max as usize))).await {
            Ok(Ok(Some(bytes))) => Ok(Chunk::Data(bytes.to_vec())),
            Ok(Ok(None)) => {
                self.release(State::Ended);
                Ok(Chunk::End)
            }
            Ok(Err(failure)) => {
                self.release(State::Failed);
                Err(failure.into_error(&self.name))
            }
            Err(_) if by < at_last => Ok(Chunk::Pending),
            Err(_) => Err(Failure::timed_out(true, "the rest of the answer").into_error(&self.name)),
        }
    }

    /// Gives the connection back.
    fn release(&mut self, state: State) {
        self.state = state;
        self.stuck = None;
        self.way = None;
    }
}

/// Hands a piece over. An answer that comes before the end of the body does not keep the rest from being sent, as
/// long as somebody takes it.
async fn push(
    in_flight: &mut InFlight,
    upload: &mut Upload,
    piece: Bytes,
    by: Instant,
) -> Result<(), Failure> {
    let mut patience = by;
    loop {
        let came = in_flight.came();
        let taken = tokio::select! {
            biased;
            taken = upload.send(piece.clone()) => Some(taken),
            () = in_flight.settle(), if !came => None,
            () = tokio::time::sleep_until(patience.into()) => {
                return Err(match came {
                    true => answered_early(),
                    false => Failure::timed_out(in_flight.sent.is_true(), "room for more of the body"),
                });
            }
        };
        match taken {
            Some(Ok(())) => return Ok(()),
            // Nobody takes the body any more: either it failed, or there is an answer that says why.
            Some(Err(GivenUp)) => {
                let in_time = until(by, in_flight.settle()).await.is_ok();
                return Err(match in_flight.failure() {
                    Some(failure) => failure,
                    None if in_time => answered_early(),
                    None => Failure::timed_out(in_flight.sent.is_true(), "the answer"),
                });
            }
            None => match in_flight.failure() {
                Some(failure) => return Err(failure),
                None => patience = after(GRACE, by),
            },
        }
    }
}

fn answered_early() -> Failure {
    let message = "the server answered before it had all of the body; `finish` gives the answer";
    Failure::new(ErrorKind::FailedPrecondition, true, message)
}

/// An answer's body.
struct Download {
    body: Incoming,
    /// What came and was not asked for yet.
    rest: Bytes,
}

impl Download {
    /// The next bytes, at most so many; none at the end. Nothing is lost when this is dropped while it waits.
    async fn next(&mut self, max: usize) -> Result<Option<Bytes>, Failure> {
        while self.rest.is_empty() {
            match self.body.frame().await {
                None => return Ok(None),
                // Trailers say nothing to plugins.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(body_failure(&error)),
            }
        }
        Ok(Some(self.rest.split_to(max.min(self.rest.len()))))
    }
}

fn body_failure(failure: &hyper::Error) -> Failure {
    let kind = if failure.is_parse() { ErrorKind::Internal } else { ErrorKind::Unavailable };
    let message = format!("the answer broke off: {}", chain(failure));
    Failure::new(kind, true, message)
}

/// Sends a request with a whole body and reads the whole answer.
pub(super) async fn whole(
    endpoint: &Arc<HttpEndpoint>,
    way: Way,
    permitted: Permitted,
    body: Vec<u8>,
    limits: BodyLimits<'_>,
    (head_by, body_by): (Instant, Instant),
    audit: &mut Audit,
) -> Result<(ResponseHead, Vec<u8>), WholeError> {
    let path = permitted.path().to_owned();
    let length = body.len() as u64;
    let BodyLimits { most, memory } = limits;
    memory.grow(length).map_err(|exceeded| error(ErrorKind::Exhausted, exceeded.to_string()))?;
    let body = Either::Left(Full::new(Bytes::from(body)));
    let request = endpoint.complete(permitted, Some(length), body, head_by).await?;
    audit.sending()?;
    let response = InFlight::start(endpoint, &way, request).head(head_by).await?;
    let head = endpoint.head(&path, &response);
    // A HEAD says how long the body would be, and has none.
    if !response.body().is_end_stream() && response.body().size_hint().lower() > most {
        return Err(Failure::too_long(most).into());
    }
    let mut download = Download { body: response.into_body(), rest: Bytes::new() };
    let mut whole = Vec::new();
    loop {
        let piece = until(body_by, download.next(usize::MAX)).await;
        match piece.map_err(|_| Failure::timed_out(true, "the rest of the answer"))?? {
            None => return Ok((head, whole)),
            Some(piece) if (whole.len() + piece.len()) as u64 > most => {
                return Err(Failure::too_long(most).into());
            }
            Some(piece) => {
                make_room(&mut whole, piece.len(), most, memory)?;
                whole.extend_from_slice(&piece);
            }
        }
    }
}

/// What whole bodies may take.
pub(super) struct BodyLimits<'a> {
    /// Bytes of the answer.
    pub(super) most: u64,
    /// Where they are counted beside those of all other calls, as long as the host has them.
    pub(super) memory: &'a mut MemoryShare,
}

/// Makes room for more of a body, which is counted before it is there.
fn make_room(whole: &mut Vec<u8>, more: usize, most: u64, memory: &mut MemoryShare) -> Result<(), Failure> {
    let needed = whole.len() + more;
    if needed <= whole.capacity() {
        return Ok(());
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let room = whole.capacity().saturating_mul(2).min(most).max(needed);
    memory
        .grow((room - whole.capacity()) as u64)
        .map_err(|exceeded| Failure::new(ErrorKind::Exhausted, true, exceeded.to_string()))?;
    whole.reserve_exact(room - whole.len());
    Ok(())
}

/// Why there is no whole answer.
pub(super) enum WholeError {
    /// The request could not be made.
    Refused(Error),
    /// It was made.
    Failed(Failure),
}

impl From<Error> for WholeError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for WholeError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl WholeError {
    pub(super) fn into_error(self, endpoint: &str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Failed(failure) => failure.into_error(endpoint),
        }
    }
}

#[cfg(test)]
mod tests {
    use streamspace_bindings::imports::http::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::call::Context;
    use crate::capability::audit::Effect;
    use crate::http_config::HttpConfig;
    use crate::limits::{Limits, MemoryBudget};
    use crate::manifest::{EndpointKind, EndpointRequest};

    const BODY: usize = 1 << 20;

    /// A server whose answers have a megabyte each, without saying so before.
    async fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut head).await.unwrap();
                }
                let body =
                    [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".as_slice(), &[b'x'; BODY]].concat();
                // Whoever is refused does not read it to its end.
                let _ = stream.write_all(&body).await;
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn whole_bodies_are_counted_together_and_given_back() {
        let asked = EndpointRequest {
            name: "api".into(),
            kind: EndpointKind::Http,
            description: String::new(),
            default: None,
            allow: vec!["* /**".into()],
        };
        let config = HttpConfig::new(server().await);
        let endpoint = Arc::new(HttpEndpoint::new(&asked, &config, Default::default()).await.unwrap());
        let context = Arc::new(Context::without_capabilities("probe".to_owned(), Limits::default()));
        let fetch = async |memory: &mut MemoryShare, body: Vec<u8>| {
            let request = Request {
                method: "POST".to_owned(),
                path: "/".to_owned(),
                headers: vec![],
                timeout_ms: None,
                ext: vec![],
            };
            let permitted = endpoint.permit(request, On::Pool).unwrap();
            let by = Instant::now() + Duration::from_secs(60);
            let mut audit =
                Audit::begin((&context, &Default::default()), "http.send", Effect::Looks, "api", "");
            let limits = BodyLimits { most: u64::MAX, memory };
            let answer = whole(&endpoint, Way::Pool, permitted, body, limits, (by, by), &mut audit).await;
            answer.map(|(_, body)| body.len()).map_err(|error| error.into_error("api"))
        };
        // Room for one answer, which grows by doubling, and half of another.
        let budget = Arc::new(MemoryBudget::new((BODY * 5 / 2) as u64));
        let (mut first, mut second) = (budget.share(), budget.share());
        assert_eq!(fetch(&mut first, vec![]).await.unwrap(), BODY);
        let refused = fetch(&mut second, vec![]).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Exhausted, "{refused:?}");
        drop((first, second));
        let mut third = budget.share();
        let refused = fetch(&mut third, vec![0; BODY * 3]).await.unwrap_err();
        assert!(
            refused.kind == ErrorKind::Exhausted && refused.ext.is_empty(),
            "nothing was sent: {refused:?}"
        );
        assert_eq!(fetch(&mut third, vec![]).await.unwrap(), BODY);
    }
}
