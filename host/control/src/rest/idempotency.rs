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
pub(super) struct RepeatKey {
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
        let visible = |key: &&str| key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let key = value.to_str().ok().filter(visible).filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
        match key.filter(|_| values.next().is_none()) {
            Some(key) => Ok(Self { key: Some(key.to_owned()) }),
            None => Err(Problem::bad_request(vec![FieldError::new(
                "Idempotency-Key",
                format!("must be given once, with 1 to {LONGEST_KEY} visible ASCII characters"),
            )])),
        }
    }
}

impl RepeatKey {
    /// The caller's key, bound to what they want: with it nothing else can be asked for.
    pub(super) fn bound_to(self, wanted: &[u8], caller: &Caller, shared: &Shared) -> Option<IdempotencyKey> {
        self.key.map(|key| IdempotencyKey {
            caller: caller.user_id.clone(),
            key,
            body_hash: sha256_hex(wanted),
            keep: shared.config.keep_idempotency_keys,
        })
    }
}
