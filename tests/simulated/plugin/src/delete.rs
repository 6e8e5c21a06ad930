//! Removing everything of a session.

use streamspace_sdk::{ErrorExt as _, Outcome, Phase, Result, SessionState};

use crate::api::Api;
use crate::{names, observed};

/// Removes the box, then the home if that is wished. Each step finds out by itself whether it is still needed.
pub(crate) fn delete(api: &Api<'_>, session: &str, purge_home: Option<&str>) -> Result<Outcome> {
    let name = names::of_box(session)?;
    match api.get_own(&name) {
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
        Ok(found) => {
            observed::fence(&found, api.call().epoch)?;
            succeed_if_missing(api.delete(&name))?;
            // Only the infrastructure's own word counts.
            match api.get_own(&name) {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(found) => return observed::in_progress(&found),
            }
        }
    }
    if let Some(key) = purge_home {
        succeed_if_missing(api.delete_home(&names::of_home(key)?))
            .map_err(|error| error.context("the home cannot be removed"))?;
    }
    Ok(Outcome::Done(SessionState::new(session, Phase::Terminated)))
}

fn succeed_if_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
