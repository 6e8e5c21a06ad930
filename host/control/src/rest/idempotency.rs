//! `Idempotency-Key`: a request that can be sent again without anything happening twice.

use axum::extract::FromRequestParts;
use http::request::Parts;
use utoipa::IntoParams;

use super::auth::Caller;
use super::extract::Serves;
use super::problem::{FieldError, Problem};
use crate::control::Shared;
use crate::domain::sha256_hex;
use crate::store::IdempotencyKey;

/// The header.
const HEADER: &str = "idempotency-key";
/// The longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// The key that makes a request repeatable, if it has one.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct RepeatKey {
    /// Makes the request repeatable: the same caller with the same key and the same request gets the first answer again,
    /// for 24 h. Use a fresh UUID for each thing that is to happen.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    key: Option<String>,
}

impl<S: Serves> FromRequestParts<S> for RepeatKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(Self { key: None }) };
        let key = value.to_str().ok().filter(|key| is_key(key)).filter(|_| values.next().is_none());
        let key = key.ok_or_else(|| {
            let message = format!("must be given once, with 1 to {LONGEST_KEY} visible ASCII characters");
            Problem::bad_request(vec![FieldError::new("Idempotency-Key", message)])
        })?;
        Ok(Self { key: Some(key.to_owned()) })
    }
}

fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len())
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

impl RepeatKey {
    /// The key as a field of a message has it. HTTP trims what it has.
    pub(crate) fn of_field(key: Option<String>) -> Result<Self, Problem> {
        if key.as_deref().is_none_or(|key| is_key(key) && key.trim() == key) {
            return Ok(Self { key });
        }
        let message = format!("must have 1 to {LONGEST_KEY} visible ASCII characters");
        Err(Problem::bad_request(vec![FieldError::new("idempotency_key", message)]))
    }

    /// The caller's key, bound to what they want: with it nothing else can be asked for.
    pub(crate) fn bound_to(self, wanted: &[u8], caller: &Caller, shared: &Shared) -> Option<IdempotencyKey> {
        self.key.map(|key| IdempotencyKey {
            caller: caller.user_id.clone(),
            key,
            body_hash: sha256_hex(wanted),
            keep: shared.config.keep_idempotency_keys,
        })
    }
}
