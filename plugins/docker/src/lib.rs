//! The Docker backend: a session is a container.
//!
//! | object | name | labels |
//! |---|---|---|
//! | container | `ss-<session>` | session, user, template, spec hash, epoch |
//! | volume of the session | `ss-vol.<session>.<name>` | session |
//! | home of a user | `ss-home.<key>` | home |
//! | network, shared by all | `ss-sessions` | |
//!
//! The host adds `streamspace.controller` to all of them, and to containers `streamspace.name`: one that somebody renames
//! is found under its name all the same. Every name is known before the first call, so that a lost
//! answer costs nothing: the next call finds what is there and goes on from it.
//!
//! | seen in the engine | phase | why (condition `Ready`) |
//! |---|---|---|
//! | `created` | pending, failed | `NotStarted`; `StartFailed` in the engine's words |
//! | `running` | running | `Running`, or `Starting`, `Unhealthy` by its health check |
//! | `running`, `restarting` for the third time within seconds | failed | `OOMKilled`, `CrashLoop` |
//! | `restarting` | pending | `Restarting`, with how it ended |
//! | `paused`, `removing` | pending | `Paused`, `Removing` |
//! | `exited` | hibernated | `Stopped`, by us or by hand; `StartFailed` after a wake in vain |
//! | `dead` | failed | `Dead` |
//!
//! Containers are made with the policy `unless-stopped`, so that one which ends by itself is started again, and one that
//! is `exited` was stopped by somebody. Hibernating stops a container and keeps its files; /tmp, where desktops leave
//! their locks, is in memory and new at every start. Ports are published on the loopback address only, and are other
//! ones after every start.

mod create;
mod delete;
mod ends;
mod handles;
mod hibernate;
mod labels;
mod list;
mod names;
mod observe;
mod observed;
mod report;
mod services;
mod settings;
mod spec;

use streamspace_sdk::{
    AccessPoint, Backend, Call, EventPage, Info, LogPage, LogQuery, Outcome, Report, Result, SessionEntry,
    SessionPage, SessionRef, SessionRequest, Usage,
};

/// The endpoint that the manifest asks for.
const ENGINE: &str = "engine";

struct Docker;

impl Backend for Docker {
    fn describe() -> Info {
        Info {
            name: "docker".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend_type: "docker".to_owned(),
            config_schema: settings::SCHEMA.to_owned(),
            ext: Vec::new(),
        }
    }

    fn validate_config(config: &str) -> Result<()> {
        settings::Settings::parse(config).map(drop)
    }

    fn check(_call: &Call) -> Result<Report> {
        report::check()
    }

    fn create(call: &Call, request: SessionRequest, handle: Option<Vec<u8>>) -> Result<Outcome> {
        create::create(call, &request, handle.as_deref())
    }

    fn get(_call: &Call, session: SessionRef) -> Result<SessionEntry> {
        Ok(observed::entry(ends::inspect(&names::container(&session.session_id)?)?))
    }

    fn list(_call: &Call, cursor: Option<String>, limit: u32) -> Result<SessionPage> {
        let entries = list::seen()?.into_iter().map(observed::entry).collect();
        Ok(list::page(entries, cursor.as_deref(), limit))
    }

    fn delete(
        _call: &Call,
        session: SessionRef,
        purge_home: Option<String>,
        _handle: Option<Vec<u8>>,
    ) -> Result<Outcome> {
        delete::delete(&session, purge_home.as_deref())
    }

    fn watch(call: &Call, cursor: Option<String>, wait_ms: u32) -> Result<EventPage> {
        observe::watch(call, cursor.as_deref(), wait_ms)
    }

    fn hibernate(call: &Call, session: SessionRef, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        hibernate::hibernate(call, &session)
    }

    fn wake(_call: &Call, session: SessionRef, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        hibernate::wake(&session)
    }

    fn metrics(_call: &Call, session: SessionRef) -> Result<Usage> {
        observe::metrics(&session)
    }

    fn logs(call: &Call, session: SessionRef, query: LogQuery) -> Result<LogPage> {
        observe::logs(call, &session, query)
    }

    fn access(_call: &Call, session: SessionRef, service: Option<String>) -> Result<Vec<AccessPoint>> {
        services::access(&session, service.as_deref())
    }
}

streamspace_sdk::export_backend!(Docker, manifest = "../plugin.toml");
