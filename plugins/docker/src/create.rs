//! Making a session, from wherever an earlier try left off.

use streamspace_sdk::host::docker::{self, Container, ContainerState, NetworkOptions, Pull, PullPhase};
use streamspace_sdk::host::log;
use streamspace_sdk::{
    Call, ConditionStatus, Error, ErrorExt as _, ErrorKind, Outcome, Progress, Result, SessionRequest,
};

use crate::settings::Settings;
use crate::{ENGINE, labels, names, observed, spec};

/// Milliseconds between two looks at a pull.
const PULL_POLL_MS: u32 = 500;

/// What the next step gets. There is nothing to remember: every step looks at the engine first.
const PULL_HANDLE: &[u8] = b"pull";

/// Makes the container and starts it, or goes on with the one that is there.
pub(crate) fn create(call: &Call, request: &SessionRequest) -> Result<Outcome> {
    make(call, request).map_err(|error| match error.kind {
        // Something that was there a moment ago: an image, a network, the container itself was removed by hand. The
        // next try makes it anew, while `not-found` would end the session.
        ErrorKind::NotFound => Error { kind: ErrorKind::Unavailable, ..error },
        _ => error,
    })
}

fn make(call: &Call, request: &SessionRequest) -> Result<Outcome> {
    let settings = Settings::load()?;
    let wanted = spec::container(request, call.epoch, &settings)?;
    let name = wanted.name.clone();
    let existing = match docker::container_inspect(ENGINE, &name) {
        Ok(container) => container,
        Err(error) if error.is_not_found() => {
            if let Some(pull) = pull_if_missing(&wanted.image)? {
                return Ok(Outcome::InProgress(pulling(&wanted.image, &pull)));
            }
            prepare(request)?;
            match docker::container_create(ENGINE, &wanted) {
                // The name was taken in the meantime: by an earlier try of ours, or by somebody else.
                Ok(_) | Err(Error { kind: ErrorKind::Conflict, .. }) => {
                    docker::container_inspect(ENGINE, &name)?
                }
                Err(error) => return Err(blame_fields(error)),
            }
        }
        Err(error) => return Err(error),
    };
    expect_same_spec(&existing, request)?;
    match existing.state {
        ContainerState::Created => start_new(&name)?,
        ContainerState::Exited => docker::container_start(ENGINE, &name)?,
        _ => {}
    }
    Ok(Outcome::Done(observed::state(&docker::container_inspect(ENGINE, &name)?)))
}

/// Network and volumes. All of them are found again, so that order and repetition do not matter.
fn prepare(request: &SessionRequest) -> Result<()> {
    docker::network_ensure(ENGINE, names::NETWORK, NetworkOptions { inter_container: false })?;
    if let Some(home) = &request.spec.home {
        let label = (labels::HOME.to_owned(), home.key.clone());
        docker::volume_ensure(ENGINE, &names::home(&home.key)?, &[label])?;
    }
    for volume in &request.spec.volumes {
        let label = (labels::SESSION.to_owned(), request.session_id.clone());
        docker::volume_ensure(ENGINE, &names::volume(&request.session_id, &volume.name)?, &[label])?;
    }
    Ok(())
}

/// Starts a container that never ran. One that cannot be started is removed, or it would stand in the way of the next
/// try; nothing is lost with it.
fn start_new(name: &str) -> Result<()> {
    let Err(error) = docker::container_start(ENGINE, name) else { return Ok(()) };
    // It may be running by now: nobody knows what became of the request.
    if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::TimedOut) {
        return Err(error);
    }
    if let Err(removal) = docker::container_remove(ENGINE, name)
        && !removal.is_not_found()
    {
        log::write(
            log::Level::Warn,
            "a container that did not start could not be removed",
            &[("container".to_owned(), name.to_owned()), ("error".to_owned(), removal.message)],
        );
    }
    Err(error.context("the container does not start"))
}

