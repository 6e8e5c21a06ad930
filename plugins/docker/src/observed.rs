//! From a container to what a session is seen to be.

use std::time::{SystemTime, UNIX_EPOCH};

use streamspace_sdk::host::docker::{Container, ContainerHealth, ContainerState};
use streamspace_sdk::{Condition, ConditionStatus, Ownership, Phase, SessionEntry, SessionState};

use crate::labels;

/// Restarts by the engine after which a session counts as broken and not as unlucky. The engine counts them for the
/// container's whole life, so that one that has run for [`STEADY_MS`] since is well all the same.
const CRASH_LOOP: u32 = 3;

/// Milliseconds of running after which a crash is history. The engine itself forgets its growing pauses after 10 s.
const STEADY_MS: u64 = 10_000;

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
    let unenforced = labels::value(&container.labels, labels::UNENFORCED).filter(|fields| !fields.is_empty());
    if let Some(fields) = unenforced {
        conditions.push(Condition::limits_not_enforced(&fields.split(',').collect::<Vec<_>>()));
    }
    let session = labels::value(&container.labels, labels::SESSION).unwrap_or_default();
    SessionState { node_id: Some(container.id.clone()), conditions, ..SessionState::new(session, phase) }
}

/// The phase, and the `Ready` condition that explains it.
fn phase(container: &Container) -> (Phase, Condition) {
    use ConditionStatus::{No, Yes};
    let ready = |status, reason: &str, message: String| Condition::new("Ready", status, reason, message);
    // While it runs there may be none: see `ends`.
    let exit_code = container.exit_code;
    let ended = || match (container.oom_killed, exit_code) {
        (true, _) => "it ran out of memory".to_owned(),
        (false, Some(code)) => format!("its main process ended with code {code}"),
        (false, None) => "its main process ended".to_owned(),
    };
    let crashed = if container.oom_killed { "OOMKilled" } else { "CrashLoop" };
    match container.state {
        ContainerState::Running | ContainerState::Restarting if is_crash_loop(container) => {
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
        ContainerState::Unknown => {
            (Phase::Pending, ready(No, "Unknown", "the engine reports a state that is not known".to_owned()))
        }
        // It could not be started again; what it wrote is still there.
        ContainerState::Exited if !container.failure.is_empty() => {
            (Phase::Hibernated, ready(No, "StartFailed", container.failure.clone()))
        }
        // The engine restarts whatever ends by itself, so that somebody has stopped this one: we, or somebody by hand.
        // The engine does not tell which; whoever knows what is wanted can.
        ContainerState::Exited => (Phase::Hibernated, ready(No, "Stopped", ended())),
        ContainerState::Dead => {
            (Phase::Failed, ready(No, "Dead", "the engine could not remove the container whole".to_owned()))
        }
    }
}

/// Whether a container ends again and again, each time soon after its start.
fn is_crash_loop(container: &Container) -> bool {
    let short_lived = match (container.state, container.started_at_ms, container.finished_at_ms) {
        // Between two lives: how long was the last one?
        (ContainerState::Restarting, Some(start), Some(end)) => end.saturating_sub(start) < STEADY_MS,
        (ContainerState::Running, Some(start), _) => is_recent(start),
        _ => true,
    };
    container.restart_count >= CRASH_LOOP && short_lived
}

/// Whether a container that was started then may still turn out to end again and again.
pub(crate) fn is_recent(started_at_ms: u64) -> bool {
    now_ms().saturating_sub(started_at_ms) < STEADY_MS
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn just_now() -> u64 {
        now_ms()
    }

    pub(crate) fn container(state: ContainerState) -> Container {
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
            started_at_ms: None,
            finished_at_ms: None,
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
            (
                Container {
                    restart_count: 9,
                    started_at_ms: Some(now_ms() - STEADY_MS),
                    ..container(ContainerState::Running)
                },
                Phase::Running,
                "Running",
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
            (
                Container { failure: "port is taken".into(), ..container(ContainerState::Exited) },
                Phase::Hibernated,
                "StartFailed",
            ),
            (container(ContainerState::Dead), Phase::Failed, "Dead"),
        ] {
            let seen = state(&found);
            assert_eq!((seen.phase, seen.conditions[0].reason.as_str()), (phase, reason));
        }
    }
}
