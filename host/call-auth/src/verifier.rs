//! The controller's side.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};

use crate::token::{Claims, Unverified, body_hash, unix_now};
use crate::trust::Trust;
use crate::{ISSUER, LIFETIME, MAX_BODY, Refusal, SKEW, is_streamed};

/// How long a body may take to arrive. Only who is trusted gets so far.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// Lets in signed calls only. What it is laid around is closed to everybody else; health and reflection are services of
/// their own, beside it.
#[derive(Clone)]
pub struct VerifierLayer {
    trust: Arc<Trust>,
}

impl VerifierLayer {
    /// Lets in whom this trusts.
    pub fn new(trust: Arc<Trust>) -> Self {
        Self { trust }
    }

    /// The call, if it passes all checks. Of an unsigned one no body is read.
    async fn admit(&self, request: Request<Body>) -> Result<Request<Body>, Refusal> {
        let controller_id = self.trust.controller_id()?;
        let (head, body) = request.into_parts();
        let token = Unverified::parse(bearer(&head.headers)?)?;
        let key = self.trust.key(&token.kid).await?;
        let claims = token.verify(&key)?;
        self.check(&claims, &controller_id, head.uri.path(), unix_now())?;
        let body = match &claims.bdy {
            None => body,
            Some(hash) => {
                let bytes = collect(body).await?;
                if body_hash(&bytes) != *hash {
                    return Err(Refusal::Body);
                }
                Body::new(Full::new(bytes))
            }
        };
        // Last: a call that was refused for another reason may be made again.
        self.trust.used.once(claims.jti, claims.exp, unix_now())?;
        Ok(Request::from_parts(head, body))
    }

    fn check(&self, claims: &Claims, controller_id: &str, method: &str, now: u64) -> Result<(), Refusal> {
        let skew = SKEW.as_secs();
        if claims.iss != ISSUER {
            return Err(Refusal::Issuer);
        }
        if claims.aud != controller_id {
            return Err(Refusal::Audience);
        }
        if !self.trust.is_meant(claims.ins.as_deref()) {
            return Err(Refusal::Instance);
        }
        if claims.mth != method {
            return Err(Refusal::Method);
        }
        if claims.bdy.is_some() == is_streamed(method) {
            return Err(Refusal::BodyNotCovered);
        }
        if claims.exp > claims.iat.saturating_add(LIFETIME.as_secs()) {
            return Err(Refusal::LongLived);
        }
        if claims.iat > now.saturating_add(skew) {
            return Err(Refusal::FromTheFuture);
        }
        if claims.exp.saturating_add(skew) < now {
            return Err(Refusal::Expired);
        }
        // An earlier process of this controller may have served it, and what it remembered went with it.
        if claims.iat.saturating_add(skew) < self.trust.since {
            return Err(Refusal::BeforeTheStart);
        }
        Ok(())
    }
}

/// The one token.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return Err(Refusal::Unsigned) };
    let text = value.to_str().map_err(|_| Refusal::Malformed("it is no text"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Refusal::Unsigned),
    }
}

async fn collect(body: Body) -> Result<tonic::codegen::Bytes, Refusal> {
    match tokio::time::timeout(BODY_PATIENCE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge),
        Ok(Err(_)) | Err(_) => Err(Refusal::BodyIncomplete),
    }
}

impl<S> Layer<S> for VerifierLayer {
    type Service = Verifier<S>;

    fn layer(&self, inner: S) -> Verifier<S> {
        Verifier { inner, layer: self.clone() }
    }
}

/// See [`VerifierLayer`].
#[derive(Clone)]
pub struct Verifier<S> {
    inner: S,
    layer: VerifierLayer,
}

impl<S> Service<Request<Body>> for Verifier<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is called; its copy has to become so.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let method = request.uri().path().to_owned();
            let peer = request.extensions().get().and_then(TcpConnectInfo::remote_addr);
            match layer.admit(request).await {
                Ok(request) => inner.call(request).await,
                Err(refusal) => {
                    refusal.note(&method, peer);
                    Ok(refusal.status().into_http())
                }
            }
        })
    }
}

impl<S: NamedService> NamedService for Verifier<S> {
    const NAME: &'static str = S::NAME;
}
