//! A plugin bound to one controller, and the calls on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde_json::Value;
use streamspace_bindings::Backend as Instance;
use streamspace_bindings::exports::streamspace::backend::lifecycle::{EventPage, SessionEntry, SessionPage};
use streamspace_bindings::exports::streamspace::backend::observe::{AccessPoint, LogPage, LogQuery};
use streamspace_bindings::exports::streamspace::backend::plugin::Report;
use streamspace_bindings::types::{self, ErrorKind, Outcome, SessionRef, SessionRequest, Usage};
use tracing::Instrument as _;
use wasmtime::Store;

use crate::call::{self, CallState, Context};
use crate::error::{BindError, CallError};
use crate::fence::Fence;
use crate::grants::{EndpointConfig, SecretSource};
use crate::limits::LimitOverrides;
use crate::load::Plugin;
use crate::permits::CallKind;
use crate::seat::{Seat, SeatInner};

/// What the operator's configuration says of one controller.
#[derive(Clone, Debug, Default)]
pub struct BackendConfig {
    /// The controller's id: the mark on everything it makes.
    pub controller_id: String,
    /// Settings for the plugin, validated against its schema. Null counts as an empty object.
    pub config: Value,
    /// Targets of the endpoints it asks for.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// Sources of the secrets it asks for.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Limits instead of those that its manifest asks for.
    pub limits: LimitOverrides,
    /// Whose calls may change anything; none = everybody's.
    pub fence: Fence,
}

/// What a call comes with.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// How long it may take.
    pub timeout: Duration,
    /// Stable over the retries of one operation; empty for reads.
    pub operation_id: String,
    /// The wish it serves; 0 for reads.
    pub generation: u64,
    /// Fencing number of the caller's lease; 0 where none is in use.
    pub epoch: u64,
}

impl CallOptions {
    /// For calls that only look.
    pub fn read(timeout: Duration) -> Self {
        Self { timeout, operation_id: String::new(), generation: 0, epoch: 0 }
    }
}

/// A plugin bound to one controller. Cheap to clone. Permits and locks belong to the [`Seat`].
#[derive(Clone)]
pub struct Backend {
    inner: Arc<BackendInner>,
}

struct BackendInner {
    seat: Arc<SeatInner>,
    plugin: Plugin,
    context: Arc<Context>,
}

/// Largest handle of long work, in bytes. It stands in the caller's database.
pub const MAX_HANDLE: usize = 64 << 10;

/// Least time with which a mutation begins. With less it would most likely be given up half-way, and nobody would know
/// what became of it.
const LEAST_TIME: Duration = Duration::from_millis(50);

type CallResult<T> = wasmtime::Result<Result<T, types::Error>>;

impl Backend {
    /// Checks the grants against the manifest and the configuration against the plugin, and binds them.
    pub async fn bind(plugin: Plugin, config: BackendConfig) -> Result<Self, BindError> {
        Seat::among(&plugin.inner.instances, config)?.bind(plugin).await
    }

    pub(crate) fn on(seat: Seat, plugin: Plugin, context: Context) -> Self {
        Self { inner: Arc::new(BackendInner { seat: seat.inner, plugin, context: Arc::new(context) }) }
    }

    /// Waits until no mutation is under way on its seat: see [`Seat::idle`].
    pub async fn idle(&self) {
        Seat { inner: Arc::clone(&self.inner.seat) }.idle().await;
    }

    /// The plugin behind it.
    pub fn plugin(&self) -> &Plugin {
        &self.inner.plugin
    }

    /// Empties the plugin's cache, as a restart would. It may be empty at any time; this is for those who check that.
    pub fn wipe_state(&self) {
        self.inner.context.state.clear();
    }

    /// Looks at the backend: health, capabilities, capacity.
    pub async fn check(&self, options: CallOptions) -> Result<Report, CallError> {
        self.look(CallKind::Read, options, |instance, store, call| {
            Box::pin(async move { instance.streamspace_backend_plugin().call_check(store, call).await })
        })
        .await
    }

