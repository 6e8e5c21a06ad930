//! How containers ended last. The engine forgets it as soon as it starts one again, so that a session that ends again
//! and again would be explained in another way at every look. What a look has seen is kept for the next ones; without
//! it they say less, and nothing else.

use serde::{Deserialize, Serialize};
use streamspace_sdk::host::docker::{self, Container, ContainerState};
use streamspace_sdk::host::state;
use streamspace_sdk::{Result, handle};

use crate::{ENGINE, observed};

/// Milliseconds for which an end is remembered: longer than the engine's longest pause between two starts.
const TTL_MS: u64 = 600_000;

/// Version of what is kept: a new version of the plugin finds what the old one left.
const VERSION: u32 = 1;

/// The end of a container's last life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct End {
    /// For want of memory.
    oom: bool,
    /// Its exit code, where it is known.
    code: Option<i64>,
}

/// Exit code of a process that was killed, as the kernel kills one for want of memory.
const KILLED: i64 = 137;

/// A container, with what is known of its last end.
pub(crate) fn inspect(name: &str) -> Result<Container> {
    let container = docker::container_inspect(ENGINE, name)?;
    if !ends_again(&container) {
        return Ok(container);
    }
    let key = key(&container.id);
    let kept = handle::read(VERSION, state::get(&key).as_deref());
    let end = last_end(&container, kept);
    if let Some(end) = end.filter(|end| kept != Some(*end)) {
        keep(&key, end);
    }
    Ok(explained(container, end))
}

/// The engine tells in an event that a container has no memory left: it may be running again before anybody looks.
pub(crate) fn note_oom(id: &str) {
    keep(&key(id), End { oom: true, code: None });
}

fn key(id: &str) -> String {
    format!("end:{id}")
}

fn keep(key: &str, end: End) {
    // What cannot be kept is not known next time.
    if let Ok(bytes) = handle::write(VERSION, &end) {
        let _ = state::put(key, &bytes, Some(TTL_MS));
    }
}

/// Whether it is between two lives, or in one that another one went before, not long ago.
fn ends_again(container: &Container) -> bool {
    match container.state {
        ContainerState::Restarting => true,
        ContainerState::Running => {
            container.restart_count > 0 && container.started_at_ms.is_some_and(observed::is_recent)
        }
        _ => false,
    }
}

/// How it ended last: between two lives the engine tells, and else what was kept does.
fn last_end(container: &Container, kept: Option<End>) -> Option<End> {
    if container.state != ContainerState::Restarting {
        return kept;
    }
    let code = container.exit_code;
    // The engine may hear of the want of memory later than of the end.
    let once_more = kept.is_some_and(|kept| kept.oom) && code == Some(KILLED);
    Some(End { oom: container.oom_killed || once_more, code })
}

fn explained(container: Container, end: Option<End>) -> Container {
    match end {
        Some(End { oom, code }) => Container { oom_killed: oom, exit_code: code, ..container },
        // While it runs the engine gives 0, which is no end.
        None => Container { exit_code: None, ..container },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::tests::{container, just_now};

    fn between() -> Container {
        Container { restart_count: 3, exit_code: Some(3), ..container(ContainerState::Restarting) }
    }

    fn running() -> Container {
        let started_at_ms = Some(just_now());
        Container { state: ContainerState::Running, exit_code: Some(0), started_at_ms, ..between() }
    }

    #[test]
    fn an_end_is_told_in_the_next_life_as_it_was_between_the_two() {
        for oom_killed in [false, true] {
            let between = Container { oom_killed, ..between() };
            let end = last_end(&between, None);
            assert!(ends_again(&between) && ends_again(&running()));
            let ready = |container: &Container| observed::state(container).conditions[0].clone();
            let (before, after) = (explained(between, end), explained(running(), last_end(&running(), end)));
            assert_eq!(ready(&before), ready(&after), "{oom_killed}");
        }
        assert_eq!(last_end(&running(), None), None);
        assert_eq!(explained(running(), None).exit_code, None);
    }

    #[test]
    fn one_that_was_killed_for_want_of_memory_is_killed_for_that_again() {
        let oom = Some(End { oom: true, code: None });
        let killed = Container { exit_code: Some(KILLED), ..between() };
        assert!(last_end(&killed, oom).is_some_and(|end| end.oom));
        assert!(last_end(&killed, None).is_some_and(|end| !end.oom));
        assert!(last_end(&between(), oom).is_some_and(|end| !end.oom), "it ended by itself this time");
    }

    #[test]
    fn a_life_that_lasts_is_no_sequel() {
        let steady = Container { restart_count: 9, started_at_ms: Some(1), ..running() };
        assert!(!ends_again(&steady));
        assert!(!ends_again(&Container { restart_count: 0, ..running() }));
        assert!(!ends_again(&container(ContainerState::Exited)));
    }
}
