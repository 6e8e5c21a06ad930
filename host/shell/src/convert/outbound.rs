//! From what the plugin answers to a response.

use prost_types::Timestamp;
use streamspace_proto::controller::v1 as proto;
use streamspace_runtime::contract::lifecycle::{
    Change, EventPage, Ownership, SessionEntry, SessionEvent, Wish,
};
use streamspace_runtime::contract::observe::{self, Target};
use streamspace_runtime::contract::plugin::{Capacity, Health, Report};
use streamspace_runtime::contract::types::{Condition, ConditionStatus, Outcome, Phase, SessionState, Usage};
use tonic::Status;

use crate::status::internal;

/// The parts of a mutation's answer, which each response arranges in its own way.
pub(crate) struct Mutation {
    pub(crate) node_id: String,
    pub(crate) phase: String,
    pub(crate) message: String,
    pub(crate) handle: Vec<u8>,
    pub(crate) in_progress: bool,
    pub(crate) poll_after: Option<prost_types::Duration>,
    pub(crate) conditions: Vec<proto::Condition>,
}

/// A mutation's outcome.
pub(crate) fn mutation(outcome: Outcome) -> Mutation {
    match outcome {
        Outcome::Done(state) => Mutation {
            node_id: state.node_id.unwrap_or_default(),
            phase: phase(state.phase).to_owned(),
            message: explanation(&state.conditions),
            handle: Vec::new(),
            in_progress: false,
            poll_after: None,
            conditions: state.conditions.into_iter().map(condition).collect(),
        },
        Outcome::InProgress(progress) => Mutation {
            node_id: String::new(),
            phase: phase(Phase::Pending).to_owned(),
            message: progress.message,
            handle: progress.handle,
            in_progress: true,
            poll_after: Some(duration_ms(progress.poll_after_ms)),
            conditions: progress.conditions.into_iter().map(condition).collect(),
        },
    }
}

/// A delete's outcome. A plugin that is done says `terminated`: with any other phase it has seen the session after all,
/// and whoever took that for a success would forget one that goes on.
pub(crate) fn deletion(session_id: String, outcome: Outcome) -> Result<proto::DeleteSessionResponse, Status> {
    if let Outcome::Done(state) = &outcome
        && state.phase != Phase::Terminated
    {
        let seen = phase(state.phase);
        return Err(internal(&format!(
            "the plugin says that it is done with the delete, and shows phase {seen}"
        )));
    }
    let Mutation { message, handle, in_progress, poll_after, conditions, .. } = mutation(outcome);
    Ok(proto::DeleteSessionResponse {
        session_id,
        success: !in_progress,
        message,
        handle,
        in_progress,
        poll_after,
        conditions,
    })
}

/// What a person should know of conditions that do not hold.
fn explanation(conditions: &[Condition]) -> String {
    let unmet = conditions.iter().filter(|condition| condition.status != ConditionStatus::Yes);
    unmet
        .map(|condition| condition.message.as_str())
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Hibernated => "Hibernated",
        Phase::Failed => "Failed",
        Phase::Terminated => "Terminated",
    }
}

/// A session's state. There is no URL: how it is reached is asked for every connection.
pub(crate) fn status(state: SessionState) -> proto::SessionStatusResponse {
    proto::SessionStatusResponse {
        session_id: state.session_id,
        phase: phase(state.phase).to_owned(),
        url: String::new(),
        node_id: state.node_id.unwrap_or_default(),
        last_activity: state.last_activity_ms.map(timestamp_ms),
        resource_usage: state.usage.as_ref().map(resource_usage),
        conditions: state.conditions.into_iter().map(condition).collect(),
    }
}

fn condition(condition: Condition) -> proto::Condition {
    proto::Condition {
        r#type: condition.kind,
        status: match condition.status {
            ConditionStatus::Yes => "True",
            ConditionStatus::No => "False",
            ConditionStatus::Unknown => "Unknown",
        }
        .to_owned(),
        reason: condition.reason,
        message: condition.message,
        // When it changed only the one who keeps conditions can tell.
        last_transition_time: None,
    }
}

/// A session of a listing.
pub(crate) fn entry(entry: SessionEntry) -> proto::SessionEntry {
    proto::SessionEntry {
        status: Some(status(entry.state)),
        spec: None,
        wish: match entry.wish {
            None => "",
            Some(Wish::Running) => "running",
            Some(Wish::Hibernated) => "hibernated",
            Some(Wish::Terminated) => "terminated",
        }
        .to_owned(),
        ownership: match entry.ownership {
            Ownership::Owned => proto::Ownership::Owned,
            Ownership::Adoptable => proto::Ownership::Adoptable,
        }
        .into(),
        external_ref: entry.external_ref.unwrap_or_default(),
        user_id: entry.user_id,
    }
}

