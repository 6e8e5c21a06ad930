//! One call into a plugin: a fresh instance, its limits, and what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use streamspace_bindings::{Backend as Instance, BackendPre, types};
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::capability::docker::DockerEndpoint;
use crate::capability::state::StateCache;
use crate::engine::TICK;
use crate::error::CallError;
use crate::grants::SecretSource;
use crate::limits::{Limits, MemoryLimitExceeded, MemoryLimiter};

/// Bytes of a guest's standard error that are kept: a panic message and its surroundings.
const STDERR_CAPACITY: usize = 16 << 10;

/// Bytes of a panic message that go into an error.
const PANIC_MESSAGE: usize = 1 << 10;

/// Handles a guest may hold. It needs a few for its standard streams.
const MAX_HANDLES: usize = 64;

/// Bytes that may be copied out of a guest for one host call.
const HOSTCALL_BYTES: usize = 16 << 20;

/// What a controller gives to the calls of its plugin.
pub(crate) struct Context {
    pub(crate) plugin: String,
    pub(crate) controller_id: String,
    /// The configuration as JSON text.
    pub(crate) config: String,
    pub(crate) limits: Limits,
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    pub(crate) docker: BTreeMap<String, Arc<DockerEndpoint>>,
    pub(crate) state: StateCache,
}

/// What belongs to one call.
pub(crate) struct CallState {
    pub(crate) context: Arc<Context>,
    pub(crate) cpu: CpuMeter,
    wasi: WasiCtx,
    table: ResourceTable,
    limiter: MemoryLimiter,
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Counts the time a guest computes, tick by tick, without the time it waits in the host.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    used: Duration,
    budget: Duration,
    resumed: Instant,
}

impl CpuMeter {
    fn new(budget: Duration) -> Self {
        Self { used: Duration::ZERO, budget, resumed: Instant::now() }
    }

    /// The guest runs again after it waited in the host.
    pub(crate) fn resume(&mut self) {
        self.resumed = Instant::now();
    }

    /// A tick interrupted the guest. False once the budget is used up.
    fn tick(&mut self) -> bool {
        let now = Instant::now();
        // Not more than a tick: the rest it spent waiting for a worker.
        self.used += now.duration_since(self.resumed).min(TICK);
        self.resumed = now;
        self.used <= self.budget
    }
}

/// Runs one call in an instance of its own and drops it, whatever came of it: after a trap or a time-out an
/// instance cannot be entered again, and after a success nothing in it is needed.
pub(crate) async fn run<T>(
    engine: &Engine,
    pre: &BackendPre<CallState>,
    context: Arc<Context>,
    timeout: Duration,
    call: impl for<'a> FnOnce(
        &'a Instance,
        &'a mut Store<CallState>,
    ) -> BoxFuture<'a, wasmtime::Result<Result<T, types::Error>>>,
) -> Result<T, CallError> {
    let limits = context.limits;
    let stderr = MemoryOutputPipe::new(STDERR_CAPACITY);
    let mut store = new_store(engine, context, stderr.clone());
    let outcome = tokio::time::timeout(timeout, async {
        let instance = pre.instantiate_async(&mut store).await?;
        call(&instance, &mut store).await
    })
    .await;
    match outcome {
        Ok(Ok(result)) => result.map_err(CallError::Backend),
        Ok(Err(error)) => Err(classify(&error, limits, &stderr)),
        Err(_) => Err(CallError::TimedOut(timeout)),
    }
}

fn new_store(engine: &Engine, context: Arc<Context>, stderr: MemoryOutputPipe) -> Store<CallState> {
    let limits = context.limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    let state = CallState {
        context,
        cpu: CpuMeter::new(limits.cpu),
        wasi: WasiCtx::builder().stderr(stderr).build(),
        table,
        limiter: MemoryLimiter::new(limits.memory),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        Ok(if store.data_mut().cpu.tick() {
            // Yielding through tokio lets timers and sockets run; the engine's own yield starves them.
            UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
        } else {
            UpdateDeadline::Interrupt
        })
    });
    store
}

fn classify(error: &wasmtime::Error, limits: Limits, stderr: &MemoryOutputPipe) -> CallError {
    if error.downcast_ref::<MemoryLimitExceeded>().is_some() {
        return CallError::MemoryLimit(limits.memory);
    }
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        return CallError::Busy("calls");
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => CallError::CpuBudget(limits.cpu),
        trap => {
            tracing::debug!("a plugin trapped: {error:?}");
            let cause = trap.map_or_else(|| error.root_cause().to_string(), ToString::to_string);
            let said = String::from_utf8_lossy(&stderr.contents()).trim().to_owned();
            CallError::Trapped(if said.is_empty() { cause } else { format!("{cause}: {}", tail(&said)) })
        }
    }
}

/// The end of a text: a panic message is the last thing a guest says.
fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(PANIC_MESSAGE);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_in_the_host_is_not_computing() {
        let mut meter = CpuMeter::new(TICK * 2);
        for _ in 0..10 {
            meter.resumed = Instant::now() - TICK * 100;
            meter.resume();
            assert!(meter.tick(), "hardly any time passed since the guest went on");
        }
        meter.resumed = Instant::now() - TICK * 100;
        assert!(meter.tick(), "the first tick of two");
        meter.resumed = Instant::now() - TICK * 100;
        assert!(meter.used > TICK && meter.used < TICK * 2);
        assert!(!meter.tick() || !meter.tick(), "the budget ends");
    }

    #[test]
    fn the_tail_never_splits_a_character() {
        let text = "ä".repeat(PANIC_MESSAGE);
        assert!(tail(&text).len() <= PANIC_MESSAGE);
        assert_eq!(tail("short"), "short");
    }
}