    /// Makes a session, or finds it.
    pub async fn create(
        &self,
        options: CallOptions,
        request: SessionRequest,
        handle: Option<Vec<u8>>,
    ) -> Result<Outcome, CallError> {
        self.mutate(request.session_id.clone(), options, |instance, store, call| {
            Box::pin(async move {
                let lifecycle = instance.streamspace_backend_lifecycle();
                lifecycle.call_create(store, call, &request, handle.as_deref()).await
            })
        })
        .await
    }

    /// One session as the backend shows it.
    pub async fn get(&self, options: CallOptions, session: SessionRef) -> Result<SessionEntry, CallError> {
        self.look(CallKind::Read, options, |instance, store, call| {
            Box::pin(
                async move { instance.streamspace_backend_lifecycle().call_get(store, call, &session).await },
            )
        })
        .await
    }

    /// A page of everything this controller owns or could adopt.
    pub async fn list(
        &self,
        options: CallOptions,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<SessionPage, CallError> {
        self.look(CallKind::Read, options, move |instance, store, call| {
            Box::pin(async move {
                let lifecycle = instance.streamspace_backend_lifecycle();
                lifecycle.call_list(store, call, cursor.as_deref(), limit).await
            })
        })
        .await
    }

    /// A page of events.
    pub async fn watch(
        &self,
        options: CallOptions,
        cursor: Option<String>,
        wait: Duration,
    ) -> Result<EventPage, CallError> {
        self.look(CallKind::LongPoll, options, move |instance, store, call| {
            Box::pin(async move {
                let lifecycle = instance.streamspace_backend_lifecycle();
                lifecycle.call_watch(store, call, cursor.as_deref(), millis(wait)).await
            })
        })
        .await
    }

    /// Removes a session's objects; `purge_home` is the key of a home to remove as well.
    pub async fn delete(
        &self,
        options: CallOptions,
        session: SessionRef,
        purge_home: Option<String>,
        handle: Option<Vec<u8>>,
    ) -> Result<Outcome, CallError> {
        self.mutate(session.session_id.clone(), options, |instance, store, call| {
            Box::pin(async move {
                let lifecycle = instance.streamspace_backend_lifecycle();
                lifecycle.call_delete(store, call, &session, purge_home.as_deref(), handle.as_deref()).await
            })
        })
        .await
    }

    /// Stops a session so that it can go on.
    pub async fn hibernate(
        &self,
        options: CallOptions,
        session: SessionRef,
        handle: Option<Vec<u8>>,
    ) -> Result<Outcome, CallError> {
        self.mutate(session.session_id.clone(), options, |instance, store, call| {
            Box::pin(async move {
                let lifecycle = instance.streamspace_backend_lifecycle();
                lifecycle.call_hibernate(store, call, &session, handle.as_deref()).await
            })
        })
        .await
    }

    /// Starts a hibernated session.
    pub async fn wake(
        &self,
        options: CallOptions,
        session: SessionRef,
        handle: Option<Vec<u8>>,
    ) -> Result<Outcome, CallError> {
        self.mutate(session.session_id.clone(), options, |instance, store, call| {
            Box::pin(async move {
                let lifecycle = instance.streamspace_backend_lifecycle();
                lifecycle.call_wake(store, call, &session, handle.as_deref()).await
            })
        })
        .await
    }

    /// What a session uses.
    pub async fn metrics(&self, options: CallOptions, session: SessionRef) -> Result<Usage, CallError> {
        self.look(CallKind::Read, options, |instance, store, call| {
            Box::pin(async move {
                instance.streamspace_backend_observe().call_metrics(store, call, &session).await
            })
        })
        .await
    }

    /// A page of a session's output.
    pub async fn logs(
        &self,
        options: CallOptions,
        session: SessionRef,
        query: LogQuery,
    ) -> Result<LogPage, CallError> {
        let kind = if query.wait_ms > 0 { CallKind::LongPoll } else { CallKind::Read };
        self.look(kind, options, |instance, store, call| {
            Box::pin(async move {
                instance.streamspace_backend_observe().call_logs(store, call, &session, &query).await
            })
        })
        .await
    }

    /// How a session is reached now.
    pub async fn access(
        &self,
        options: CallOptions,
        session: SessionRef,
        service: Option<String>,
    ) -> Result<Vec<AccessPoint>, CallError> {
        self.look(CallKind::Read, options, |instance, store, call| {
            Box::pin(async move {
                let observe = instance.streamspace_backend_observe();
                observe.call_access(store, call, &session, service.as_deref()).await
            })
        })
        .await
    }

    /// Runs a call that only looks. Dropping the future ends it.
    async fn look<T>(
        &self,
        kind: CallKind,
        options: CallOptions,
        body: impl for<'a> FnOnce(
            &'a Instance,
            &'a mut Store<CallState>,
            &'a types::Call,
        ) -> BoxFuture<'a, CallResult<T>>
        + Send
        + 'static,
    ) -> Result<T, CallError> {
        self.inner.run(kind, Instant::now() + options.timeout, &options, body).await
    }

