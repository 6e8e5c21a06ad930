//! Removing everything of a session.

use streamspace_sdk::host::docker;
use streamspace_sdk::{
    Error, ErrorExt as _, ErrorKind, Outcome, Phase, Progress, Result, SessionRef, SessionState,
};

use crate::handles::Handle;
use crate::{ENGINE, labels, names};

/// Milliseconds between two looks at a removal that goes on in the engine.
const REMOVAL_POLL_MS: u32 = 250;

/// Removes the container, then the session's volumes, then the home if that is wished. Each step finds out by itself
/// whether it is still needed.
pub(crate) fn delete(session: &SessionRef, purge_home: Option<&str>) -> Result<Outcome> {
    let name = names::container(&session.session_id)?;
    match docker::container_remove(ENGINE, &name) {
        // Busy with an earlier removal, or not reached: the look below tells which.
        Err(error) if is_gone(&error) || error.kind == ErrorKind::Unavailable => {}
        other => other?,
    }
    // Only the engine's own word counts.
    match docker::container_inspect(ENGINE, &name) {
        Err(error) if is_gone(&error) => {}
        Err(error) => return Err(error),
        Ok(_) => return still_there(),
    }
    let of_session = (labels::SESSION.to_owned(), session.session_id.clone());
    for volume in docker::volume_list(ENGINE, &[of_session])? {
        docker::volume_remove(ENGINE, &volume.name)?;
    }
    if let Some(key) = purge_home {
        docker::volume_remove(ENGINE, &names::home(key)?)
            .map_err(|error| error.context("the home cannot be removed"))?;
    }
    Ok(Outcome::Done(SessionState::new(&session.session_id, Phase::Terminated)))
}

/// There is nothing of ours: no container, or one that somebody else made under this name.
fn is_gone(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::NotFound | ErrorKind::Conflict)
}

fn still_there() -> Result<Outcome> {
    let handle = Handle::Removal.write()?;
    Ok(Outcome::InProgress(Progress::new(handle, REMOVAL_POLL_MS, "the engine is removing the container")))
}
