//! The simulated backend: a session is a box. It is the plugin to copy when you write your own.
//!
//! | object | name | labels |
//! |---|---|---|
//! | box | `ss-<session>` | controller, session, user, template, spec hash, epoch, generation |
//! | home of a user | `ss-home.<key>` | controller |
//!
//! How a plugin stays right when answers are lost, calls come twice and others act at the same time:
//!
//! - Names are decided before the first request, so that whatever an earlier try left is found again.
//! - Every step looks first and then does the one next thing; nothing has to be remembered. The handle of work that
//!   goes on is therefore a mere word, behind the version of its form.
//! - What cannot be done is refused, or told in a condition; it is never left out in silence.
//! - Only the infrastructure's own "not found" counts as gone. Whatever else goes wrong is an error.
//! - What does not bear this controller's label is somebody else's: not shown, not changed, not removed.
//!
//! One module has the requests ([`api`]), one knows what a box means ([`observed`]); the others are one use case each.

mod api;
mod create;
mod delete;
mod list;
mod names;
mod observe;
mod observed;
mod power;
mod report;
mod settings;

use streamspace_sdk::{
    AccessPoint, Backend, Call, EventPage, Info, LogPage, LogQuery, Outcome, Report, Result, SessionEntry,
    SessionPage, SessionRef, SessionRequest, Usage,
};

use crate::api::Api;

struct Simulated;

impl Backend for Simulated {
    fn describe() -> Info {
        Info {
            name: "simulated".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend_type: "simulated".to_owned(),
            config_schema: settings::SCHEMA.to_owned(),
            ext: Vec::new(),
        }
    }

    fn validate_config(config: &str) -> Result<()> {
        settings::Settings::parse(config).map(drop)
    }

    fn check(call: &Call) -> Result<Report> {
        report::check(&Api::new(call))
    }

    fn create(call: &Call, request: SessionRequest, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        create::create(&Api::new(call), &request)
    }

    fn get(call: &Call, session: SessionRef) -> Result<SessionEntry> {
        let found = Api::new(call).get_own(&names::of_box(&session.session_id)?)?;
        Ok(observed::entry(&found))
    }

    fn list(call: &Call, cursor: Option<String>, limit: u32) -> Result<SessionPage> {
        list::page(&Api::new(call), cursor.as_deref(), limit)
    }

    fn watch(call: &Call, cursor: Option<String>, wait_ms: u32) -> Result<EventPage> {
        list::watch(&Api::new(call), cursor.as_deref(), wait_ms)
    }

    fn delete(
        call: &Call,
        session: SessionRef,
        purge_home: Option<String>,
        _handle: Option<Vec<u8>>,
    ) -> Result<Outcome> {
        delete::delete(&Api::new(call), &session.session_id, purge_home.as_deref())
    }

    fn hibernate(call: &Call, session: SessionRef, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        power::hibernate(&Api::new(call), &session.session_id)
    }

    fn wake(call: &Call, session: SessionRef, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        power::wake(&Api::new(call), &session.session_id)
    }

    fn metrics(call: &Call, session: SessionRef) -> Result<Usage> {
        observe::metrics(&Api::new(call), &session.session_id)
    }

    fn logs(call: &Call, session: SessionRef, query: LogQuery) -> Result<LogPage> {
        observe::logs(&Api::new(call), &session.session_id, &query)
    }

    fn access(call: &Call, session: SessionRef, service: Option<String>) -> Result<Vec<AccessPoint>> {
        observe::access(&Api::new(call), &session.session_id, service.as_deref())
    }
}

streamspace_sdk::export_backend!(Simulated, manifest = "../plugin.toml");
