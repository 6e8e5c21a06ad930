//! Questions about one session that only its controller can answer.

use tonic::Code;

use super::problem::Problem;
use crate::control::Shared;
use crate::domain::{Phase, Session, SessionSpec, shortened};
use crate::fleet::{CallError, ControllerClient};

/// The way to the controller of a session.
pub(super) fn client_of(shared: &Shared, session: &Session) -> Result<ControllerClient, Problem> {
    let Some(id) = session.controller_id() else {
        return Err(Problem::failed_precondition("no controller has the session yet"));
    };
    shared.fleet.client(id).ok_or_else(|| {
        Problem::unavailable("controller-unreachable", "the session's controller is not connected")
    })
}

/// Only what runs can be asked for this.
pub(super) fn require_running(session: &Session) -> Result<(), Problem> {
    match session.phase {
        Phase::Running => Ok(()),
        other => {
            Err(Problem::failed_precondition(format!("the session does not run; it is {}", other.as_str())))
        }
    }
}

/// What a failed call means for the caller. The words of what lies between us and the controller are for the log:
/// they name addresses.
pub(super) fn problem(spec: &SessionSpec, error: &CallError) -> Problem {
    told(error, spec.scrub(&error.reason), spec.scrub(&error.message))
}

/// The same for what belongs to no session, of whose secrets nothing is known.
pub(super) fn problem_of_nobody(error: &CallError) -> Problem {
    told(error, shortened(&error.reason), shortened(&error.message))
}

fn told(error: &CallError, reason: String, message: String) -> Problem {
    tracing::warn!(code = ?error.code, reason, message, "a question to a controller");
    let unreachable = |detail: &str| Problem::unavailable("controller-unreachable", detail);
    if !error.from_controller {
        return unreachable("the session's controller does not answer");
    }
    match error.code {
        Code::Unimplemented => Problem::unsupported("the session's backend does not offer this"),
        Code::NotFound => Problem::failed_precondition("the backend does not have the session"),
        Code::FailedPrecondition => Problem::failed_precondition(message),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {
            unreachable("the session's backend cannot be reached")
        }
        _ => Problem::backend(message),
    }
}
