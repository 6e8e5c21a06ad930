//! The WebAssembly engine, set up once for a process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamspace_bindings::imports;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{WasiView as _, p2};

use crate::artifact_cache::ArtifactCache;
use crate::call::CallState;
use crate::error::RuntimeError;
use crate::instances::Instances;
use crate::limits::Limits;

/// How often a running guest is interrupted to let others run and to count its time. Shorter ticks cost nothing
/// measurable; longer ones make everything else late beside a guest that computes.
const TICK: Duration = Duration::from_millis(10);

/// Core instances that a plugin may consist of. One from Rust has three, one from Python about twenty: every shared
/// library is one, and each shim. The engine only counts them (their memory comes from the heap while they live), so
/// that a large number costs nothing.
const CORE_INSTANCES: u32 = 64;

/// Tables that a plugin may have. One from Rust has two, and each adapter adds one. The engine reserves address space
/// for every one, 156 KiB at the default size: 16 for each instance are 2.5 MiB beside the 256 MiB of its memory.
const TABLES: u32 = 16;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Directory of our own for compiled plugins; made if missing. None = compile at every start.
    pub cache_dir: Option<PathBuf>,
    /// Calls that can be under way at once, over all controllers, beside the few that each controller has to itself.
    /// Each reserves address space, not memory.
    pub instances: u32,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { cache_dir: None, instances: 256 }
    }
}

/// Runs plugins. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<RuntimeInner>,
}

pub(crate) struct RuntimeInner {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<CallState>,
    pub(crate) cache: Option<ArtifactCache>,
    pub(crate) instances: Arc<Instances>,
}

impl Runtime {
    /// Starts the engine.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let engine =
            Engine::new(&engine_config(Instances::in_all(config.instances))).map_err(RuntimeError::Engine)?;
        let linker = linker(&engine).map_err(RuntimeError::Engine)?;
        let cache = config.cache_dir.map(|dir| ArtifactCache::open(dir, &engine)).transpose()?;
        start_ticking(&engine).map_err(|error| RuntimeError::Engine(error.into()))?;
        let instances = Arc::new(Instances::new(config.instances));
        Ok(Self { inner: Arc::new(RuntimeInner { engine, linker, cache, instances }) })
    }
}

fn engine_config(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_memories(instances)
        // A component with more than its share would take them from the calls of others.
        .total_tables(instances * TABLES)
        .total_core_instances(instances * CORE_INSTANCES)
        .max_tables_per_component(TABLES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(1)
        .max_memory_size(Limits::MAX_MEMORY.bytes() as usize)
        // Finds the pages a call has touched instead of unmapping all of them, and keeps the first ones: a third
        // of the time of a fresh instance.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(2 << 20);

    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        // Guests are synchronous. Without the machinery for concurrent ones a call costs a third.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_reservation(Limits::MAX_MEMORY.bytes())
        .memory_may_move(false);
    config
}

/// Only what this host provides: parts of the contract, and of WASI what the standard library cannot do without.
fn linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;

    imports::types::add_to_linker::<_, HasSelf<_>>(l, |state| state)?;
    imports::config::add_to_linker::<_, HasSelf<_>>(l, |state| state)?;
    imports::secret::add_to_linker::<_, HasSelf<_>>(l, |state| state)?;
    imports::state::add_to_linker::<_, HasSelf<_>>(l, |state| state)?;
    imports::log::add_to_linker::<_, HasSelf<_>>(l, |state| state)?;
    imports::docker::add_to_linker::<_, HasSelf<_>>(l, |state| state)?;

    p2::add_to_linker_proxy_interfaces_async(l)?;
    random::insecure::add_to_linker::<CallState, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<CallState, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    // The C library under Rust's imports these for its table of descriptors. There is no directory to begin with, so
    // that no file can ever be named.
    filesystem::types::add_to_linker::<CallState, WasiFilesystem>(l, CallState::filesystem)?;
    filesystem::preopens::add_to_linker::<CallState, WasiFilesystem>(l, CallState::filesystem)?;
    cli::environment::add_to_linker::<CallState, WasiCli>(l, CallState::cli)?;
    cli::exit::add_to_linker::<CallState, WasiCli>(l, CallState::cli)?;
    cli::terminal_input::add_to_linker::<CallState, WasiCli>(l, CallState::cli)?;
    cli::terminal_output::add_to_linker::<CallState, WasiCli>(l, CallState::cli)?;
    cli::terminal_stdin::add_to_linker::<CallState, WasiCli>(l, CallState::cli)?;
    cli::terminal_stdout::add_to_linker::<CallState, WasiCli>(l, CallState::cli)?;
    cli::terminal_stderr::add_to_linker::<CallState, WasiCli>(l, CallState::cli)?;
    Ok(linker)
}

/// Advances the epoch from a thread of its own, as long as the engine lives: a guest that computes must be
/// interrupted even when it occupies every worker of the async runtime.
fn start_ticking(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("plugin-epoch".to_owned()).spawn(move || {
        loop {
            std::thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    })?;
    Ok(())
}
