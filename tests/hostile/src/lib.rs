//! A plugin that misbehaves on demand, for the tests of the sandbox.
//!
//! What it does in `create` is the session's image; in `delete`, `hibernate` and `wake` the handle; in the functions
//! that only look, the session's id or the cursor; and in `check` and `validate-config` the configuration. A word it
//! does not know is a good call.

mod greed;
mod reach;
mod traps;

use std::sync::atomic::{AtomicU32, Ordering};

use streamspace_sdk::{
    Backend, Call, Capabilities, Capacity, Error, ErrorExt as _, ErrorKind, Health, Info, Outcome, Ownership,
    Phase, Report, Result, SessionEntry, SessionPage, SessionRef, SessionRequest, SessionState, Usage, host,
};

/// The endpoint that the manifest asks for.
const ENGINE: &str = "engine";

const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "validate": { "description": "What to do in validate-config.", "type": "string" },
    "check": { "description": "What to do in check.", "type": "string" }
  }
}"#;

/// Calls that this instance has seen. The contract gives every call an instance of its own.
static CALLS: AtomicU32 = AtomicU32::new(0);

struct Hostile;

impl Backend for Hostile {
    fn describe() -> Info {
        Info {
            name: "hostile".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend_type: "hostile".to_owned(),
            config_schema: SCHEMA.to_owned(),
            ext: Vec::new(),
        }
    }

    fn validate_config(config: &str) -> Result<()> {
        act(&setting(config, "validate")).map(drop)
    }

    fn check(_call: &Call) -> Result<Report> {
        let config: String = host::config::<std::collections::BTreeMap<String, String>>()
            .map(|config| config.get("check").cloned().unwrap_or_default())?;
        act(&config)?;
        Ok(Report {
            health: Health::Healthy,
            message: String::new(),
            backend_version: String::new(),
            current_sessions: 0,
            capabilities: Capabilities {
                hibernation: true,
                gpu: false,
                persistent_storage: false,
                networking: false,
                metrics: true,
                logs: false,
                watch: false,
                ext: Vec::new(),
            },
            capacity: Capacity {
                max_sessions: None,
                total_memory_bytes: None,
                available_memory_bytes: None,
                total_cpu_millis: None,
                available_cpu_millis: None,
                total_storage_bytes: None,
                available_storage_bytes: None,
            },
            labels: Vec::new(),
            ext: Vec::new(),
        })
    }

    fn create(_call: &Call, request: SessionRequest, _handle: Option<Vec<u8>>) -> Result<Outcome> {
        act(&request.spec.image)
    }

    fn get(_call: &Call, session: SessionRef) -> Result<SessionEntry> {
        act(&session.session_id)?;
        Ok(greed::entry(session.session_id))
    }

    fn list(_call: &Call, cursor: Option<String>, _limit: u32) -> Result<SessionPage> {
        let cursor = cursor.unwrap_or_default();
        if let Some(page) = greed::page(&cursor) {
            return Ok(page);
        }
        act(&cursor)?;
        Ok(SessionPage { entries: Vec::new(), next_cursor: None, ext: Vec::new() })
    }

    fn delete(
        _call: &Call,
        _session: SessionRef,
        _purge_home: Option<String>,
        handle: Option<Vec<u8>>,
    ) -> Result<Outcome> {
        act(&word(handle))
    }

    fn hibernate(_call: &Call, _session: SessionRef, handle: Option<Vec<u8>>) -> Result<Outcome> {
        act(&word(handle))
    }

    fn wake(_call: &Call, _session: SessionRef, handle: Option<Vec<u8>>) -> Result<Outcome> {
        act(&word(handle))
    }

    fn metrics(_call: &Call, session: SessionRef) -> Result<Usage> {
        act(&session.session_id)?;
        Err(Error::unsupported("measuring"))
    }
}

/// Does what the word says. Whatever comes back of it is what the host let it do.
fn act(word: &str) -> Result<Outcome> {
    match word {
        "panic" => traps::panic(),
        "abort" => traps::abort(),
        "exit" => traps::exit(),
        "stack-overflow" => traps::overflow_the_stack(),
        "index" => traps::index(),
        "wild-read" => traps::read_far_outside(),
        "wild-write" => traps::write_far_outside(),
        "chat-and-panic" => traps::chat_and_panic(),

        "loop" => greed::spin(),
        "grow" => greed::grow(),
        "huge-allocation" => greed::allocate_at_once(),
        "leak" => greed::leak(),
        "flood-log" => greed::flood_log(),
        "forge-log" => greed::forge_log(),
        "long-log" => greed::log_long_fields(),
        "fill-state" => greed::fill_state(),
        "fill-state-in-crumbs" => greed::fill_state_in_crumbs(),
        "read-state" => greed::read_state(),
        "loop-in-the-cache" => greed::loop_in_the_cache(),
        "loop-in-the-engine" => greed::loop_in_the_engine(),
        "sleep" => greed::sleep(),
        "naps" => greed::nap(),
        "handle-at-the-limit" => Ok(greed::handle(64 << 10)),
        "handle-beyond-the-limit" => Ok(greed::handle((64 << 10) + 1)),
        "enormous-handle" => Ok(greed::handle(24 << 20)),
        "enormous-node-id" => Ok(Outcome::Done(state(String::new(), "n".repeat(24 << 20)))),
        "enormous-error" => Err(greed::enormous_error()),

        "other-endpoint" => reach::other_endpoint(),
        "other-secret" => reach::other_secret(),
        "foreign-container" => reach::foreign_container(),
        "foreign-volume" => reach::foreign_volume(),
        "path-as-name" => reach::path_as_name(),
        "path-as-image" => reach::path_as_image(),
        "foreign-label" => reach::foreign_label(),
        "foreign-label-on-a-container" => reach::foreign_label_on_a_container(),
        "unknown-wish" => reach::unknown_wish(),
        "unknown-profile" => reach::unknown_profile(),
        "remove-what-is-not-ours" => reach::remove_what_is_not_ours(),
        "ask-the-engine" => reach::ask_the_engine(),
        "files" => reach::files(),
        "environment" => reach::environment(),
        "processes" => reach::processes(),
        _ => Ok(good()),
    }
}

/// A session that runs. Its node id is the number of calls that this instance has seen.
fn good() -> Outcome {
    let seen = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    Outcome::Done(state(String::new(), seen.to_string()))
}

fn state(session_id: String, node_id: String) -> SessionState {
    SessionState {
        session_id,
        node_id: Some(node_id),
        phase: Phase::Running,
        conditions: Vec::new(),
        last_activity_ms: None,
        usage: None,
        ext: Vec::new(),
    }
}

/// The state of a listing's entry.
fn listed(session_id: String) -> SessionEntry {
    SessionEntry {
        state: state(session_id, "1".to_owned()),
        user_id: String::new(),
        spec_hash: String::new(),
        spec: None,
        wish: None,
        ownership: Ownership::Owned,
        external_ref: None,
        epoch: 0,
        created_at_ms: None,
        ext: Vec::new(),
    }
}

fn word(handle: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&handle.unwrap_or_default()).into_owned()
}

fn setting(config: &str, name: &str) -> String {
    host::parse_config::<std::collections::BTreeMap<String, String>>(config)
        .ok()
        .and_then(|mut config| config.remove(name))
        .unwrap_or_default()
}

/// The end of something that must not have been possible, or the host's reason why it was not.
fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::FailedPrecondition, message)
}

streamspace_sdk::export_backend!(Hostile, manifest = "../plugin.toml");
