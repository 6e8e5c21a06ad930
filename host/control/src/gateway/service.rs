//! Which of a session's services is meant, and how it speaks.

use super::address;
use crate::domain::{Phase, PortProtocol, Session, VncProtocol, Wish, WishedState, condition_type};
use crate::rest::problem::Problem;

/// What travels over a connection to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP, and what it is upgraded to.
    Http,
    /// RFB without anything around it.
    Rfb,
}

/// A service of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Its name in `GetSessionAccess`.
    pub(super) name: String,
    /// How it speaks.
    pub(super) speech: Speech,
    /// Where its start page is.
    pub(super) start: String,
}

/// Finds a service in what the session was made of: the named one, or the main one.
pub(super) fn choose(session: &Session, name: Option<&str>) -> Result<Service, Problem> {
    let services = services(session);
    let found = match name {
        None => services.into_iter().next(),
        Some(name) => services.into_iter().find(|service| service.name == name),
    };
    found.ok_or_else(|| {
        Problem::not_found(match name {
            None => "the session has no web application, no desktop and no TCP port",
            Some(_) => "the session has no service of this name",
        })
    })
}

/// How a client reaches a service of a session through this server: `http` or `vnc`, and where. Nothing if the session
/// was not asked to have it.
pub(crate) fn way_in(session: &Session, name: &str) -> Option<(&'static str, String)> {
    let services = services(session);
    let (place, service) = services.iter().enumerate().find(|(_, service)| service.name == name)?;
    Some(match service.speech {
        Speech::Rfb => ("vnc", format!("/api/v1/sessions/{}/vnc", session.id)),
        Speech::Http if place == 0 => ("http", session.url()),
        Speech::Http => ("http", format!("{}/", address::prefix(&session.id, Some(name)))),
    })
}

/// The name of the one that is meant where nobody names one.
pub(crate) fn main_service(session: &Session) -> Option<String> {
    services(session).into_iter().next().map(|service| service.name)
}

/// All services, the main one first: the web application, then the desktop, then the ports in their order.
fn services(session: &Session) -> Vec<Service> {
    let spec = &session.spec;
    let web = spec.webapp.iter().filter(|webapp| webapp.enabled).map(|webapp| Service {
        name: "web".to_owned(),
        speech: Speech::Http,
        start: if webapp.path.starts_with('/') { webapp.path.clone() } else { "/".to_owned() },
    });
    let vnc = spec.vnc.iter().filter(|vnc| vnc.enabled).map(|vnc| Service {
        name: "vnc".to_owned(),
        speech: match vnc.protocol {
            VncProtocol::Rfb => Speech::Rfb,
            VncProtocol::Websocket | VncProtocol::Kasmvnc => Speech::Http,
        },
        start: "/".to_owned(),
    });
    let ports = spec.ports.iter().filter(|port| port.protocol == PortProtocol::Tcp).map(|port| Service {
        name: port.name.clone(),
        speech: Speech::Http,
        start: "/".to_owned(),
    });
    web.chain(vnc).chain(ports).collect()
}

/// Whether a session can be reached now; why not.
pub(super) fn is_up(session: &Session) -> Result<(), Problem> {
    let not_now = |kind, detail: String| Err(Problem::unavailable(kind, detail));
    match (session.wish, session.phase) {
        (Wish::Gone { .. }, _) => not_now("session-ending", "the session is being deleted".to_owned()),
        (Wish::State(WishedState::Running), Phase::Running) => Ok(()),
        (Wish::State(WishedState::Running), Phase::Failed) => {
            not_now("session-failed", format!("the session failed{}", reason(session)))
        }
        (Wish::State(WishedState::Running), _) => {
            not_now("session-starting", format!("the session is being started{}", reason(session)))
        }
        (Wish::State(WishedState::Hibernated), _) => {
            not_now("session-hibernated", "the session is hibernated; wake it to use it".to_owned())
        }
        (Wish::State(WishedState::Terminated), _) => {
            not_now("session-terminated", "the session was terminated".to_owned())
        }
    }
}

fn reason(session: &Session) -> String {
    let ready = session.conditions.as_slice().iter().find(|one| one.kind == condition_type::READY);
    let text = ready.map(|condition| condition.message.as_str()).unwrap_or_default();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
