//! Making a session, from wherever an earlier try left off.

use streamspace_sdk::host::docker::{self, Container, ContainerState, NetworkOptions, Pull, PullPhase};
use streamspace_sdk::host::{log, state};
use streamspace_sdk::{
    Call, Condition, ConditionStatus, Error, ErrorExt as _, ErrorKind, Outcome, Progress, Result,
    SessionRequest,
};

use crate::handles::Handle;
use crate::settings::{OPTIONS, Settings};
use crate::{ENGINE, ends, hibernate, labels, names, observed, spec};

/// Milliseconds until the first look at a pull, and by how much each further one is later.
const PULL_POLL_MS: u32 = 500;

/// Milliseconds between two looks at a pull at most.
const PULL_POLL_LONGEST_MS: u32 = 2000;

/// Name of the secret with the logins of private registries.
const LOGINS: &str = "registry";

/// Where the kind of engine is kept between calls, and for how many milliseconds: asking takes longer than most of
/// what a create does.
const OS_KEY: &str = "engine-os";
const OS_TTL_MS: u64 = 60_000;

/// Makes the container and starts it, or goes on with the one that is there.
pub(crate) fn create(call: &Call, request: &SessionRequest, handle: Option<&[u8]>) -> Result<Outcome> {
    make(call, request, handle).map_err(|error| match error.kind {
        // Something that was there a moment ago: an image, a network, the container itself was removed by hand. The
        // next try makes it anew, while `not-found` would end the session.
        ErrorKind::NotFound => Error { kind: ErrorKind::Unavailable, ..error },
        _ => error,
    })
}

fn make(call: &Call, request: &SessionRequest, handle: Option<&[u8]>) -> Result<Outcome> {
    let settings = Settings::load()?;
    let wanted = spec::container(request, call.epoch, &settings, engine_os()? == "windows")?;
    let name = wanted.name.clone();
    let existing = match docker::container_inspect(ENGINE, &name) {
        Ok(container) => container,
        Err(error) if error.is_not_found() => {
            if let Some(pull) = pull_if_missing(&wanted.image, &settings)? {
                return Ok(Outcome::InProgress(pulling(&wanted.image, &pull, looks(handle))?));
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
        ContainerState::Created => start_new(&name).map_err(|error| blame_graphics(error, request))?,
        ContainerState::Exited => docker::container_start(ENGINE, &name)?,
        ContainerState::Removing | ContainerState::Dead => return Err(hibernate::on_its_way_out(&existing)),
        _ => {}
    }
    Ok(Outcome::Done(observed::state(&ends::inspect(&name)?)))
}

fn engine_os() -> Result<String> {
    if let Some(known) = state::get(OS_KEY).and_then(|bytes| String::from_utf8(bytes).ok()) {
        return Ok(known);
    }
    let os = docker::engine_inspect(ENGINE)?.os_type;
    // A cache that is full costs time only.
    let _ = state::put(OS_KEY, os.as_bytes(), Some(OS_TTL_MS));
    Ok(os)
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
fn pull_if_missing(image: &str, settings: &Settings) -> Result<Option<Pull>> {
    match docker::image_inspect(ENGINE, image) {
        Ok(_) => return Ok(None),
        Err(error) if !error.is_not_found() => return Err(error),
        Err(_) => {}
    }
    let pull = match docker::pull_status(ENGINE, image) {
        Err(error) if error.is_not_found() => {
            let login = settings.registries.iter().any(|name| name == registry(image)).then_some(LOGINS);
            docker::pull_start(ENGINE, image, login)?
        }
        other => other?,
    };
    match (pull.phase, pull.failure) {
        (PullPhase::Failed, Some(failure)) => Err(pull_failed(image, failure)),
        // It is done, and yet the image was not there a moment ago: the next step sees it, or pulls again.
        (phase, failure) => Ok(Some(Pull { phase, failure, ..pull })),
    }
}

/// The registry of an image, as references name it.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        // Names of repositories have no capital letters.
        Some((host, _))
            if host.contains(['.', ':']) || host == "localhost" || host.contains(char::is_uppercase) =>
        {
            host
        }
        _ => "docker.io",
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

/// How often an earlier step has looked already.
fn looks(handle: Option<&[u8]>) -> u32 {
    match Handle::read(handle) {
        Some(Handle::Pull { looks }) => looks,
        _ => 0,
    }
}

fn pulling(image: &str, pull: &Pull, looks: u32) -> Result<Progress> {
    let looks = looks.saturating_add(1);
    let message = match pull.total_bytes {
        0 => format!("pulling {image}: {}", pull.message),
        total => format!("pulling {image}: {} of {} MB", pull.done_bytes / 1_000_000, total / 1_000_000),
    };
    let condition = Condition::new("ImagePulled", ConditionStatus::No, "Pulling", message.clone());
    let pause = PULL_POLL_MS.saturating_mul(looks).min(PULL_POLL_LONGEST_MS);
    let progress = Progress::new(Handle::Pull { looks }.write()?, pause, message);
    Ok(Progress { conditions: vec![condition], ..progress })
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

/// Of graphics processors the engine says only at the start that it has none.
fn blame_graphics(error: Error, request: &SessionRequest) -> Error {
    let asked = if request.spec.resources.gpus > 0 {
        "spec.resources.gpus".to_owned()
    } else {
        format!("{OPTIONS}.gpus")
    };
    match error.message.contains("device driver") {
        true => Error { field: Some(asked), ..error },
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_looked_at_less_and_less_often() {
        let pull = Pull {
            phase: PullPhase::Running,
            message: "x".into(),
            done_bytes: 42_000_000,
            total_bytes: 120_000_000,
            failure: None,
        };
        let mut handle: Option<Vec<u8>> = None;
        let mut waits = Vec::new();
        for _ in 0..6 {
            let progress = pulling("a:1", &pull, looks(handle.as_deref())).unwrap();
            assert_eq!(progress.message, "pulling a:1: 42 of 120 MB");
            assert_eq!(progress.conditions[0].reason, "Pulling");
            waits.push(progress.poll_after_ms);
            handle = Some(progress.handle);
        }
        assert_eq!(waits, [500, 1000, 1500, 2000, 2000, 2000]);
        assert_eq!(looks(Some(&Handle::Removal.write().unwrap())), 0, "of another verb");
    }

    #[test]
    fn the_registry_of_an_image_is_known() {
        for (image, host) in
            [("busybox", "docker.io"), ("a/b:1", "docker.io"), ("127.0.0.1:5000/a", "127.0.0.1:5000")]
        {
            assert_eq!(registry(image), host);
        }
    }

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
