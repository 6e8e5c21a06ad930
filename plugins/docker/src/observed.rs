//! From a container to what a session is seen to be.

use streamspace_sdk::host::docker::{Container, ContainerHealth, ContainerState};
use streamspace_sdk::{
    Condition, ConditionStatus, Ownership, Phase, SessionEntry, SessionPage, SessionState,
};

use crate::labels;

/// Restarts by the engine after which a session counts as broken and not as unlucky.
const CRASH_LOOP: u32 = 3;

/// A container as a session.
pub(crate) fn entry(container: Container) -> SessionEntry {
    let label = |key| labels::value(&container.labels, key).unwrap_or_default().to_owned();
    SessionEntry {
        user_id: label(labels::USER),
        spec_hash: label(labels::SPEC_HASH),
        epoch: label(labels::EPOCH).parse().unwrap_or_default(),
        spec: None,
        wish: None,
        ownership: Ownership::Owned,
        external_ref: None,
        created_at_ms: container.created_at_ms,
        ext: Vec::new(),
        state: state(&container),
    }
}

/// A container as a session's state.
pub(crate) fn state(container: &Container) -> SessionState {
    let (phase, ready) = phase(container);
    let mut conditions = vec![ready];
    if let Some(fields) = labels::value(&container.labels, labels::UNENFORCED) {
        conditions.push(condition(
            "LimitsEnforced",
            ConditionStatus::No,
            "Unsupported",
            format!("the engine cannot enforce {}", fields.replace(',', ", ")),
        ));
    }
    SessionState {
        session_id: labels::value(&container.labels, labels::SESSION).unwrap_or_default().to_owned(),
        node_id: Some(container.id.clone()),
        phase,
        conditions,
        last_activity_ms: None,
        usage: None,
        ext: Vec::new(),
    }
}

/// The phase, and the `Ready` condition that explains it.
fn phase(container: &Container) -> (Phase, Condition) {
    use ConditionStatus::{No, Yes};
    let ready = |status, reason: &str, message: String| condition("Ready", status, reason, message);
    let ended = || match (container.oom_killed, container.exit_code) {
        (true, _) => "it ran out of memory".to_owned(),
        (false, Some(code)) => format!("its main process ended with code {code}"),
        (false, None) => "its main process ended".to_owned(),
    };
    let crashed = if container.oom_killed { "OOMKilled" } else { "CrashLoop" };
    match container.state {
        ContainerState::Running | ContainerState::Restarting if container.restart_count >= CRASH_LOOP => {
            let message = format!("{}, and did so {} times", ended(), container.restart_count);
            (Phase::Failed, ready(No, crashed, message))
        }
        ContainerState::Running => match container.health {
            ContainerHealth::Starting => {
                (Phase::Running, ready(No, "Starting", "its health check has not passed yet".to_owned()))
            }
            ContainerHealth::Unhealthy => {
                (Phase::Running, ready(No, "Unhealthy", "its health check fails".to_owned()))
            }
            ContainerHealth::None | ContainerHealth::Healthy => {
                (Phase::Running, ready(Yes, "Running", String::new()))
            }
        },
        ContainerState::Created if container.failure.is_empty() => {
            (Phase::Pending, ready(No, "NotStarted", "the container is made and not started".to_owned()))
        }
        ContainerState::Created => (Phase::Failed, ready(No, "StartFailed", container.failure.clone())),
        ContainerState::Restarting => (Phase::Pending, ready(No, "Restarting", ended())),
        ContainerState::Paused => {
            (Phase::Pending, ready(No, "Paused", "somebody paused the container".to_owned()))
        }
        ContainerState::Removing => {
            (Phase::Pending, ready(No, "Removing", "the container is being removed".to_owned()))
        }
        // The engine restarts whatever ends by itself, so that somebody has stopped this one.
        ContainerState::Exited => (Phase::Hibernated, ready(No, "Stopped", ended())),
        ContainerState::Dead => {
            (Phase::Failed, ready(No, "Dead", "the engine could not remove the container whole".to_owned()))
        }
    }
}

/// A condition.
pub(crate) fn condition(kind: &str, status: ConditionStatus, reason: &str, message: String) -> Condition {
    Condition { kind: kind.to_owned(), status, reason: reason.to_owned(), message }
}

/// Cuts a page out of a whole listing: the engine gives everything at once.
pub(crate) fn page(mut entries: Vec<SessionEntry>, cursor: Option<&str>, limit: u32) -> SessionPage {
    entries.sort_by(|a, b| a.state.session_id.cmp(&b.state.session_id));
    if let Some(cursor) = cursor {
        entries.retain(|entry| entry.state.session_id.as_str() > cursor);
    }
    let limit = if limit == 0 { usize::MAX } else { limit as usize };
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next_cursor = entries.last().filter(|_| more).map(|entry| entry.state.session_id.clone());
    SessionPage { entries, next_cursor }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: ContainerState) -> Container {
        Container {
            id: "c".into(),
            name: "ss-s1".into(),
            image: "busybox".into(),
            labels: vec![(labels::SESSION.into(), "s1".into())],
            state,
            exit_code: None,
            oom_killed: false,
            restart_count: 0,
            health: ContainerHealth::None,
            failure: String::new(),
            ports: vec![],
            address: None,
            created_at_ms: None,
            ext: vec![],
        }
    }

    #[test]
    fn every_state_of_the_engine_has_a_phase_and_a_reason() {
        for (found, phase, reason) in [
            (container(ContainerState::Running), Phase::Running, "Running"),
            (
                Container { health: ContainerHealth::Starting, ..container(ContainerState::Running) },
                Phase::Running,
                "Starting",
            ),
            (
                Container { restart_count: 3, ..container(ContainerState::Restarting) },
                Phase::Failed,
                "CrashLoop",
            ),
            (
                Container { restart_count: 3, oom_killed: true, ..container(ContainerState::Running) },
                Phase::Failed,
                "OOMKilled",
            ),
            (container(ContainerState::Restarting), Phase::Pending, "Restarting"),
            (container(ContainerState::Created), Phase::Pending, "NotStarted"),
            (
                Container { failure: "no gpu".into(), ..container(ContainerState::Created) },
                Phase::Failed,
                "StartFailed",
            ),
            (container(ContainerState::Paused), Phase::Pending, "Paused"),
            (container(ContainerState::Removing), Phase::Pending, "Removing"),
            (container(ContainerState::Exited), Phase::Hibernated, "Stopped"),
            (container(ContainerState::Dead), Phase::Failed, "Dead"),
        ] {
            let seen = state(&found);
            assert_eq!((seen.phase, seen.conditions[0].reason.as_str()), (phase, reason));
        }
    }

    #[test]
    fn pages_are_whole_and_end() {
        let entries = || {
            ["c", "a", "b"]
                .map(|id| {
                    let labels = vec![(labels::SESSION.to_owned(), id.to_owned())];
                    entry(Container { labels, ..container(ContainerState::Running) })
                })
                .into()
        };
        let ids = |page: &SessionPage| {
            page.entries.iter().map(|entry| entry.state.session_id.clone()).collect::<Vec<_>>()
        };
        let first = page(entries(), None, 2);
        assert_eq!((ids(&first), first.next_cursor.as_deref()), (vec!["a".into(), "b".into()], Some("b")));
        let second = page(entries(), first.next_cursor.as_deref(), 2);
        assert_eq!((ids(&second), second.next_cursor), (vec!["c".into()], None));
    }
}
