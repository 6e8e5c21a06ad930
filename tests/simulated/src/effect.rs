//! What really happened, and on whose behalf.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::world::Refusal;

/// Who asks for a change, in the client's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caller {
    pub(crate) operation: String,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    pub(crate) request: String,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let text = |name: &str| match parts.headers.get(name) {
            None => Ok(String::new()),
            Some(value) => value
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Refusal::Invalid(format!("the header {name} is not text"))),
        };
        let number = |name: &str| match text(name)?.as_str() {
            "" => Ok(0),
            digits => digits.parse().map_err(|_| Refusal::Invalid(format!("the header {name} is no number"))),
        };
        Ok(Self {
            operation: text("x-operation-id")?,
            generation: number("x-generation")?,
            epoch: number("x-epoch")?,
            request: text("x-request-id")?,
        })
    }
}

/// What kind of change it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EffectKind {
    #[serde(rename = "home.made")]
    HomeMade,
    #[serde(rename = "home.removed")]
    HomeRemoved,
    #[serde(rename = "box.made")]
    BoxMade,
    #[serde(rename = "box.started")]
    BoxStarted,
    #[serde(rename = "box.stopped")]
    BoxStopped,
    #[serde(rename = "box.removed")]
    BoxRemoved,
    /// It ended by itself.
    #[serde(rename = "box.crashed")]
    BoxCrashed,
    /// A change got stuck half way.
    #[serde(rename = "box.broken")]
    BoxBroken,
}

/// Who made the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// A client.
    Api,
    /// Somebody who is no client.
    Hand,
    /// Nobody: the box did it.
    Itself,
}

/// A change that took effect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Effect {
    /// Counts from 1 without gaps.
    pub(crate) seq: u64,
    /// Milliseconds since 1970 (UTC).
    pub(crate) at_ms: u64,
    pub(crate) kind: EffectKind,
    pub(crate) name: String,
    pub(crate) uid: u64,
    pub(crate) session: String,
    pub(crate) controller: String,
    pub(crate) origin: Origin,
    #[serde(flatten)]
    pub(crate) caller: Caller,
}

/// What a change is called and who made it; the rest of the [`Effect`] comes from the object.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) kind: EffectKind,
    pub(crate) origin: Origin,
    pub(crate) caller: Caller,
}

impl Cause {
    pub(crate) fn api(kind: EffectKind, caller: Caller) -> Self {
        Self { kind, origin: Origin::Api, caller }
    }

    pub(crate) fn hand(kind: EffectKind) -> Self {
        Self { kind, origin: Origin::Hand, caller: Caller::default() }
    }
}
