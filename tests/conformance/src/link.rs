//! The way to a controller: any transport, with a switch that loses answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use streamspace_shell::Transport;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::{BoxError, Service, ServiceExt as _};

/// A transport to a controller that serves on a socket, e.g. `http://127.0.0.1:50051`.
///
/// # Errors
///
/// When the address is none, or nobody answers there.
pub async fn connect(address: &str) -> Result<Transport, BoxError> {
    let channel: Channel = Endpoint::new(address.to_owned())?.connect().await?;
    Ok(Transport::new(channel.map_err(BoxError::from)))
}

/// Loses the answer of the next call, once it is told to: the call itself has arrived and took effect.
#[derive(Debug, Default)]
pub(crate) struct Loss(AtomicBool);

impl Loss {
    pub(crate) fn of_the_next_answer(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A transport with a [`Loss`] on it.
#[derive(Clone)]
pub(crate) struct Link {
    inner: Transport,
    loss: Arc<Loss>,
}

impl Link {
    pub(crate) fn over(inner: Transport, loss: Arc<Loss>) -> Transport {
        Transport::new(Self { inner, loss })
    }
}

impl Service<http::Request<Body>> for Link {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        let lost = self.loss.0.swap(false, Ordering::SeqCst);
        Box::pin(async move {
            let answer = answer.await?;
            if lost { Err("the answer was lost on the way".into()) } else { Ok(answer) }
        })
    }
}
