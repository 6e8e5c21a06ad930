//! A plugin that requests what a test tells it: the session's id in `get` is a list of steps in JSON, and the node
//! id of the answer is the list of what came of them.

mod steps;

use streamspace_sdk::{
    Backend, Call, Error, ErrorExt as _, Info, Outcome, Ownership, Phase, Report, Result,
    SessionEntry, SessionPage, SessionRef, SessionRequest, SessionState,
};

struct Probe;

impl Backend for Probe {
    fn describe() -> Info {
        Info {
            name: "http-probe".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend_type: "http-probe".to_owned(),
            config_schema: r#"{"type": "object"}"#.to_owned(),
            ext: Vec::new(),
        }
    }

    fn check(_call: &Call) -> Result<Report> {
        Err(Error::unsupported("looking at the backend"))
    }

    fn create(_call: &Call, _request: SessionRequest, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        Err(Error::unsupported("making sessions"))
    }

    fn get(_call: &Call, session: SessionRef) -> Result<SessionEntry> {
        let results = steps::run(&session.session_id)?;
        let state = SessionState {
            session_id: String::new(),
            node_id: Some(results),
            phase: Phase::Running,
            conditions: Vec::new(),
            last_activity_ms: None,
            usage: None,
            ext: Vec::new(),
        };
        Ok(SessionEntry {
            state,
            user_id: String::new(),
            spec_hash: String::new(),
            spec: None,
            wish: None,
            ownership: Ownership::Owned,
            external_ref: None,
            epoch: 0,
            created_at_ms: None,
            ext: Vec::new(),
        })
    }

    fn list(_call: &Call, _cursor: Option<String>, _limit: u32) -> Result<SessionPage> {
        Err(Error::unsupported("listing"))
    }

    fn delete(
        _call: &Call,
        _session: SessionRef,
        _purge_home: Option<String>,
        _handle: Option<Vec<u8>>,
    ) -> Result<Outcome> {
        Err(Error::unsupported("removing sessions"))
    }
}

streamspace_sdk::export_backend!(Probe, manifest = "../plugin.toml");
