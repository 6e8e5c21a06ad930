//! The infrastructure's API: requests, their answers, and what its refusals mean.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use streamspace_sdk::http::{Client, RequestBuilder, Response, encode};
use streamspace_sdk::{Call, Deadline, Error, ErrorExt as _, ErrorKind, Result, host};

use crate::names;

/// The endpoint that the manifest asks for.
const ENDPOINT: &str = "api";

/// What is left of a call's time after waiting in vain, so that the answer still arrives.
const RESERVE: Duration = Duration::from_secs(1);

/// A box to be made.
#[derive(Debug, Serialize)]
pub(crate) struct NewBox<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: BTreeMap<&'a str, String>,
    pub(crate) image: &'a str,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_millis: Option<u32>,
    pub(crate) env: BTreeMap<&'a str, &'a str>,
    /// Gone with the box.
    pub(crate) disks: Vec<&'a str>,
    pub(crate) home: Option<&'a str>,
    pub(crate) services: Vec<&'a str>,
}

/// A box as the infrastructure shows it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Box {
    pub(crate) name: String,
    pub(crate) uid: u64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) services: Vec<String>,
    pub(crate) state: State,
    pub(crate) reason: String,
    pub(crate) job: Option<Job>,
    /// The highest epoch in whose name it was changed.
    pub(crate) epoch: u64,
    pub(crate) made_at_ms: u64,
    pub(crate) starts: u32,
    pub(crate) port: Option<u16>,
}

/// What a box does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Creating,
    Stopped,
    Running,
    Failed,
    Deleting,
}

/// A change that takes time.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) kind: JobKind,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobKind {
    Create,
    Start,
    Stop,
    Delete,
}

/// The infrastructure itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    pub(crate) version: String,
    pub(crate) boxes: u32,
    pub(crate) own_boxes: u32,
    pub(crate) max_boxes: Option<u32>,
}

/// A page of a listing.
#[derive(Debug, Deserialize)]
pub(crate) struct BoxPage {
    pub(crate) boxes: Vec<Box>,
    pub(crate) next: Option<String>,
}

/// A change of a box.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) gone: bool,
    #[serde(rename = "box")]
    pub(crate) found: Box,
}

/// A page of changes.
#[derive(Debug, Deserialize)]
pub(crate) struct EventPage {
    pub(crate) instance: String,
    pub(crate) events: Vec<Event>,
    pub(crate) next: u64,
    pub(crate) lost: bool,
}

/// Counters of a running box.
#[derive(Debug, Deserialize)]
pub(crate) struct Metrics {
    pub(crate) sampled_at_ms: u64,
    pub(crate) cpu_ns: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) network_rx_bytes: u64,
    pub(crate) network_tx_bytes: u64,
}

/// A line of output.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) at_ms: u64,
    pub(crate) source: String,
    pub(crate) message: String,
}

/// A page of output.
#[derive(Debug, Deserialize)]
pub(crate) struct LinePage {
    pub(crate) lines: Vec<Line>,
    pub(crate) next: u64,
    pub(crate) ended: bool,
}

/// A refusal.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalDetails,
}

#[derive(Deserialize)]
struct RefusalDetails {
    code: String,
    message: String,
}

/// The API as one call of the contract uses it.
pub(crate) struct Api<'a> {
    client: Client,
    call: &'a Call,
    deadline: Deadline,
    controller: String,
}

impl<'a> Api<'a> {
    pub(crate) fn new(call: &'a Call) -> Self {
        let deadline = Deadline::of(call);
        Self { client: Client::new(ENDPOINT).by(deadline), call, deadline, controller: host::controller_id() }
    }

    /// The call that this is for.
    pub(crate) fn call(&self) -> &Call {
        self.call
    }

    /// The id of this controller.
    pub(crate) fn controller(&self) -> &str {
        &self.controller
    }

    /// Whether a box bears this controller's marks.
    pub(crate) fn owns(&self, found: &Box) -> bool {
        found.label(names::CONTROLLER) == self.controller
            && names::of_box(found.session()).is_ok_and(|name| name == found.name)
    }

