//! Loads, checks, limits and calls backend plugins, and gives them their capabilities.
//!
//! A [`Runtime`] owns the WebAssembly engine. It turns a `.wasm` file into a [`Plugin`], which knows nothing yet of
//! any backend. A [`Backend`] is a plugin bound to one controller: its configuration, the endpoints and secrets
//! the operator granted, and its limits. What a controller keeps while its plugin is replaced is its [`Seat`]. Every
//! call on a backend runs in a fresh instance, which is thrown away.
//!
//! Nothing here knows gRPC, REST or a database.

mod artifact_cache;
mod backend;
mod call;
mod capability;
mod cpu_meter;
mod engine;
mod error;
mod fence;
mod files;
mod grants;
mod http_config;
mod instances;
mod limits;
mod load;
mod manifest;
mod permits;
mod routes;
mod schema;
mod seat;
mod session_locks;
mod stderr_tail;
mod turns;

pub use backend::{Backend, BackendConfig, CallOptions, MAX_HANDLE};
pub use engine::{Runtime, RuntimeConfig};
pub use error::{BindError, CallError, LoadError, RuntimeError};
pub use fence::Fence;
pub use grants::{EndpointConfig, SecretSource};
pub use http_config::{BasicConfig, CredentialConfig, HttpConfig, TlsConfig};
pub use limits::{LimitOverrides, Limits};
pub use load::{Digest, Plugin, WeakPlugin, read_file};
pub use manifest::{EndpointKind, EndpointRequest, Manifest};
pub use seat::Seat;

/// The plugin contract's types, as generated from `wit/`.
pub mod contract {
    pub use streamspace_bindings::exports::streamspace::backend::{lifecycle, observe, plugin};
    pub use streamspace_bindings::types;
}
