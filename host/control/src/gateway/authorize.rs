//! Who may reach a session.

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, header};

use crate::control::Shared;
use crate::domain::{SessionId, now, sha256_hex};
use crate::rest::auth::{bearer, caller};
use crate::rest::credential::{Credential, is_secret};
use crate::rest::problem::Problem;
use crate::store::GrantKind;

/// Carries the right to reach one session; its path is the session's.
pub(super) const COOKIE: &str = "streamspace-access";
/// How long such a right lasts after its last use, within half of this.
pub(super) const LIFETIME: chrono::Duration = chrono::Duration::hours(1);

/// So many cookies of our name are looked at.
const MOST_COOKIES: usize = 8;

/// How a visitor proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Visitor {
    /// With an API token, which the session must not see.
    Token,
    /// With a cookie that needs nothing.
    Cookie,
    /// With a cookie that is to be set anew.
    AgingCookie(String),
}

impl Visitor {
    /// Refuses a WebSocket that a page of another server opens with the cookie of this one: browsers do not keep pages
    /// from that, and between the ports of one host they send the cookie along.
    pub(super) fn check_origin(
        &self,
        headers: &HeaderMap,
        host: Option<&HeaderValue>,
    ) -> Result<(), Problem> {
        let Some(origin) = headers.get(header::ORIGIN).filter(|_| *self != Self::Token) else {
            return Ok(());
        };
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let is_ours = origin
            .zip(host)
            .is_some_and(|((_, origin), host)| origin.as_bytes().eq_ignore_ascii_case(host.as_bytes()));
        if is_ours {
            return Ok(());
        }
        Err(Problem::forbidden(
            "the page that opens this connection is not from this server, as far as Host and Origin say",
        ))
    }
}

/// Lets a visitor to a session, or says why not. A session that they may not see does not exist for them.
pub(super) async fn authorize(
    shared: &Shared,
    session: &SessionId,
    headers: &HeaderMap,
) -> Result<Visitor, Problem> {
    // An application may use the header for itself; only a token of ours opens with it.
    if let Some(token) = bearer(headers)
        && let Some(caller) = caller(shared, &Credential::of(token)).await?
    {
        let owner = shared.store.session_owner(session).await?;
        return match owner {
            Some(owner) if caller.sees(&owner) => Ok(Visitor::Token),
            _ => Err(Problem::not_found("there is no session with this id")),
        };
    }
    for value in cookies(headers) {
        let hash = sha256_hex(value);
        let Some(grant) = shared.store.access_grant(&hash, GrantKind::Cookie).await? else { continue };
        if grant.session_id != *session {
            continue;
        }
        if is_aging(grant.expires_at) {
            shared.store.extend_access(&hash, now() + LIFETIME).await?;
            return Ok(Visitor::AgingCookie(value.to_owned()));
        }
        return Ok(Visitor::Cookie);
    }
    Err(Problem::unauthorized(
        "open the session from the web interface or with `streamspace session open`, or send an API token",
    ))
}

fn is_aging(expires_at: DateTime<Utc>) -> bool {
    expires_at - now() < LIFETIME / 2
}

/// The values of our cookie: a browser may hold several of one name, as pages of sessions can set them. More than some,
/// or others than we give, are not worth a look into the store.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let values = pairs.flat_map(|pairs| pairs.split(';')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == COOKIE).then_some(value.trim())
    });
    values.filter(|value| is_secret(value)).take(MOST_COOKIES)
}

/// The header that gives a browser the right to one session.
pub(super) fn set_cookie(session: &SessionId, value: &str, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    let age = LIFETIME.num_seconds();
    format!("{COOKIE}={value}; Path=/s/{session}/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}")
}

/// Whether the browser came over TLS, as the proxy in front says: this server does not do TLS itself.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}
