//! One call into a plugin: a fresh instance, its limits, and what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use streamspace_bindings::{Backend as Instance, BackendPre, types};
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::capability::docker::DockerEndpoint;
use crate::capability::http::{HttpEndpoint, OpenInCall};
use crate::capability::state::StateCache;
use crate::cpu_meter::CpuMeter;
use crate::error::CallError;
use crate::fence::{CallFence, Fence};
use crate::grants::SecretSource;
use crate::limits::{Limits, MemoryBudget, MemoryBudgetExceeded, MemoryLimitExceeded, MemoryLimiter};
use crate::stderr_tail::StderrTail;
use crate::turns::{Turn, Turns};

/// Handles a guest may hold. It needs a few for its standard streams.
const MAX_HANDLES: usize = 64;

/// Bytes that may be copied out of a guest for one host call.
const HOSTCALL_BYTES: usize = 16 << 20;

/// Random bytes a guest may ask for at once.
const RANDOM_BYTES: u64 = 64 << 10;

/// What is left to a plugin of its time when a host call has given up waiting: this part of it, and no more than so
/// much.
pub(crate) const LAST_WORDS: (u32, Duration) = (10, Duration::from_millis(250));

/// What a controller gives to the calls of its plugin.
pub(crate) struct Context {
    pub(crate) plugin: String,
    pub(crate) controller_id: String,
    /// The configuration as JSON text.
    pub(crate) config: String,
    pub(crate) limits: Limits,
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    pub(crate) docker: BTreeMap<String, Arc<DockerEndpoint>>,
    pub(crate) http: BTreeMap<String, Arc<HttpEndpoint>>,
    pub(crate) state: Arc<StateCache>,
    pub(crate) turns: Turns,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) fence: Fence,
}

/// What belongs to one call.
pub(crate) struct CallState {
    pub(crate) context: Arc<Context>,
    /// Whether it may still change anything.
    pub(crate) fence: CallFence,
    /// Lines it has logged so far.
    pub(crate) log_lines: u32,
    /// When host calls that wait give up: shortly before the call's end, so that the plugin can still say something.
    pub(crate) answer_by: Instant,
    /// Exchanges and connections that it holds.
    pub(crate) http_open: OpenInCall,
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    limiter: MemoryLimiter,
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Runs one call in an instance of its own and drops it, whatever came of it: after a trap or a time-out an
/// instance cannot be entered again, and after a success nothing in it is needed.
pub(crate) async fn run<T>(
    engine: &Engine,
    pre: &BackendPre<CallState>,
    context: Arc<Context>,
    fence: CallFence,
    timeout: Duration,
    call: impl for<'a> FnOnce(
        &'a Instance,
        &'a mut Store<CallState>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<T, types::Error>>>,
) -> Result<T, CallError> {
    let limits = context.limits;
    let stderr = StderrTail::default();
    let meter = Arc::new(CpuMeter::new(limits.cpu));
    let last_words = (timeout / LAST_WORDS.0).min(LAST_WORDS.1);
    let answer_by = Instant::now() + timeout.saturating_sub(last_words);
    let turn = Arc::new(Turn::new(&context.turns));
    let mut store =
        new_store(engine, (context, fence), answer_by, stderr.clone(), Arc::clone(&meter), Arc::clone(&turn));
    let work = meter.measure(turn.keep(async {
        let instance = pre.instantiate_async(&mut store).await?;
        call(&instance, &mut store).await
    }));
    let outcome = tokio::time::timeout(timeout, work).await;
    match outcome {
        Ok(Ok(result)) => result.map_err(CallError::Backend),
        Ok(Err(error)) => Err(classify(&error, limits, &stderr)),
        Err(_) => Err(CallError::TimedOut(timeout)),
    }
}

fn new_store(
    engine: &Engine,
    (context, fence): (Arc<Context>, CallFence),
    answer_by: Instant,
    stderr: StderrTail,
    meter: Arc<CpuMeter>,
    turn: Arc<Turn>,
) -> Store<CallState> {
    let limits = context.limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    let limiter = MemoryLimiter::new(limits.memory, &context.memory);
    let state = CallState {
        context,
        fence,
        log_lines: 0,
        answer_by,
        http_open: OpenInCall::default(),
        table,
        wasi: WasiCtx::builder().stderr(stderr).max_random_size(RANDOM_BYTES).build(),
        limiter,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        Ok(if meter.is_over_budget() {
            UpdateDeadline::Interrupt
        } else {
            // Yielding through tokio lets timers and sockets run; the engine's own yield starves them.
            let turn = Arc::clone(&turn);
            UpdateDeadline::YieldCustom(1, Box::pin(async move { turn.next().await }))
        })
    });
    store
}

fn classify(error: &wasmtime::Error, limits: Limits, stderr: &StderrTail) -> CallError {
    if error.downcast_ref::<MemoryLimitExceeded>().is_some() {
        return CallError::MemoryLimit(limits.memory);
    }
    if error.downcast_ref::<MemoryBudgetExceeded>().is_some() {
        return CallError::Busy("calls that take much memory");
    }
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return CallError::Busy("calls");
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => CallError::CpuBudget(limits.cpu),
        trap => {
            tracing::debug!("a plugin trapped: {error:?}");
            let cause = trap.map_or_else(|| error.root_cause().to_string(), ToString::to_string);
            let said = stderr.text();
            CallError::Trapped(if said.is_empty() { cause } else { format!("{cause}: {said}") })
        }
    }
}
