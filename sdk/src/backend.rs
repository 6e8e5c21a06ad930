//! The trait that a plugin implements, and its way to the generated exports.

use std::marker::PhantomData;

use crate::bindings::exports::streamspace::backend::{lifecycle, observe, plugin};
use crate::{
    AccessPoint, Call, Error, ErrorExt as _, EventPage, Info, LogPage, LogQuery, Outcome, Report, Result,
    SessionEntry, SessionPage, SessionRef, SessionRequest, Usage,
};

/// A kind of infrastructure on which sessions run.
///
/// All functions but [`describe`](Self::describe) and [`validate_config`](Self::validate_config) may be called again
/// at any time with the same arguments, also while the answer of an earlier call is lost: the result is as if they
/// had been called once. They end within `call.timeout_ms`.
pub trait Backend {
    /// Says who the plugin is. Calls nothing of the host.
    fn describe() -> Info;

    /// Says what is wrong with a configuration that already fits the schema. Calls nothing of the host.
    fn validate_config(config: &str) -> Result<()> {
        let _ = config;
        Ok(())
    }

    /// Looks at the backend. That it is unhealthy is a report, not an error.
    fn check(call: &Call) -> Result<Report>;

    /// Makes the session or finds what an earlier call made.
    fn create(call: &Call, request: SessionRequest, handle: Option<Vec<u8>>) -> Result<Outcome>;

    /// One session as the backend shows it.
    fn get(call: &Call, session: SessionRef) -> Result<SessionEntry>;

    /// A page of everything this controller owns or could adopt. Incomplete is an error.
    fn list(call: &Call, cursor: Option<String>, limit: u32) -> Result<SessionPage>;

    /// Removes the session's objects, and with `purge_home` the home of that key. Succeeds when there is nothing.
    fn delete(
        call: &Call,
        session: SessionRef,
        purge_home: Option<String>,
        handle: Option<Vec<u8>>,
    ) -> Result<Outcome>;

    /// Waits for events. A hint: only [`list`](Self::list) decides.
    fn watch(call: &Call, cursor: Option<String>, wait_ms: u32) -> Result<EventPage> {
        let _ = (call, cursor, wait_ms);
        Err(Error::unsupported("watching"))
    }

    /// Stops the session so that it can go on.
    fn hibernate(call: &Call, session: SessionRef, handle: Option<Vec<u8>>) -> Result<Outcome> {
        let _ = (call, session, handle);
        Err(Error::unsupported("hibernation"))
    }

    /// Starts a hibernated session.
    fn wake(call: &Call, session: SessionRef, handle: Option<Vec<u8>>) -> Result<Outcome> {
        let _ = (call, session, handle);
        Err(Error::unsupported("hibernation"))
    }

    /// What the session uses.
    fn metrics(call: &Call, session: SessionRef) -> Result<Usage> {
        let _ = (call, session);
        Err(Error::unsupported("measuring"))
    }

    /// A page of the session's output.
    fn logs(call: &Call, session: SessionRef, query: LogQuery) -> Result<LogPage> {
        let _ = (call, session, query);
        Err(Error::unsupported("reading logs"))
    }

    /// How a browser reaches the session.
    fn access(call: &Call, session: SessionRef, service: Option<String>) -> Result<Vec<AccessPoint>> {
        let _ = (call, session, service);
        Err(Error::unsupported("access"))
    }
}

/// Connects a [`Backend`] to the generated exports.
#[doc(hidden)]
pub struct Adapter<B>(PhantomData<B>);

impl<B: Backend> plugin::Guest for Adapter<B> {
    fn describe() -> Info {
        B::describe()
    }

    fn validate_config(config: String) -> Result<()> {
        B::validate_config(&config)
    }

    fn check(call: Call) -> Result<Report> {
        B::check(&call)
    }
}

impl<B: Backend> lifecycle::Guest for Adapter<B> {
    fn create(call: Call, request: SessionRequest, handle: Option<Vec<u8>>) -> Result<Outcome> {
        B::create(&call, request, handle)
    }

    fn get(call: Call, session: SessionRef) -> Result<SessionEntry> {
        B::get(&call, session)
    }

    fn list(call: Call, cursor: Option<String>, limit: u32) -> Result<SessionPage> {
        B::list(&call, cursor, limit)
    }

    fn watch(call: Call, cursor: Option<String>, wait_ms: u32) -> Result<EventPage> {
        B::watch(&call, cursor, wait_ms)
    }

    fn delete(
        call: Call,
        session: SessionRef,
        purge_home: Option<String>,
        handle: Option<Vec<u8>>,
    ) -> Result<Outcome> {
        B::delete(&call, session, purge_home, handle)
    }

    fn hibernate(call: Call, session: SessionRef, handle: Option<Vec<u8>>) -> Result<Outcome> {
        B::hibernate(&call, session, handle)
    }

    fn wake(call: Call, session: SessionRef, handle: Option<Vec<u8>>) -> Result<Outcome> {
        B::wake(&call, session, handle)
    }
}

impl<B: Backend> observe::Guest for Adapter<B> {
    fn metrics(call: Call, session: SessionRef) -> Result<Usage> {
        B::metrics(&call, session)
    }

    fn logs(call: Call, session: SessionRef, query: LogQuery) -> Result<LogPage> {
        B::logs(&call, session, query)
    }

    fn access(call: Call, session: SessionRef, service: Option<String>) -> Result<Vec<AccessPoint>> {
        B::access(&call, session, service)
    }
}