/// What a session uses. A rate that only two samples can tell is left to the caller.
pub(crate) fn metrics(session_id: String, usage: Usage) -> proto::SessionMetricsResponse {
    proto::SessionMetricsResponse {
        session_id,
        usage: Some(resource_usage(&usage)),
        custom_metrics: usage.ext.iter().cloned().collect(),
        sampled_at: Some(timestamp_ms(usage.sampled_at_ms)),
        counters: Some(proto::ResourceCounters {
            cpu_ns: usage.cpu_ns,
            network_rx_bytes: usage.network_rx_bytes,
            network_tx_bytes: usage.network_tx_bytes,
            disk_read_bytes: usage.disk_read_bytes,
            disk_write_bytes: usage.disk_write_bytes,
        }),
    }
}

fn resource_usage(usage: &Usage) -> proto::ResourceUsage {
    let percent = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
        (Some(part), Some(whole)) if whole > 0 => (part as f64 * 100.0 / whole as f64) as f32,
        _ => 0.0,
    };
    proto::ResourceUsage {
        memory: usage.memory_bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
        cpu: usage.cpu_millis.map(|millis| format!("{millis}m")).unwrap_or_default(),
        memory_percent: percent(usage.memory_bytes, usage.memory_limit_bytes),
        cpu_percent: percent(usage.cpu_millis.map(u64::from), usage.cpu_limit_millis.map(u64::from)),
    }
}

/// A line of output.
pub(crate) fn log_entry(entry: observe::LogEntry) -> proto::LogEntry {
    proto::LogEntry {
        timestamp: entry.time_ns.map(timestamp_ns),
        message: entry.message,
        stream: entry.source,
        cursor: entry.cursor,
    }
}

/// A page of events. Only the last message bears the page's cursor: behind any other one nobody could go on.
pub(crate) fn session_events(page: EventPage) -> Vec<proto::SessionEvent> {
    let resync = || proto::SessionEvent { resync: true, ..Default::default() };
    let lost = page.resync.then(resync);
    let mut events: Vec<_> =
        lost.into_iter().chain(page.events.into_iter().map(|event| session_event(event, resync))).collect();
    if let Some(last) = events.last_mut() {
        last.cursor = page.cursor;
    }
    events
}

fn session_event(event: SessionEvent, resync: impl Fn() -> proto::SessionEvent) -> proto::SessionEvent {
    let named = |session_id| proto::SessionStatusResponse { session_id, ..Default::default() };
    match event.change {
        Change::Seen(entry) => {
            proto::SessionEvent { status: Some(status(entry.state)), ..Default::default() }
        }
        // An object that bears no id of ours: only a listing can show it.
        _ if event.session_id.is_empty() => resync(),
        Change::Touched => {
            proto::SessionEvent { status: Some(named(event.session_id)), ..Default::default() }
        }
        Change::Gone => {
            proto::SessionEvent { status: Some(named(event.session_id)), gone: true, ..Default::default() }
        }
    }
}

/// What the controller can do.
pub(crate) fn capabilities(backend_type: &str, report: Report) -> proto::CapabilitiesResponse {
    proto::CapabilitiesResponse {
        controller_type: backend_type.to_owned(),
        version: report.backend_version,
        supports_hibernation: report.capabilities.hibernation,
        supports_gpu: report.capabilities.gpu,
        supports_persistent_storage: report.capabilities.persistent_storage,
        supports_networking: report.capabilities.networking,
        capacity: Some(capacity(&report.capacity)),
        labels: report.labels.into_iter().collect(),
        supports_metrics: report.capabilities.metrics,
        supports_logs: report.capabilities.logs,
        supports_watch: report.capabilities.watch,
    }
}

fn capacity(capacity: &Capacity) -> proto::ResourceCapacity {
    let bytes = |value: Option<u64>| value.map(|bytes| bytes.to_string()).unwrap_or_default();
    let millis = |value: Option<u64>| value.map(|millis| format!("{millis}m")).unwrap_or_default();
    proto::ResourceCapacity {
        max_sessions: capacity.max_sessions.map_or(0, |max| i32::try_from(max).unwrap_or(i32::MAX)),
        total_memory: bytes(capacity.total_memory_bytes),
        total_cpu: millis(capacity.total_cpu_millis),
        total_storage: bytes(capacity.total_storage_bytes),
        available_memory: bytes(capacity.available_memory_bytes),
        available_cpu: millis(capacity.available_cpu_millis),
        available_storage: bytes(capacity.available_storage_bytes),
    }
}

