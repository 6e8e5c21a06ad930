//! Who calls, and what they may see.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{Extensions, HeaderMap, header};
use tower_http::request_id::RequestId;

use super::authenticator::{Authenticator, Identity};
use super::credential::Credential;
use super::problem::Problem;
use crate::control::Shared;
use crate::domain::{Actor, Role, Token, shortened};

/// The authenticated caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) user_id: String,
    /// What they may do.
    pub(crate) role: Role,
    /// The token they call with.
    pub(crate) token: Token,
    /// The request they call with, as the log has it.
    pub(crate) request_id: Option<String>,
}

impl Caller {
    /// Whose the changes are that this request makes.
    pub(crate) fn actor(&self) -> Actor {
        Actor::caller(&self.user_id, self.role, &self.token, self.request_id.clone())
    }

    /// Whether the caller may see and touch everything, and not only their own.
    pub(crate) fn sees_all(&self) -> bool {
        self.role >= Role::Operator
    }

    /// Whether a session of this user exists as far as the caller is concerned.
    pub(crate) fn sees(&self, owner: &str) -> bool {
        self.sees_all() || owner == self.user_id
    }

    /// Whether it is the same user who may see the same. What else is known of a token changes with its use.
    pub(super) fn sees_as(&self, other: &Self) -> bool {
        (&self.user_id, self.role) == (&other.user_id, other.role)
    }
}

/// A caller who may see and touch everything but accounts; all others are refused.
pub(crate) struct Operator(pub(crate) Caller);

/// A caller who may do everything; all others are refused.
pub(crate) struct Admin(pub(crate) Caller);

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(authenticated(parts)?)
    }
}

impl Operator {
    /// The caller, if they are one.
    pub(crate) fn of(caller: Caller) -> Result<Self, Problem> {
        if caller.sees_all() {
            Ok(Self(caller))
        } else {
            Err(Problem::forbidden("only operators may do this"))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = authenticated(parts)?;
        if caller.role == Role::Admin {
            Ok(Self(caller))
        } else {
            Err(Problem::forbidden("only administrators may do this"))
        }
    }
}

/// The caller that [`authenticate`] found. A route that is not behind it has none, which is a fault of ours.
pub(super) fn authenticated(parts: &Parts) -> Result<Caller, Problem> {
    parts.extensions.get::<Caller>().cloned().ok_or_else(Problem::internal)
}

/// Lets only requests with a valid token through, and says whose they are.
pub(crate) async fn authenticate(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = who(&shared, request.headers(), request.extensions()).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Who makes a request, if its token is valid.
pub(crate) async fn who(
    shared: &Shared,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Caller, Problem> {
    let token = bearer(headers)
        .ok_or_else(|| Problem::unauthorized("expected the header Authorization: Bearer <token>"))?;
    let request_id = extensions.get::<RequestId>();
    let request_id = request_id.and_then(|id| id.header_value().to_str().ok()).map(shortened);
    let caller = Caller { request_id, ..caller_of(shared, &Credential::of(token)).await? };
    tracing::Span::current().record("user", &caller.user_id);
    Ok(caller)
}

/// Whose token it is, if it is a valid one.
pub(crate) async fn caller(shared: &Shared, token: &Credential) -> Result<Option<Caller>, Problem> {
    let identity = Authenticator::new(&shared.store).identify(token).await?;
    Ok(identity.map(|Identity { user_id, role, token }| Caller { user_id, role, token, request_id: None }))
}

/// Whose token it is; whoever has none that is valid is refused.
pub(super) async fn caller_of(shared: &Shared, token: &Credential) -> Result<Caller, Problem> {
    caller(shared, token).await?.ok_or_else(|| Problem::unauthorized("the token is not valid"))
}

/// The token of a request, if it carries exactly one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
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