    pub(crate) fn info(&self) -> Result<Info> {
        read(self.client.get("/info").query("controller", &self.controller))
    }

    /// A box, whoever it belongs to.
    pub(crate) fn get(&self, name: &str) -> Result<Box> {
        read(self.client.get(format!("/boxes/{name}")))
    }

    /// A box of this controller. What belongs to others is not found.
    pub(crate) fn get_own(&self, name: &str) -> Result<Box> {
        let found = self.get(name)?;
        if self.owns(&found) {
            return Ok(found);
        }
        Err(Error::new(ErrorKind::NotFound, format!("the box `{name}` belongs to somebody else")))
    }

    pub(crate) fn list(&self, after: Option<&str>, limit: u32) -> Result<BoxPage> {
        let mut request = self.client.get("/boxes").query("controller", &self.controller);
        if let Some(after) = after {
            request = request.query("after", after);
        }
        if limit > 0 {
            request = request.query("limit", &limit.to_string());
        }
        read(request)
    }

    pub(crate) fn create(&self, new: &NewBox<'_>) -> Result<Box> {
        read(self.marked(self.client.post("/boxes")).json(new))
    }

    pub(crate) fn start(&self, name: &str) -> Result<Box> {
        read(self.marked(self.client.post(format!("/boxes/{name}/start"))))
    }

    pub(crate) fn stop(&self, name: &str) -> Result<Box> {
        read(self.marked(self.client.post(format!("/boxes/{name}/stop"))))
    }

    /// Accepted or done: a following read tells.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        accepted(&self.marked(self.client.delete(format!("/boxes/{name}"))).send()?)
    }

    pub(crate) fn ensure_home(&self, name: &str) -> Result<()> {
        let labels = json!({ names::CONTROLLER: self.controller });
        let request = self.client.put(format!("/homes/{name}"));
        accepted(&self.marked(request).json(&json!({ "labels": labels })).send()?)
    }

    pub(crate) fn delete_home(&self, name: &str) -> Result<()> {
        accepted(&self.marked(self.client.delete(format!("/homes/{name}"))).send()?)
    }

    /// Changes behind a position; none = where the feed stands now.
    pub(crate) fn events(&self, position: Option<(&str, u64)>, wait_ms: u32) -> Result<EventPage> {
        let mut request = self.client.get("/events").query("controller", &self.controller);
        if let Some((instance, after)) = position {
            request = request
                .query("instance", instance)
                .query("after", &after.to_string())
                .query("wait_ms", &self.wait_within(wait_ms).to_string());
        }
        read(request)
    }

    pub(crate) fn metrics(&self, name: &str) -> Result<Metrics> {
        read(self.client.get(format!("/boxes/{name}/metrics")))
    }

    pub(crate) fn lines(
        &self,
        name: &str,
        after: Option<&str>,
        tail: Option<u32>,
        limit: u32,
        wait_ms: u32,
    ) -> Result<LinePage> {
        let mut request = self
            .client
            .get(format!("/boxes/{name}/logs"))
            .query("limit", &limit.to_string())
            .query("wait_ms", &self.wait_within(wait_ms).to_string());
        if let Some(after) = after {
            request = request.query("after", after);
        }
        if let Some(tail) = tail {
            request = request.query("tail", &tail.to_string());
        }
        read(request)
    }

    /// Says on whose behalf something is changed.
    fn marked<'r>(&self, request: RequestBuilder<'r>) -> RequestBuilder<'r> {
        request
            .header("x-operation-id", encode(&self.call.operation_id))
            .header("x-generation", self.call.generation.to_string())
            .header("x-epoch", self.call.epoch.to_string())
    }

    /// A wait that ends before the call does.
    fn wait_within(&self, wait_ms: u32) -> u32 {
        wait_ms.min(self.deadline.reserving(RESERVE).remaining_ms())
    }
}

impl Box {
    /// A label; empty where there is none.
    pub(crate) fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    /// The session that it is.
    pub(crate) fn session(&self) -> &str {
        self.label(names::SESSION)
    }

    /// What is being done to it.
    pub(crate) fn under_way(&self) -> Option<JobKind> {
        self.job.as_ref().map(|job| job.kind)
    }
}