/// Whether the controller reaches its backend.
pub(crate) fn health(report: &Report) -> proto::HealthCheckResponse {
    proto::HealthCheckResponse {
        status: match report.health {
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
        .to_owned(),
        message: report.message.clone(),
        current_sessions: i32::try_from(report.current_sessions).unwrap_or(i32::MAX),
    }
}

/// A controller that answers without asking its backend.
pub(crate) fn unhealthy(message: String) -> proto::HealthCheckResponse {
    proto::HealthCheckResponse { status: "unhealthy".to_owned(), message, current_sessions: 0 }
}

/// A way into a session, as far as it can be told without a tunnel of the host's own.
pub(crate) fn access_point(point: observe::AccessPoint) -> Option<proto::AccessPoint> {
    let target = match point.target {
        Target::Tcp(observe::TcpTarget { endpoint: None, host, port }) => {
            proto::access_point::Target::Tcp(proto::TcpTarget { host, port: port.into() })
        }
        Target::Http(target) => proto::access_point::Target::Http(proto::HttpTarget {
            base_url: target.base_url,
            headers: target.headers.into_iter().collect(),
            identity: server_identity(&point.ext),
        }),
        Target::Tcp(_) | Target::Websocket(_) | Target::Socket(_) => return None,
    };
    let (username, password) = point.login.map(|login| (login.username, login.password)).unwrap_or_default();
    Some(proto::AccessPoint { service: point.service, target: Some(target), username, password })
}

/// What the further facts of an access point say of its server; the contract names them at `http-target`.
fn server_identity(ext: &[(String, String)]) -> Option<proto::ServerIdentity> {
    let fact = |name: &str| {
        let found = ext.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let identity = proto::ServerIdentity {
        ca: fact("tls-ca"),
        sha256: fact("tls-sha256"),
        server_name: fact("tls-server-name"),
    };
    Some(identity).filter(|identity| *identity != proto::ServerIdentity::default())
}

fn duration_ms(ms: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::from(ms / 1000), nanos: (ms % 1000) as i32 * 1_000_000 }
}

fn timestamp_ms(ms: u64) -> Timestamp {
    timestamp_ns(ms.saturating_mul(1_000_000))
}

fn timestamp_ns(ns: u64) -> Timestamp {
    const SECOND: u64 = 1_000_000_000;
    // Both fit: 2^64 ns are 585 years.
    Timestamp { seconds: (ns / SECOND) as i64, nanos: (ns % SECOND) as i32 }
}

#[cfg(test)]
mod tests {
    use streamspace_runtime::contract::types::Progress;

    use super::*;

    fn event(session_id: &str, change: Change) -> SessionEvent {
        SessionEvent { session_id: session_id.into(), external_ref: None, change }
    }

    #[test]
    fn a_delete_succeeds_only_when_the_session_is_seen_to_be_gone() {
        let done = |phase| {
            Outcome::Done(SessionState {
                session_id: "s1".into(),
                node_id: None,
                phase,
                conditions: vec![],
                last_activity_ms: None,
                usage: None,
                ext: vec![],
            })
        };
        assert!(deletion("s1".into(), done(Phase::Terminated)).unwrap().success);
        for seen in [Phase::Pending, Phase::Running, Phase::Hibernated, Phase::Failed] {
            let status = deletion("s1".into(), done(seen)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Internal);
            assert!(status.message().contains(phase(seen)), "{status:?}");
        }
        let goes_on = deletion(
            "s1".into(),
            Outcome::InProgress(Progress {
                handle: vec![1],
                poll_after_ms: 1,
                message: String::new(),
                conditions: vec![],
                ext: vec![],
            }),
        );
        let goes_on = goes_on.unwrap();
        assert_eq!((goes_on.success, goes_on.in_progress, goes_on.handle), (false, true, vec![1]));
    }

    #[test]
    fn facts_about_a_server_reach_the_gateway() {
        let point = |ext: &[(&str, &str)]| {
            let target = observe::HttpTarget { base_url: "https://a/b".into(), headers: vec![] };
            let ext = ext.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let point = observe::AccessPoint {
                service: "web".into(),
                target: Target::Http(target),
                login: None,
                ext,
            };
            let Some(proto::access_point::Target::Http(target)) = access_point(point).unwrap().target else {
                panic!("not what was given")
            };
            target.identity
        };
        assert_eq!(point(&[("other", "x")]), None);
        let identity = point(&[("tls-sha256", "ab"), ("tls-ca", "pem"), ("tls-server-name", "n")]);
        let expected =
            proto::ServerIdentity { ca: "pem".into(), sha256: "ab".into(), server_name: "n".into() };
        assert_eq!(identity, Some(expected));
    }

    #[test]
    fn only_the_last_event_of_a_page_bears_its_cursor() {
        let page = EventPage {
            events: vec![event("a", Change::Touched), event("", Change::Gone), event("b", Change::Gone)],
            cursor: "7".into(),
            resync: true,
            ext: vec![],
        };
        let seen: Vec<_> = session_events(page)
            .into_iter()
            .map(|event| {
                let status = event.status.unwrap_or_default();
                assert!(status.phase.is_empty(), "a get tells");
                (status.session_id, event.resync, event.gone, event.cursor)
            })
            .collect();
        let row = |id: &str, resync, gone, cursor: &str| (id.to_owned(), resync, gone, cursor.to_owned());
        assert_eq!(
            seen,
            [
                row("", true, false, ""),
                row("a", false, false, ""),
                row("", true, false, ""),
                row("b", false, true, "7"),
            ]
        );
        let quiet = EventPage { events: vec![], cursor: "7".into(), resync: false, ext: vec![] };
        assert!(session_events(quiet).is_empty());
    }
}
