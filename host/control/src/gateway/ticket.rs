//! From an API token to a browser: a ticket in a URL, good once and only for seconds.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, Uri, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::Gateway;
use super::address::Address;
use super::authorize::{LIFETIME, is_secure, set_cookie};
use crate::domain::{SessionId, now, sha256_hex};
use crate::rest::auth::Caller;
use crate::rest::credential::fresh_secret;
use crate::rest::extract::{Json, NoParameters, Path, Query};
use crate::rest::openapi::Refused;
use crate::rest::problem::Problem;
use crate::rest::sessions::VisibleSession;
use crate::store::{AccessGrant, GrantKind};

/// The query parameter.
const PARAMETER: &str = "streamspace_ticket";
/// Time enough for a browser to start.
const TICKET_LIFETIME: chrono::Duration = chrono::Duration::seconds(60);

/// A ticket for a session, at its creation.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionTicket)]
struct Issued {
    /// Opens the session in a browser.
    url: String,
    /// Good once, for this session.
    ticket: String,
    /// Until when it is good.
    expires_at: DateTime<Utc>,
}

/// Make a ticket for a session
///
/// And a URL that opens the session in a browser with it.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/tickets",
    operation_id = "create_session_ticket",
    tag = "Access",
    params(VisibleSession),
    responses(
        (
            status = 201,
            body = Issued,
            description = "The ticket.",
            headers(("Cache-Control" = String, description = "`no-store`: whoever reads it can use it.")),
        ),
        Refused<400>,
        Refused<503>,
    ),
)]
pub(super) async fn issue(
    State(gateway): State<Arc<Gateway>>,
    Extension(caller): Extension<Caller>,
    _: Query<NoParameters>,
    Path(VisibleSession(session_id)): Path<VisibleSession>,
) -> Result<Response, Problem> {
    let store = &gateway.shared.store;
    let ticket = fresh_secret();
    let expires_at = now() + TICKET_LIFETIME;
    let url = format!("/s/{session_id}/?{PARAMETER}={ticket}");
    let by = caller.actor();
    let grant = AccessGrant { session_id, user_id: caller.user_id, expires_at };
    store.grant_access(by, &sha256_hex(&ticket), GrantKind::Ticket, grant).await?;
    let body = Json(Issued { url, ticket, expires_at });
    // Whoever reads it can use it.
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], body).into_response())
}

/// Exchanges the ticket of a request, if it has one, for a cookie, and sends the browser to the same URL without it.
pub(super) async fn redeem(
    gateway: &Gateway,
    address: &Address,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Response>, Problem> {
    let Some((ticket, query)) = uri.query().and_then(take_parameter) else { return Ok(None) };
    let cookie = fresh_secret();
    let store = &gateway.shared.store;
    let grant = store.redeem_ticket(&sha256_hex(&ticket), &sha256_hex(&cookie), now() + LIFETIME).await?;
    if grant.is_none_or(|grant| grant.session_id != address.session) {
        return Err(Problem::unauthorized(
            "the ticket was used before, has expired, or is for another session",
        ));
    }
    let separator = if query.is_empty() { "" } else { "?" };
    let to = format!("{}{separator}{query}", uri.path());
    let mut response = Redirect::to(&to).into_response();
    let cookie = set_cookie(&address.session, &cookie, is_secure(headers));
    let cookie = cookie.parse().map_err(|_| Problem::internal())?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(Some(response))
}

/// Takes a ticket that stands in the query of an API call, for clients that cannot set headers.
pub(super) async fn admit(gateway: &Gateway, session: &SessionId, uri: &Uri) -> Result<bool, Problem> {
    let Some((ticket, _)) = uri.query().and_then(take_parameter) else { return Ok(false) };
    let unused = sha256_hex(fresh_secret());
    let grant = gateway.shared.store.redeem_ticket(&sha256_hex(&ticket), &unused, now()).await?;
    Ok(grant.is_some_and(|grant| grant.session_id == *session))
}

/// The ticket of a query, and the query without it.
fn take_parameter(query: &str) -> Option<(String, String)> {
    let mut ticket = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.split_once('=') {
            Some((PARAMETER, value)) => {
                ticket = Some(value.to_owned());
                false
            }
            _ => true,
        })
        .collect();
    ticket.map(|ticket| (ticket, rest.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticket_is_taken_out_of_the_query() {
        assert_eq!(take_parameter("a=1&b"), None);
        assert_eq!(take_parameter("streamspace_ticket=x"), Some(("x".into(), "".into())));
        assert_eq!(take_parameter("a=1&streamspace_ticket=x&b=%20"), Some(("x".into(), "a=1&b=%20".into())));
    }
}
