//! Stopping a session and starting it again.

use streamspace_sdk::host::docker::{self, Container, ContainerState};
use streamspace_sdk::{Call, Error, ErrorExt as _, ErrorKind, Outcome, Result, SessionRef};

use crate::spec::STOP_TIMEOUT_S;
use crate::{ENGINE, ends, names, observed};

/// Seconds that are left of a call after its container was told to stop: for the killing and for a last look.
const RESERVE_S: u32 = 5;

/// Milliseconds after which a removal that is under way may be over.
const REMOVAL_MS: u32 = 500;

/// Stops the container. Its memory is lost; its files stay.
pub(crate) fn hibernate(call: &Call, session: &SessionRef) -> Result<Outcome> {
    let name = names::container(&session.session_id)?;
    let container = docker::container_inspect(ENGINE, &name)?;
    match container.state {
        ContainerState::Exited => return Ok(done(&container)),
        // Only a container that ran once can be told from one that is still being made.
        ContainerState::Created => docker::container_start(ENGINE, &name)?,
        ContainerState::Removing | ContainerState::Dead => return Err(on_its_way_out(&container)),
        _ => {}
    }
    docker::container_stop(ENGINE, &name, grace_s(call.timeout_ms))?;
    let container = docker::container_inspect(ENGINE, &name)?;
    match container.state {
        ContainerState::Exited => Ok(done(&container)),
        _ => Err(Error::new(ErrorKind::Unavailable, "the container was started again while it was stopped")),
    }
}

/// Starts the container. A failure leaves it as it was: what it wrote is still in it.
pub(crate) fn wake(session: &SessionRef) -> Result<Outcome> {
    let name = names::container(&session.session_id)?;
    let container = ends::inspect(&name)?;
    match container.state {
        ContainerState::Running | ContainerState::Restarting => return Ok(done(&container)),
        ContainerState::Removing | ContainerState::Dead => return Err(on_its_way_out(&container)),
        ContainerState::Paused => match docker::container_unpause(ENGINE, &name) {
            // Somebody else was quicker.
            Err(error) if error.kind == ErrorKind::Conflict => {}
            other => other?,
        },
        _ => docker::container_start(ENGINE, &name).map_err(|error| not_started(&name, error))?,
    }
    // Ports and address are other ones now.
    Ok(done(&ends::inspect(&name)?))
}

fn done(container: &Container) -> Outcome {
    Outcome::Done(observed::state(container))
}

/// Seconds between TERM and KILL. The engine kills only then, and the call must see it.
fn grace_s(timeout_ms: u32) -> u32 {
    STOP_TIMEOUT_S.min((timeout_ms / 1000).saturating_sub(RESERVE_S)).max(1)
}

/// Why nothing can be done with a container that somebody removes.
pub(crate) fn on_its_way_out(container: &Container) -> Error {
    match container.state {
        ContainerState::Dead => Error::new(
            ErrorKind::FailedPrecondition,
            format!("the engine could not remove the container {} whole", container.name),
        ),
        _ => Error {
            retry_after_ms: Some(REMOVAL_MS),
            ..Error::new(ErrorKind::Unavailable, format!("the container {} is being removed", container.name))
        },
    }
}

/// The engine says "not found" also of a network or a volume that the container needs.
fn not_started(name: &str, error: Error) -> Error {
    let error = error.context("the container does not start");
    if error.is_not_found() && docker::container_inspect(ENGINE, name).is_ok() {
        return Error { kind: ErrorKind::FailedPrecondition, ..error };
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_period_fits_into_the_call() {
        assert_eq!(grace_s(600_000), 30);
        assert_eq!(grace_s(20_000), 15);
        assert_eq!(grace_s(3_000), 1);
    }
}