/// Same id and same spec is the same session; anything else under its name is in the way.
fn expect_same_spec(container: &Container, request: &SessionRequest) -> Result<()> {
    let label = |key| labels::value(&container.labels, key).unwrap_or_default();
    if label(labels::SESSION) == request.session_id && label(labels::SPEC_HASH) == request.spec_hash {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!("the container {} was made from another spec", container.name),
    ))
}

/// None once the image is there.
fn pull_if_missing(image: &str) -> Result<Option<Pull>> {
    match docker::image_inspect(ENGINE, image) {
        Ok(_) => return Ok(None),
        Err(error) if !error.is_not_found() => return Err(error),
        Err(_) => {}
    }
    let pull = match docker::pull_status(ENGINE, image) {
        Err(error) if error.is_not_found() => docker::pull_start(ENGINE, image, None)?,
        other => other?,
    };
    match (pull.phase, pull.failure) {
        (PullPhase::Failed, Some(failure)) => Err(pull_failed(image, failure)),
        // It is done, and yet the image was not there a moment ago: the next step sees it, or pulls again.
        (phase, failure) => Ok(Some(Pull { phase, failure, ..pull })),
    }
}

fn pull_failed(image: &str, failure: Error) -> Error {
    let failure = failure.context(&format!("the image {image} cannot be pulled"));
    match failure.kind {
        // Not found here means that the caller named something that does not exist.
        ErrorKind::NotFound | ErrorKind::Invalid => {
            Error { kind: ErrorKind::Invalid, field: Some("spec.base_image".to_owned()), ..failure }
        }
        ErrorKind::Unauthenticated => Error {
            kind: ErrorKind::FailedPrecondition,
            field: Some("spec.base_image".to_owned()),
            ..failure
        },
        _ => failure,
    }
}

fn pulling(image: &str, pull: &Pull) -> Progress {
    let message = match pull.total_bytes {
        0 => format!("pulling {image}: {}", pull.message),
        total => format!("pulling {image}: {} of {} MB", pull.done_bytes / 1_000_000, total / 1_000_000),
    };
    let condition = observed::condition("ImagePulled", ConditionStatus::No, "Pulling", message.clone());
    Progress {
        handle: PULL_HANDLE.to_vec(),
        poll_after_ms: PULL_POLL_MS,
        message,
        conditions: vec![condition],
        ext: Vec::new(),
    }
}

/// The engine says what it dislikes in words only; the fields behind the words.
fn blame_fields(error: Error) -> Error {
    const FIELDS: &[(&str, &str)] = &[
        ("memory", "spec.resources.memory"),
        ("cpus", "spec.resources.cpu"),
        ("mount", "spec.volume_mounts"),
    ];
    let words = error.message.to_lowercase();
    let field = FIELDS.iter().find(|(word, _)| words.contains(word)).map(|(_, field)| (*field).to_owned());
    match error.kind {
        ErrorKind::Invalid if error.field.is_none() => Error { field, ..error },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_at_fault_is_named() {
        let refused = |message: &str| blame_fields(Error::new(ErrorKind::Invalid, message)).field;
        assert_eq!(refused("Minimum memory limit allowed is 6MB").as_deref(), Some("spec.resources.memory"));
        assert_eq!(
            refused("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available").as_deref(),
            Some("spec.resources.cpu")
        );
        assert_eq!(refused("something else"), None);
    }

    #[test]
    fn a_missing_image_is_the_callers_mistake_and_an_unreachable_registry_is_not() {
        let kind = |kind| pull_failed("a:1", Error::new(kind, "x")).kind;
        assert_eq!(kind(ErrorKind::NotFound), ErrorKind::Invalid);
        assert_eq!(kind(ErrorKind::Unauthenticated), ErrorKind::FailedPrecondition);
        assert_eq!(kind(ErrorKind::Unavailable), ErrorKind::Unavailable);
    }
}
