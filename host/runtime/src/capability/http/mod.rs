//! HTTP for plugins: to named servers, with the host's credentials, within the granted requests.
//!
//! Pooled and pinned connections come from one connector. The pool is hyper's own, which tells whether a byte of a
//! request may have left: the contract promises that.

mod connector;
mod credential;
mod endpoint;
mod exchange;
mod failure;
mod jar;
mod open;
mod parking;
mod pinned;
mod request;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use streamspace_bindings::imports::http::{
    Chunk, Connection, Exchange, Host, HostConnection, HostExchange, Request, Response, ResponseHead,
};
use streamspace_bindings::types::{Error, ErrorKind};
use wasmtime::component::Resource;

pub(crate) use self::endpoint::HttpEndpoint;
use self::exchange::{BodyLimits, Exchange as Open, Start, Way, whole};
use self::failure::Failure;
use self::open::InCall;
pub(crate) use self::open::{OpenInCall, OpenInController};
use self::pinned::Pinned;
use self::request::without_query;
use super::audit::{Audit, Effect};
use super::deadline::{after, until};
use super::error;
use super::text::beginning;
use crate::call::CallState;

/// A connection in the hands of a call.
struct Held {
    /// The endpoint's name.
    name: String,
    endpoint: Arc<HttpEndpoint>,
    connection: Arc<Pinned>,
    /// What was parked with it.
    memo: Option<Vec<u8>>,
    _open: InCall,
}

/// Where a request goes.
struct Destination {
    endpoint: Arc<HttpEndpoint>,
    way: Way,
}

/// The host's own type behind a handle of the contract's. The table is asked with it, so that a wrong one is found.
fn behind<Own: 'static, Contract>(handle: &Resource<Contract>) -> Resource<Own> {
    Resource::new_own(handle.rep())
}

/// The component model hands out and checks handles; one that is not there is a bug of the host.
fn no_handle(failure: wasmtime::component::ResourceTableError) -> Error {
    error(ErrorKind::Internal, format!("the handle is not known: {failure}"))
}

impl CallState {
    fn http_endpoint(&self, name: &str) -> Result<Arc<HttpEndpoint>, Error> {
        self.context.http.get(name).cloned().ok_or_else(|| {
            error(ErrorKind::Denied, format!("no http endpoint `{name}` is granted to this plugin"))
        })
    }

    fn pooled(&self, name: &str) -> Result<Destination, Error> {
        Ok(Destination { endpoint: self.http_endpoint(name)?, way: Way::Pool })
    }

    fn held(&self, connection: &Resource<Connection>) -> Result<&Held, Error> {
        self.table.get(&behind::<Held, _>(connection)).map_err(no_handle)
    }

    fn pinned(&self, connection: &Resource<Connection>) -> Result<Destination, Error> {
        let held = self.held(connection)?;
        let turn = held.connection.turn().ok_or_else(|| {
            error(ErrorKind::FailedPrecondition, "another request is under way on this connection")
        })?;
        Ok(Destination { endpoint: Arc::clone(&held.endpoint), way: Way::Pinned(turn) })
    }

    fn audit(&self, operation: &'static str, endpoint: &str, request: &Request) -> Audit {
        // Methods that are safe in the words of HTTP (RFC 9110, 9.2.1).
        let effect = match request.method.as_str() {
            "GET" | "HEAD" | "OPTIONS" => Effect::Looks,
            _ => Effect::Changes,
        };
        let object = format!("{} {}", beginning(&request.method), beginning(without_query(&request.path)));
        Audit::begin((&self.context, &self.fence), operation, effect, endpoint, &object)
    }

    /// When the head of an answer must have come.
    fn head_by(&self, request: &Request) -> Instant {
        let wished = request.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        wished.map_or(self.answer_by, |wished| after(wished, self.answer_by))
    }

    async fn http_send(
        &mut self,
        operation: &'static str,
        name: &str,
        destination: Result<Destination, Error>,
        request: Request,
        body: Vec<u8>,
        max_body: u32,
    ) -> Result<Response, Error> {
        let mut audit = self.audit(operation, name, &request);
        let by = (self.head_by(&request), self.answer_by);
        // More than its memory a plugin could not take.
        let most = self.context.limits.memory.bytes().min(max_body.into());
        let mut memory = self.context.memory.share();
        let result = async {
            let Destination { endpoint, way } = destination?;
            let permitted = endpoint.permit(request, way.on())?;
            let limits = BodyLimits { most, memory: &mut memory };
            let answer = whole(&endpoint, way, permitted, body, limits, by, &mut audit).await;
            answer.map_err(|error| error.into_error(name))
        };
        let result = result.await;
        audit.end(result.as_ref().map(|(head, _)| Some(head.status)));
        result.map(|(head, body)| Response { head, body })
    }

    fn http_open(
        &mut self,
        operation: &'static str,
        name: &str,
        destination: Result<Destination, Error>,
        request: Request,
        length: Option<u64>,
    ) -> Result<Resource<Exchange>, Error> {
        let audit = self.audit(operation, name, &request);
        let head_by = self.head_by(&request);
        let prepare = || {
            let Destination { endpoint, way } = destination?;
            let permitted = endpoint.permit(request, way.on())?;
            let in_controller = match way {
                Way::Pool => Some(endpoint.open_one()?),
                // The connection is counted already.
                Way::Pinned(..) => None,
            };
            let open = (self.http_open.take()?, in_controller);
            Ok((endpoint, way, permitted, open))
        };
        match prepare() {
            Ok((endpoint, way, permitted, open)) => {
                let name = name.to_owned();
                let start = Start { name, endpoint, way, permitted, length, head_by, audit, open };
                let open = self.table.push(Open::new(start)).map_err(no_room)?;
                Ok(Resource::new_own(open.rep()))
            }
            Err(refused) => {
                audit.end(Err(&refused));
                Err(refused)
            }
        }
    }

