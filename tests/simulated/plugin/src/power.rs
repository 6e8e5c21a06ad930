//! Stopping a session so that it can go on, and letting it go on.

use streamspace_sdk::{Outcome, Result};

use crate::api::{Api, Box, State};
use crate::{names, observed};

/// Stops the box.
pub(crate) fn hibernate(api: &Api<'_>, session: &str) -> Result<Outcome> {
    lead_to(api, session, State::Stopped, Api::stop)
}

/// Starts the box.
pub(crate) fn wake(api: &Api<'_>, session: &str) -> Result<Outcome> {
    lead_to(api, session, State::Running, Api::start)
}

/// Leads a box to a state, unless it is there or something is under way already.
fn lead_to<'a>(
    api: &Api<'a>,
    session: &str,
    goal: State,
    act: impl FnOnce(&Api<'a>, &str) -> Result<Box>,
) -> Result<Outcome> {
    let name = names::of_box(session)?;
    let mut found = api.get_own(&name)?;
    observed::fence(&found, api.call().epoch)?;
    if rests(&found) && is_unfinished(&found) {
        // Only a box that ran once can be told from one that is still being made.
        found = api.start(&name)?;
    } else if rests(&found) && found.state != goal {
        found = act(api, &name)?;
    }
    if rests(&found) && found.state == goal && !is_unfinished(&found) {
        return Ok(Outcome::Done(observed::state(&found)));
    }
    observed::in_progress(&found)
}

/// Whether whoever made a box was stopped before it was started.
fn is_unfinished(found: &Box) -> bool {
    found.state == State::Stopped && found.starts == 0
}

/// Whether nothing is being done to a box.
fn rests(found: &Box) -> bool {
    found.under_way().is_none() && !matches!(found.state, State::Creating | State::Deleting)
}
