//! All sessions of this controller.

use streamspace_sdk::host::docker::{self, Container, ContainerState};
use streamspace_sdk::{ErrorExt as _, Result, SessionEntry, SessionPage};

use crate::{ENGINE, ends, labels, names, observed};

/// All containers that are sessions, as a listing tells of them.
pub(crate) fn all() -> Result<Vec<Container>> {
    let of_any_session = (labels::SESSION.to_owned(), String::new());
    let mut containers = docker::container_list(ENGINE, &[of_any_session])?;
    // One that was made by hand may bear the labels under another name.
    containers.retain(|container| {
        let session = labels::value(&container.labels, labels::SESSION).unwrap_or_default();
        names::container(session).is_ok_and(|name| name == container.name)
    });
    Ok(containers)
}

/// The same, with all that has to be known to say how they are.
pub(crate) fn seen() -> Result<Vec<Container>> {
    let mut sessions = Vec::new();
    for container in all()? {
        if !has_more_to_tell(&container) {
            sessions.push(container);
            continue;
        }
        match ends::inspect(&container.name) {
            Ok(container) => sessions.push(container),
            // It went in between.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sessions)
}

/// Whether it is one of the few that are, or may be, in trouble: a listing does not say why.
fn has_more_to_tell(container: &Container) -> bool {
    match container.state {
        ContainerState::Created | ContainerState::Restarting | ContainerState::Dead => true,
        // It may have been started again after a crash.
        ContainerState::Running => container.started_at_ms.is_some_and(observed::is_recent),
        _ => false,
    }
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
    SessionPage { entries, next_cursor, ext: Vec::new() }
}

#[cfg(test)]
mod tests {
    use streamspace_sdk::{Ownership, Phase, SessionState};

    use super::*;

    fn entry(session: &str) -> SessionEntry {
        SessionEntry {
            state: SessionState::new(session, Phase::Running),
            user_id: String::new(),
            spec_hash: String::new(),
            spec: None,
            wish: None,
            ownership: Ownership::Owned,
            external_ref: None,
            epoch: 0,
            created_at_ms: None,
            ext: vec![],
        }
    }

    #[test]
    fn pages_are_whole_and_end() {
        let entries = || ["c", "a", "b"].map(entry).into();
        let ids = |page: &SessionPage| {
            page.entries.iter().map(|entry| entry.state.session_id.clone()).collect::<Vec<_>>()
        };
        let first = page(entries(), None, 2);
        assert_eq!((ids(&first), first.next_cursor.as_deref()), (vec!["a".into(), "b".into()], Some("b")));
        let second = page(entries(), first.next_cursor.as_deref(), 2);
        assert_eq!((ids(&second), second.next_cursor), (vec!["c".into()], None));
    }
}
