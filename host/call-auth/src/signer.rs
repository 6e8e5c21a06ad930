//! The caller's side.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tower::{BoxError, Layer, Service};

use crate::token::Claims;
use crate::{SigningKey, is_streamed};

/// Signs all calls that pass through it, for one controller or one process of it.
#[derive(Debug, Clone)]
pub struct SignerLayer {
    key: Arc<SigningKey>,
    audience: Arc<str>,
    instance: Option<Arc<str>>,
}

impl SignerLayer {
    /// Signs with this key for the controller of this id.
    pub fn new(key: Arc<SigningKey>, controller_id: impl Into<Arc<str>>) -> Self {
        Self { key, audience: controller_id.into(), instance: None }
    }

    /// Signs for this process of the controller, and for no other; one without a name is the one and only.
    pub fn for_instance(self, instance: &str) -> Self {
        Self { instance: Some(instance).filter(|name| !name.is_empty()).map(Arc::from), ..self }
    }

    async fn sign(&self, request: Request<Body>) -> Result<Request<Body>, BoxError> {
        let (mut head, body) = request.into_parts();
        let method = head.uri.path();
        let (claims, body) = if is_streamed(method) {
            (Claims::of_call(&self.audience, method, None), body)
        } else {
            let bytes = body.collect().await?.to_bytes();
            let claims = Claims::of_call(&self.audience, method, Some(&bytes));
            (claims, Body::new(Full::new(bytes)))
        };
        let claims = Claims { ins: self.instance.as_deref().map(str::to_owned), ..claims };
        let mut value = HeaderValue::try_from(format!("Bearer {}", claims.sign(&self.key)?))?;
        value.set_sensitive(true);
        head.headers.insert(AUTHORIZATION, value);
        Ok(Request::from_parts(head, body))
    }
}

impl<S> Layer<S> for SignerLayer {
    type Service = Signer<S>;

    fn layer(&self, inner: S) -> Signer<S> {
        Signer { inner, layer: self.clone() }
    }
}

/// See [`SignerLayer`].
#[derive(Debug, Clone)]
pub struct Signer<S> {
    inner: S,
    layer: SignerLayer,
}

impl<S> Service<Request<Body>> for Signer<S>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is called; its copy has to become so.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let request = layer.sign(request).await?;
            inner.call(request).await.map_err(Into::into)
        })
    }
}
