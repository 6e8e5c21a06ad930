//! Making a session, from wherever an earlier try left off.

use std::collections::{BTreeMap, BTreeSet};

use streamspace_sdk::{
    Error, ErrorExt as _, ErrorKind, Outcome, Result, SessionRequest, SessionSpec, Transport,
};

use crate::api::{Api, Box, JobKind, NewBox, State};
use crate::{names, observed, settings};

/// Makes the box and starts it, or goes on with the one that is there.
pub(crate) fn create(api: &Api<'_>, request: &SessionRequest) -> Result<Outcome> {
    settings::check_options(&request.spec.options)?;
    if request.spec.resources.gpus > 0 {
        let field = Some("spec.resources.gpus".to_owned());
        return Err(Error { field, ..Error::unsupported("a graphics processor") });
    }
    go_on(api, request).map_err(|error| match error.kind {
        // Something went between two requests. The next try makes it anew, while `not-found` would tell the caller
        // that no retry helps.
        ErrorKind::NotFound => Error { kind: ErrorKind::Unavailable, ..error },
        _ => error,
    })
}

fn go_on(api: &Api<'_>, request: &SessionRequest) -> Result<Outcome> {
    let name = names::of_box(&request.session_id)?;
    let found = match api.get(&name) {
        Err(error) if error.is_not_found() => make(api, request, &name)?,
        other => other?,
    };
    expect_same(api, &found, request)?;
    observed::fence(&found, api.call().epoch)?;
    match next_step(&found) {
        Step::Done => Ok(Outcome::Done(observed::state(&found))),
        Step::Wait => observed::in_progress(&found),
        Step::Start => {
            let found = api.start(&name)?;
            match next_step(&found) {
                Step::Done => Ok(Outcome::Done(observed::state(&found))),
                _ => observed::in_progress(&found),
            }
        }
        Step::MakeAnew => {
            api.delete(&name)?;
            observed::in_progress(&found)
        }
    }
}

/// What a box needs to become a running session.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done,
    Wait,
    Start,
    /// It was made only in part and never ran: nothing is lost with it.
    MakeAnew,
}

fn next_step(found: &Box) -> Step {
    match (found.state, found.under_way()) {
        (State::Running, Some(JobKind::Stop)) => Step::Wait,
        (State::Running, _) => Step::Done,
        (State::Creating | State::Deleting, _) | (_, Some(_)) => Step::Wait,
        (State::Failed, None) if found.starts == 0 => Step::MakeAnew,
        (State::Stopped | State::Failed, None) => Step::Start,
    }
}

/// The home first, then the box. Both are found again, so that repetition does no harm.
fn make(api: &Api<'_>, request: &SessionRequest, name: &str) -> Result<Box> {
    let home = request.spec.home.as_ref().map(|home| names::of_home(&home.key)).transpose()?;
    if let Some(home) = &home {
        api.ensure_home(home)?;
    }
    let new = NewBox {
        name,
        labels: labels(api, request),
        image: &request.spec.image,
        memory_bytes: request.spec.resources.memory_bytes,
        cpu_millis: request.spec.resources.cpu_millis,
        env: request.spec.env.iter().map(|var| (var.name.as_str(), var.value.as_str())).collect(),
        disks: request.spec.volumes.iter().map(|volume| volume.name.as_str()).collect(),
        home: home.as_deref(),
        services: services(&request.spec),
    };
    match api.create(&new) {
        // Taken in the meantime: by an earlier try whose answer was lost, or by somebody else.
        Err(Error { kind: ErrorKind::Conflict, .. }) => api.get(name),
        other => other,
    }
}

fn labels<'a>(api: &Api<'_>, request: &SessionRequest) -> BTreeMap<&'a str, String> {
    BTreeMap::from([
        (names::CONTROLLER, api.controller().to_owned()),
        (names::SESSION, request.session_id.clone()),
        (names::USER, request.user_id.clone()),
        (names::TEMPLATE, request.template_id.clone()),
        (names::SPEC_HASH, request.spec_hash.clone()),
        (names::EPOCH, api.call().epoch.to_string()),
        // Boxes and homes are as large as what is put into them.
        (names::UNENFORCED, request.spec.sizes().join(",")),
        (names::GENERATION, api.call().generation.to_string()),
    ])
}

/// What the box's page stands for. It speaks HTTP and WebSocket, so a desktop that wants plain RFB is not offered.
fn services(spec: &SessionSpec) -> Vec<&str> {
    let web = spec.web_app.iter().map(|_| "web");
    let vnc = spec.vnc.iter().filter(|vnc| vnc.protocol != "rfb").map(|_| "vnc");
    let ports = spec.ports.iter().filter(|port| port.transport == Transport::Tcp);
    let names: BTreeSet<&str> = web.chain(vnc).chain(ports.map(|port| port.name.as_str())).collect();
    names.into_iter().collect()
}

/// Same id and same spec is the same session; anything else under its name is in the way.
fn expect_same(api: &Api<'_>, found: &Box, request: &SessionRequest) -> Result<()> {
    let problem = if !api.owns(found) {
        "belongs to somebody else"
    } else if found.label(names::SPEC_HASH) != request.spec_hash {
        "was made from another spec"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Conflict, format!("the box {} {problem}", found.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Job;
    use crate::api::tests::found;

    #[test]
    fn every_state_leads_on_to_a_running_box() {
        for (found, step) in [
            (found(State::Running), Step::Done),
            (found(State::Creating), Step::Wait),
            (found(State::Deleting), Step::Wait),
            (found(State::Stopped), Step::Start),
            (found(State::Failed), Step::Start),
            (Box { starts: 0, ..found(State::Failed) }, Step::MakeAnew),
            (Box { job: Some(Job { kind: JobKind::Start }), ..found(State::Stopped) }, Step::Wait),
            (Box { job: Some(Job { kind: JobKind::Stop }), ..found(State::Running) }, Step::Wait),
        ] {
            assert_eq!(next_step(&found), step, "{found:?}");
        }
    }
}
