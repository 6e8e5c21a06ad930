//! The place of the plugin that serves a controller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use streamspace_runtime::contract::plugin::Report;
use streamspace_runtime::{Backend, CallError, CallOptions};
use tonic::Status;

use crate::breaker::{Breaker, Failing, Subject};
use crate::status;

/// Holds the backend that serves a controller, and lets it be replaced while calls are under way: they end on the one
/// that they began on, and the next ones begin on the new one. The old one goes when its last call has ended.
pub struct Slot {
    occupant: ArcSwap<Occupant>,
}

enum Occupant {
    Serving { backend: Backend, breaker: Breaker },
    Vacant { reason: String },
}

/// Why no call gets to a plugin.
pub(crate) enum Closed {
    /// There is none.
    Vacant(String),
    /// It keeps failing.
    Failing(Failing),
}

impl Slot {
    /// A slot with a backend in it.
    pub fn new(backend: Backend) -> Arc<Self> {
        Arc::new(Self { occupant: ArcSwap::from_pointee(Occupant::serving(backend)) })
    }

    /// A slot that waits for its first backend. Calls are refused until then, with this reason.
    pub fn vacant(reason: impl Into<String>) -> Arc<Self> {
        let vacant = Occupant::Vacant { reason: reason.into() };
        Arc::new(Self { occupant: ArcSwap::from_pointee(vacant) })
    }

    /// Lets another backend serve from now on. It should have been bound to the same
    /// [`Seat`](streamspace_runtime::Seat): that keeps two mutations of one session apart.
    pub fn replace(&self, backend: Backend) {
        self.occupant.store(Arc::new(Occupant::serving(backend)));
    }

    /// Takes the backend out of service. Calls are refused from now on, with this reason.
    pub fn vacate(&self, reason: impl Into<String>) {
        self.occupant.store(Arc::new(Occupant::Vacant { reason: reason.into() }));
    }

    /// How the plugin fails, if it does.
    pub fn failing(&self) -> Option<Failing> {
        match self.occupant.load().as_ref() {
            Occupant::Serving { breaker, .. } => breaker.failing(),
            Occupant::Vacant { .. } => None,
        }
    }

    /// Whether there is a backend.
    pub fn is_vacant(&self) -> bool {
        matches!(self.occupant.load().as_ref(), Occupant::Vacant { .. })
    }

    /// Looks at the backend, as a caller would.
    pub async fn check(&self, timeout: Duration) -> Result<Report, Status> {
        let call = |backend: Backend| async move { backend.check(CallOptions::read(timeout)).await };
        self.call(Subject::Backend, call).await
    }

    /// Waits until no mutation is under way: see [`Backend::idle`].
    pub async fn idle(&self) {
        let backend = match self.occupant.load().as_ref() {
            Occupant::Serving { backend, .. } => backend.clone(),
            Occupant::Vacant { .. } => return,
        };
        backend.idle().await;
    }

    /// Calls the backend that serves now.
    pub(crate) async fn call<T, F>(
        &self,
        subject: Subject<'_>,
        call: impl FnOnce(Backend) -> F + Send,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, CallError>> + Send,
    {
        let occupant = self.occupant.load_full();
        let (backend, breaker) = occupant.enter().map_err(|closed| closed.status())?;
        let result = call(backend.clone()).await;
        breaker.note(subject, &result, Instant::now());
        result.map_err(|error| status::of_call_error(&error))
    }

    /// The backend that serves now.
    pub(crate) fn enter(&self) -> Result<Backend, Closed> {
        self.occupant.load().enter().map(|(backend, _)| backend.clone())
    }
}

impl Occupant {
    fn serving(backend: Backend) -> Self {
        Self::Serving { backend, breaker: Breaker::default() }
    }

    fn enter(&self) -> Result<(&Backend, &Breaker), Closed> {
        match self {
            Self::Vacant { reason } => Err(Closed::Vacant(reason.clone())),
            Self::Serving { backend, breaker } => match breaker.pause(Instant::now()) {
                Some(failing) => Err(Closed::Failing(failing)),
                None => Ok((backend, breaker)),
            },
        }
    }
}

impl Closed {
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Vacant(reason) => status::unavailable("PLUGIN_REMOVED", reason, None),
            Self::Failing(failing) => {
                let pause = failing.until.saturating_duration_since(Instant::now());
                status::unavailable("PLUGIN_FAILING", &failing.to_string(), Some(pause))
            }
        }
    }
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the plugin keeps failing ({}) and is left alone for a while", self.reason)
    }
}
