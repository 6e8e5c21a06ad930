//! What can become of a request, and how scripts tell it apart.

use reqwest::{StatusCode, Url};

/// What exit codes mean, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it failed, or the server refused it
  2    the command line is wrong
  3    not found
  4    not allowed, or no token
  5    the server, or what it needs, cannot be reached now
  6    the time to wait is over; what was asked for goes on
  130  interrupted; what was asked for goes on";

/// A request that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL cannot be used.
    #[error("--url: {0}")]
    Url(String),
    /// No token was found.
    #[error("{0}")]
    NoToken(String),
    /// The server does not answer.
    #[error("{url} does not answer: {cause}")]
    Unreachable {
        /// The server.
        url: Url,
        /// Why not, with all its causes.
        cause: String,
        /// The request may have reached it all the same.
        sent: bool,
    },
    /// The server refuses. What it says is in the words of its problem.
    #[error("{message}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// What stands before the server does not reach it.
    #[error("{url} cannot be reached: what stands before it answers {status}")]
    Away {
        /// The server.
        url: Url,
        /// The answer.
        status: StatusCode,
        /// The request may have reached it all the same.
        sent: bool,
    },
    /// The server is somewhere else. Nothing is sent there by itself: least of all the token.
    #[error("{url} redirects to {to}: give that as --url")]
    Redirected {
        /// Where it was asked.
        url: Url,
        /// Where it wants to be asked.
        to: String,
    },
    /// Whatever answers there, it is not this server.
    #[error("{url} gave an answer that is not StreamSpace's: {cause}")]
    NotOurs {
        /// The server.
        url: Url,
        /// What is wrong.
        cause: String,
    },
}

impl ClientError {
    /// The server knows nothing under this name.
    pub(crate) fn not_found(message: String) -> Self {
        Self::Refused { status: StatusCode::NOT_FOUND, message }
    }

    /// Whether it may go better later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Away { .. } => true,
            Self::Refused { status, .. } => {
                [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(status)
            }
            _ => false,
        }
    }

    /// Whether the server may have done what it was asked to do, and only its answer is missing.
    pub(crate) fn answer_is_lost(&self) -> bool {
        matches!(self, Self::Unreachable { sent: true, .. } | Self::Away { sent: true, .. })
    }

    /// What a script can tell errors apart by; see [`EXIT_CODES`].
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status: StatusCode::NOT_FOUND, .. } => 3,
            Self::Refused { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. }
            | Self::NoToken(_) => 4,
            _ if self.is_passing() => 5,
            _ => 1,
        }
    }

    /// What to do about it, where that is not clear.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { sent: false, .. } => {
                Some("is it running? `streamspace serve` starts one; --url or STREAMSPACE_URL names another")
            }
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                Some("--token-file or STREAMSPACE_TOKEN gives another token")
            }
            _ => None,
        }
    }
}