fn read<T: DeserializeOwned>(request: RequestBuilder<'_>) -> Result<T> {
    let response = request.send()?;
    accepted(&response)?;
    response.json()
}

/// Nothing if the answer is good; else what the refusal means.
fn accepted(response: &Response) -> Result<()> {
    if response.is_success() { Ok(()) } else { Err(refusal(response)) }
}

/// What a refusal means. The code decides; a status without one comes from something in between, and says nothing
/// about any object.
fn refusal(response: &Response) -> Error {
    let (code, message) = match serde_json::from_slice::<Refusal>(&response.body) {
        Ok(Refusal { error }) => (error.code, error.message),
        Err(_) => (String::new(), format!("the infrastructure answered with status {}", response.status)),
    };
    let kind = match (code.as_str(), response.status) {
        ("not_found", 404) => ErrorKind::NotFound,
        ("taken", 409) => ErrorKind::Conflict,
        // None of these changes by itself.
        ("in_use" | "not_running" | "no_image" | "too_large", 409) => ErrorKind::FailedPrecondition,
        // Another change is under way, or the home went in between: the next try looks again.
        ("busy" | "no_home", 409) => ErrorKind::Unavailable,
        (_, 400 | 422) => ErrorKind::Invalid,
        (_, 401) => ErrorKind::Unauthenticated,
        (_, 403) => ErrorKind::Denied,
        (_, 429 | 507) => ErrorKind::Exhausted,
        (_, 500..=599) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let retry_after_s = response.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    Error {
        retry_after_ms: retry_after_s.map(|seconds| seconds.saturating_mul(1000)),
        ..Error::new(kind, message)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A box of session `s1` in a state.
    pub(crate) fn found(state: State) -> Box {
        let labels = [
            (names::CONTROLLER, "ctrl-a"),
            (names::SESSION, "s1"),
            (names::USER, "alice"),
            (names::SPEC_HASH, "h1"),
            (names::EPOCH, "7"),
        ];
        Box {
            name: "ss-s1".to_owned(),
            uid: 1,
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            services: vec!["web".to_owned()],
            state,
            reason: String::new(),
            job: None,
            epoch: 7,
            made_at_ms: 1,
            starts: 1,
            port: Some(8080),
        }
    }

    fn answer(status: u16, body: &str) -> Error {
        let headers = vec![("retry-after".to_owned(), "2".to_owned())];
        refusal(&Response { status, reason: String::new(), headers, body: body.as_bytes().to_vec() })
    }

    #[test]
    fn only_the_infrastructures_own_word_says_not_found() {
        let own = answer(404, r#"{"error": {"code": "not_found", "message": "there is no box"}}"#);
        assert!(own.is_not_found() && own.message == "there is no box");
        for body in ["", "<html>404</html>", r#"{"error": {"code": "no_route", "message": ""}}"#] {
            assert!(!answer(404, body).is_not_found(), "{body}");
        }
    }

    #[test]
    fn every_refusal_says_whether_a_retry_helps() {
        let coded = |status, code: &str| {
            answer(status, &format!(r#"{{"error": {{"code": "{code}", "message": "m"}}}}"#)).kind
        };
        for (status, code, kind) in [
            (409, "taken", ErrorKind::Conflict),
            (409, "busy", ErrorKind::Unavailable),
            (409, "no_home", ErrorKind::Unavailable),
            (409, "in_use", ErrorKind::FailedPrecondition),
            (409, "no_image", ErrorKind::FailedPrecondition),
            (409, "too_large", ErrorKind::FailedPrecondition),
            (409, "not_running", ErrorKind::FailedPrecondition),
            (400, "invalid", ErrorKind::Invalid),
            (429, "exhausted", ErrorKind::Exhausted),
            (500, "stuck", ErrorKind::Unavailable),
            (503, "", ErrorKind::Unavailable),
            (302, "", ErrorKind::Internal),
        ] {
            assert_eq!(coded(status, code), kind, "{status} {code}");
        }
        assert_eq!(answer(503, "").retry_after_ms, Some(2000));
    }
}