    /// Runs a call that changes something. It goes on when the caller goes away, and keeps the session's lock until
    /// it ends or its time is over: the backend may finish a request whose client has left, and the next call for
    /// this session must not overtake it.
    async fn mutate(
        &self,
        session: String,
        options: CallOptions,
        body: impl for<'a> FnOnce(
            &'a Instance,
            &'a mut Store<CallState>,
            &'a types::Call,
        ) -> BoxFuture<'a, CallResult<Outcome>>
        + Send
        + 'static,
    ) -> Result<Outcome, CallError> {
        let inner = Arc::clone(&self.inner);
        let deadline = Instant::now() + options.timeout;
        let detached = async move {
            let lock = tokio::time::timeout(options.timeout, inner.seat.sessions.acquire(&session)).await;
            let lock = lock.map_err(|_| CallError::Busy("mutations of this session"))?;
            let result = inner.run(CallKind::Mutation, deadline, &options, body).await;
            if is_unfinished(&result) && remaining(deadline) <= call::LAST_WORDS.1 {
                inner.seat.mutations.spawn(async move {
                    tokio::time::sleep_until(deadline.into()).await;
                    drop(lock);
                });
            }
            result
        };
        match self.inner.seat.mutations.spawn(detached.in_current_span()).await {
            Ok(result) => result.and_then(with_a_handle_that_fits),
            Err(panic) => Err(CallError::Trapped(format!("the host failed during the call: {panic}"))),
        }
    }
}

impl BackendInner {
    async fn run<T>(
        &self,
        kind: CallKind,
        deadline: Instant,
        options: &CallOptions,
        body: impl for<'a> FnOnce(
            &'a Instance,
            &'a mut Store<CallState>,
            &'a types::Call,
        ) -> BoxFuture<'a, CallResult<T>>
        + Send
        + 'static,
    ) -> Result<T, CallError> {
        let _permit = self.seat.permits.acquire(kind, remaining(deadline)).await?;
        let instance = tokio::time::timeout(remaining(deadline), self.seat.instances.acquire()).await;
        let _instance = instance.map_err(|_| CallError::Busy("calls of all controllers"))?;
        let timeout = remaining(deadline);
        if kind == CallKind::Mutation && timeout < LEAST_TIME {
            return Err(CallError::Busy("mutations"));
        }
        let fence = self.context.fence.of_call(options.epoch);
        if kind == CallKind::Mutation {
            fence.check().map_err(CallError::Backend)?;
        }
        let call = types::Call {
            timeout_ms: millis(timeout),
            operation_id: options.operation_id.clone(),
            generation: options.generation,
            epoch: options.epoch,
            ext: Vec::new(),
        };
        let plugin = &self.plugin.inner;
        let context = Arc::clone(&self.context);
        call::run(&plugin.engine, &plugin.pre, context, fence, timeout, |instance, store| {
            Box::pin(async move { body(instance, store, &call).await })
        })
        .await
    }
}

/// Whether the backend was asked for something that may still happen, although the plugin does not wait for it. One that
/// gave up long before its time has its own reasons, and the next try is its answer.
fn is_unfinished(result: &Result<Outcome, CallError>) -> bool {
    matches!(result, Err(CallError::Backend(error)) if error.kind == ErrorKind::TimedOut)
}

fn with_a_handle_that_fits(outcome: Outcome) -> Result<Outcome, CallError> {
    match &outcome {
        Outcome::InProgress(progress) if progress.handle.len() > MAX_HANDLE => {
            Err(CallError::HandleTooLarge(progress.handle.len()))
        }
        _ => Ok(outcome),
    }
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
