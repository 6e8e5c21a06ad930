//! Everything that can go wrong between a file and an answer.

use std::path::PathBuf;
use std::time::Duration;

use streamspace_bindings::types::{Error as BackendError, ErrorKind};

use crate::limits::ByteSize;

/// The engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// WebAssembly cannot run here with this configuration.
    #[error("the WebAssembly engine does not start: {0:#}")]
    Engine(wasmtime::Error),
    /// The cache of compiled plugins cannot be used.
    #[error("the directory {path} for compiled plugins cannot be used: {reason}")]
    Cache {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// A file is no plugin that this host can serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is larger than any plugin should be.
    #[error("it has {size} bytes, more than the {limit} that a plugin may have")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Machine code somebody else made. It would run outside of the sandbox.
    #[error("it is a precompiled artefact; only WebAssembly components are accepted")]
    Precompiled,
    /// It is something else.
    #[error("it is not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It was not built with the SDK.
    #[error("it carries no manifest (section `streamspace:manifest`)")]
    NoManifest,
    /// The manifest cannot be used.
    #[error("its manifest is wrong: {0}")]
    Manifest(String),
    /// It is written for another contract.
    #[error("it is written for {asked}; this host serves {served}")]
    Api {
        /// What its manifest says.
        asked: String,
        /// What this host has.
        served: &'static str,
    },
    /// It imports something that no plugin may have.
    #[error("it imports `{0}`, which plugins do not get")]
    ForbiddenImport(String),
    /// It imports a capability that its manifest does not ask for.
    #[error("it imports `{import}`, but its manifest asks for no {kind}")]
    UndeclaredImport {
        /// The import.
        import: String,
        /// What the manifest would have to ask for.
        kind: &'static str,
    },
    /// It imports a part of the contract that this host does not provide.
    #[error("it imports `{0}`, which this version of the host does not provide")]
    NotProvided(String),
    /// It does not compile, or does not fit the contract.
    #[error("it does not fit the contract: {0}")]
    Contract(String),
    /// Compiling it takes longer than for any real plugin.
    #[error("it was not compiled after {} s", .0.as_secs())]
    Slow(Duration),
    /// It failed when it was tried.
    #[error("it failed when it was tried: {0}")]
    Probe(CallError),
    /// It says one thing in the manifest and another when asked.
    #[error("its manifest names it `{manifest}`, but it calls itself `{described}`")]
    NameMismatch {
        /// In the manifest.
        manifest: String,
        /// From `describe`.
        described: String,
    },
}

/// A plugin cannot be bound to a controller's configuration.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The operator has not granted what the plugin needs.
    #[error("the plugin needs the endpoint `{name}` ({kind}), which is not granted")]
    EndpointNotGranted {
        /// The endpoint.
        name: String,
        /// The capability, as it is called in the configuration.
        kind: &'static str,
    },
    /// The configuration grants what the plugin does not ask for: most likely a typing mistake.
    #[error("endpoints.{name}: the plugin asks for no endpoint of this name (it asks for: {asked})")]
    UnknownEndpoint {
        /// The endpoint in the configuration.
        name: String,
        /// What the manifest asks for.
        asked: String,
    },
    /// A secret is granted that the plugin does not ask for, or the other way round.
    #[error("secrets.{name}: {reason}")]
    Secret {
        /// The secret.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The plugin says that it needs more than it is granted.
    #[error("limits.{name}: the plugin asks for {asked}, and {granted} is granted")]
    Limit {
        /// The limit.
        name: &'static str,
        /// What the manifest asks for.
        asked: String,
        /// What the operator, or the default, grants.
        granted: String,
    },
    /// An endpoint's target cannot be used.
    #[error("endpoints.{name}: {reason}")]
    Endpoint {
        /// The endpoint.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The plugin's own schema is broken.
    #[error("the plugin's configuration schema is not valid: {0}")]
    Schema(String),
    /// The configuration does not fit the plugin's schema, or the plugin refuses it.
    #[error("config{path}: {message}")]
    Config {
        /// Where, as a dotted path; empty = the whole.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The plugin could not even be asked.
    #[error("the plugin failed while looking at its configuration: {0}")]
    Call(CallError),
}

/// A call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin says so.
    #[error("{}", .0.message)]
    Backend(BackendError),
    /// The plugin broke. Always its bug.
    #[error("the plugin trapped: {0}")]
    Trapped(String),
    /// The plugin computed for too long.
    #[error("the plugin used more than its {} ms of processor time", .0.as_millis())]
    CpuBudget(Duration),
    /// The plugin wanted too much memory.
    #[error("the plugin used more than its {0} of memory")]
    MemoryLimit(ByteSize),
    /// The plugin's note for the next step of long work is larger than the contract allows.
    #[error("the plugin gave a handle of {0} bytes; the most is {max}", max = crate::backend::MAX_HANDLE)]
    HandleTooLarge(usize),
    /// The time given was over.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// Too many calls are under way.
    #[error("too many {0} are under way on this controller")]
    Busy(&'static str),
}

impl CallError {
    /// What kind of error it is, in the contract's words.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Backend(error) => error.kind,
            Self::Trapped(_) | Self::HandleTooLarge(_) => ErrorKind::Internal,
            Self::CpuBudget(_) | Self::MemoryLimit(_) | Self::Busy(_) => ErrorKind::Exhausted,
            Self::TimedOut(_) => ErrorKind::TimedOut,
        }
    }

    /// A stable word for it, finer than [`kind`](Self::kind) where the host itself ended the call.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Backend(error) => match error.kind {
                ErrorKind::NotFound => "NOT_FOUND",
                ErrorKind::Invalid => "INVALID",
                ErrorKind::Conflict => "CONFLICT",
                ErrorKind::Unsupported => "UNSUPPORTED",
                ErrorKind::FailedPrecondition => "FAILED_PRECONDITION",
                ErrorKind::Unauthenticated => "UNAUTHENTICATED",
                ErrorKind::Denied => "DENIED",
                ErrorKind::Exhausted => "EXHAUSTED",
                ErrorKind::Unavailable => "UNAVAILABLE",
                ErrorKind::TimedOut => "TIMED_OUT",
                ErrorKind::StaleEpoch => "STALE_EPOCH",
                ErrorKind::Internal => "INTERNAL",
            },
            Self::Trapped(_) => "PLUGIN_TRAPPED",
            Self::CpuBudget(_) => "PLUGIN_CPU_BUDGET",
            Self::MemoryLimit(_) => "PLUGIN_MEMORY_LIMIT",
            Self::HandleTooLarge(_) => "PLUGIN_HANDLE_TOO_LARGE",
            Self::TimedOut(_) => "TIMED_OUT",
            Self::Busy(_) => "BUSY",
        }
    }
}