    async fn http_connect(&mut self, name: &str, tag: Option<String>) -> Result<Held, Error> {
        let endpoint = self.http_endpoint(name)?;
        let open = self.http_open.take()?;
        let by = self.answer_by;
        let parked = match &tag {
            Some(tag) => until(by, endpoint.parking.take(tag)).await.unwrap_or_default(),
            None => None,
        };
        let (connection, memo) = match parked {
            Some((connection, memo)) => (connection, Some(memo)),
            None => {
                let connecting = Pinned::connect(&endpoint, endpoint.open_one()?);
                let connection = until(by, connecting)
                    .await
                    .unwrap_or_else(|_| Err(Failure::timed_out(false, "a connection")));
                (connection.map_err(|failure| failure.into_error(name))?, None)
            }
        };
        Ok(Held { name: name.to_owned(), endpoint, connection: Arc::new(connection), memo, _open: open })
    }
}

fn no_room(failure: wasmtime::component::ResourceTableError) -> Error {
    error(ErrorKind::Exhausted, format!("this call holds too many handles: {failure}"))
}

impl Host for CallState {
    async fn send(
        &mut self,
        endpoint: String,
        request: Request,
        body: Vec<u8>,
        max_body: u32,
    ) -> Result<Response, Error> {
        let destination = self.pooled(&endpoint);
        self.http_send("http.send", &endpoint, destination, request, body, max_body).await
    }

    async fn open(
        &mut self,
        endpoint: String,
        request: Request,
        body_length: Option<u64>,
    ) -> Result<Resource<Exchange>, Error> {
        let destination = self.pooled(&endpoint);
        self.http_open("http.exchange", &endpoint, destination, request, body_length)
    }

    async fn connect(
        &mut self,
        endpoint: String,
        tag: Option<String>,
    ) -> Result<Resource<Connection>, Error> {
        let audit = Audit::begin((&self.context, &self.fence), "http.connect", Effect::Looks, &endpoint, "");
        let result = match self.http_connect(&endpoint, tag).await {
            Ok(held) => self.table.push(held).map_err(no_room),
            Err(failure) => Err(failure),
        };
        audit.end(result.as_ref().map(|_| None));
        result.map(|held| Resource::new_own(held.rep()))
    }
}

impl HostExchange for CallState {
    async fn write(&mut self, exchange: Resource<Exchange>, bytes: Vec<u8>) -> Result<(), Error> {
        self.table.get_mut(&behind::<Open, _>(&exchange)).map_err(no_handle)?.write(&bytes).await
    }

    async fn finish(&mut self, exchange: Resource<Exchange>) -> Result<ResponseHead, Error> {
        self.table.get_mut(&behind::<Open, _>(&exchange)).map_err(no_handle)?.finish().await
    }

    async fn read(&mut self, exchange: Resource<Exchange>, max: u32, wait_ms: u32) -> Result<Chunk, Error> {
        let (wait, at_last) = (Duration::from_millis(wait_ms.into()), self.answer_by);
        let open = self.table.get_mut(&behind::<Open, _>(&exchange)).map_err(no_handle)?;
        open.read(max, wait, at_last).await
    }

    async fn drop(&mut self, exchange: Resource<Exchange>) -> wasmtime::Result<()> {
        self.table.delete(behind::<Open, _>(&exchange))?;
        Ok(())
    }
}

impl HostConnection for CallState {
    async fn memo(&mut self, connection: Resource<Connection>) -> Option<Vec<u8>> {
        self.held(&connection).ok()?.memo.clone()
    }

    async fn send(
        &mut self,
        connection: Resource<Connection>,
        request: Request,
        body: Vec<u8>,
        max_body: u32,
    ) -> Result<Response, Error> {
        let name = self.held(&connection)?.name.clone();
        let destination = self.pinned(&connection);
        self.http_send("http.connection-send", &name, destination, request, body, max_body).await
    }

    async fn open(
        &mut self,
        connection: Resource<Connection>,
        request: Request,
        body_length: Option<u64>,
    ) -> Result<Resource<Exchange>, Error> {
        let name = self.held(&connection)?.name.clone();
        let destination = self.pinned(&connection);
        self.http_open("http.connection-exchange", &name, destination, request, body_length)
    }

    async fn tls_server_end_point(&mut self, connection: Resource<Connection>) -> Option<Vec<u8>> {
        self.held(&connection).ok()?.connection.end_point()
    }

    async fn park(&mut self, connection: Resource<Connection>, tag: String, memo: Vec<u8>) {
        let Ok(held) = self.table.delete(behind::<Held, _>(&connection)) else { return };
        let Held { endpoint, connection, .. } = held;
        // With a request still under way on it, it is in doubt, and is closed with that.
        if let Some(connection) = Arc::into_inner(connection) {
            endpoint.parking.park(tag, connection, memo);
        }
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(behind::<Held, _>(&connection))?;
        Ok(())
    }
}
