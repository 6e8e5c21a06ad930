//! Who calls, and what they may see.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, header};

use super::problem::Problem;
use crate::control::Shared;
use crate::domain::sha256_hex;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything.
    Admin,
    /// Everything about sessions and controllers.
    Operator,
    /// Their own sessions.
    User,
}

impl Role {
    /// A role that is not known gets no rights beyond its own sessions.
    fn parse(text: &str) -> Self {
        match text {
            "admin" => Self::Admin,
            "operator" => Self::Operator,
            _ => Self::User,
        }
    }
}

/// The authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The user.
    pub(super) user_id: String,
    /// What they may do.
    pub(super) role: Role,
}

impl Caller {
    /// Whether the caller may see and touch everything, and not only their own.
    pub(super) fn sees_all(&self) -> bool {
        self.role != Role::User
    }

    /// Whether a session of this user exists as far as the caller is concerned.
    pub(super) fn sees(&self, owner: &str) -> bool {
        self.sees_all() || owner == self.user_id
    }

    /// Refuses whoever is no operator.
    pub(super) fn require_operator(&self) -> Result<(), Problem> {
        if self.sees_all() { Ok(()) } else { Err(Problem::forbidden("only operators may see this")) }
    }
}

/// Lets only requests with a valid token through, and says whose they are.
pub(super) async fn authenticate(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let token = bearer(request.headers())
        .ok_or_else(|| Problem::unauthorized("expected the header Authorization: Bearer <token>"))?;
    let caller = caller_of(&shared, token).await?;
    tracing::Span::current().record("user", &caller.user_id);
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Whose token this is.
pub(super) async fn caller_of(shared: &Shared, token: &str) -> Result<Caller, Problem> {
    // Only the hash is looked up: how long the search takes says nothing about the token.
    let owner = shared.store.token_owner(&sha256_hex(token)).await?;
    let owner = owner.ok_or_else(|| Problem::unauthorized("the token is not valid"))?;
    Ok(Caller { user_id: owner.user_id, role: Role::parse(&owner.role) })
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn bearer_tokens() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer abc").as_deref(), Some("abc"));
        for bad in ["abc", "Bearer", "Bearer ", "Basic abc", ""] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
