//! The Docker backend: a session is a container.
//!
//! | object | name | labels |
//! |---|---|---|
//! | container | `ss-<session>` | session, user, template, spec hash, epoch |
//! | volume of the session | `ss-vol.<session>.<name>` | session |
//! | home of a user | `ss-home.<key>` | home |
//! | network, shared by all | `ss-sessions` | |
//!
//! The host adds `streamspace.controller` to all of them. Every name is known before the first call, so that a lost
//! answer costs nothing: the next call finds what is there and goes on from it.

mod create;
mod delete;
mod labels;
mod list;
mod names;
mod observed;
mod report;
mod settings;
mod spec;

use streamspace_sdk::host::docker;
use streamspace_sdk::{
    Backend, Call, Info, Outcome, Report, Result, SessionEntry, SessionPage, SessionRef, SessionRequest,
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

    fn create(call: &Call, request: SessionRequest, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        create::create(call, &request)
    }

    fn get(_call: &Call, session: SessionRef) -> Result<SessionEntry> {
        let container = docker::container_inspect(ENGINE, &names::container(&session.session_id)?)?;
        Ok(observed::entry(container))
    }

    fn list(_call: &Call, cursor: Option<String>, limit: u32) -> Result<SessionPage> {
        let entries = list::all()?.into_iter().map(observed::entry).collect();
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
}

streamspace_sdk::export_backend!(Docker, manifest = "../plugin.toml");
