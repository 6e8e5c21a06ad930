//! Why a call is refused.

use std::collections::HashMap;
use std::net::SocketAddr;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Domain of the reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "streamspace.controller";

/// Which check a call did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has told yet who may call, and under which id.
    #[error("this controller is not registered yet")]
    NotRegistered,
    /// No token, or more than one.
    #[error("the call is not signed")]
    Unsigned,
    /// The token is none.
    #[error("the signature is malformed: {0}")]
    Malformed(&'static str),
    /// The token is signed in another way, or asks for something unknown.
    #[error("the signature is not of the kind that is asked for here: EdDSA")]
    Algorithm,
    /// No API server has such a key.
    #[error("the call is signed with a key that no API server has")]
    UnknownKey,
    /// Somebody else signed, or the token was changed.
    #[error("the signature is wrong")]
    Signature,
    /// Signed for another purpose.
    #[error("the issuer is not `{}`", crate::ISSUER)]
    Issuer,
    /// Signed for another controller.
    #[error("the call is signed for another controller")]
    Audience,
    /// Signed for another process, which may be called at the same time as this one, or instead of it.
    #[error("the call is signed for another process of this controller")]
    Instance,
    /// Signed for another call.
    #[error("the call is signed for another method")]
    Method,
    /// Too late.
    #[error("the signature has expired (if the call is new, the clocks are too far apart)")]
    Expired,
    /// Too early.
    #[error("the signature is from the future: the clocks are too far apart")]
    FromTheFuture,
    /// It would have to be remembered for too long.
    #[error("the signature is good for longer than one may be")]
    LongLived,
    /// Whether it was used is not known any more.
    #[error("the call was signed before this process began")]
    BeforeTheStart,
    /// There has to be a hash of the body, or there must be none.
    #[error("the signature does not cover the body as this method needs it")]
    BodyNotCovered,
    /// The body is not the one that was signed.
    #[error("the body is not the one that was signed")]
    Body,
    /// Whatever it is, it is not read.
    #[error("the body is larger than {} bytes", crate::MAX_BODY)]
    BodyTooLarge,
    /// It broke off.
    #[error("the body did not arrive as a whole")]
    BodyIncomplete,
    /// The call was made before.
    #[error("the call was made before with the same signature")]
    Replayed,
    /// What was used cannot be remembered.
    #[error("too many calls at once")]
    TooMany,
}

impl Refusal {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotRegistered => "NOT_REGISTERED",
            Self::Unsigned => "CALL_UNSIGNED",
            Self::Malformed(_) => "CALL_MALFORMED",
            Self::Algorithm => "CALL_ALGORITHM",
            Self::UnknownKey => "CALL_KEY_UNKNOWN",
            Self::Signature => "CALL_SIGNATURE",
            Self::Issuer => "CALL_ISSUER",
            Self::Audience => "CALL_AUDIENCE",
            Self::Instance => "CALL_INSTANCE",
            Self::Method => "CALL_METHOD",
            Self::Expired => "CALL_EXPIRED",
            Self::FromTheFuture => "CALL_FROM_THE_FUTURE",
            Self::LongLived => "CALL_LONG_LIVED",
            Self::BeforeTheStart => "CALL_BEFORE_START",
            Self::BodyNotCovered => "CALL_BODY_NOT_COVERED",
            Self::Body => "CALL_BODY",
            Self::BodyTooLarge => "CALL_BODY_TOO_LARGE",
            Self::BodyIncomplete => "CALL_BODY_INCOMPLETE",
            Self::Replayed => "CALL_REPLAYED",
            Self::TooMany => "CALL_TOO_MANY",
        }
    }

    /// What the caller may make of it: all but what says nothing about the caller is "you have not shown who you are".
    pub fn code(&self) -> Code {
        match self {
            Self::NotRegistered => Code::Unavailable,
            Self::BodyTooLarge | Self::TooMany => Code::ResourceExhausted,
            Self::BodyIncomplete => Code::Cancelled,
            _ => Code::Unauthenticated,
        }
    }

    /// Notes it in the log.
    pub(crate) fn note(&self, method: &str, peer: Option<SocketAddr>) {
        let (reason, peer) = (self.reason(), peer.map(tracing::field::display));
        match self {
            // Between the registration and its answer: the API server looks at once.
            Self::NotRegistered => tracing::debug!(method, peer, reason, "a call is refused: {self}"),
            _ => tracing::warn!(method, peer, reason, "a call is refused: {self}"),
        }
    }

    pub(crate) fn status(&self) -> Status {
        let details = ErrorDetails::with_error_info(self.reason(), DOMAIN, HashMap::new());
        Status::with_error_details(self.code(), self.to_string(), details)
    }
}
