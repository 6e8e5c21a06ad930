//! Write a StreamSpace backend plugin in Rust.
//!
//! A plugin is a WebAssembly component that turns one kind of infrastructure into a backend for sessions. Implement
//! [`Backend`] for a type without fields, write down what the plugin needs in a `plugin.toml`, and export both:
//!
//! ```ignore
//! struct Example;
//!
//! impl streamspace_sdk::Backend for Example { /* … */ }
//!
//! streamspace_sdk::export_backend!(Example, manifest = "../plugin.toml");
//! ```
//!
//! Build it for `wasm32-wasip2` as a `cdylib`. Every call runs in a fresh instance: nothing outlives it but the small
//! cache in [`host::state`]. What the plugin may reach it names as in its manifest; where that is, and with which
//! credentials, only the host knows.

mod backend;
mod deadline;
mod error;
pub mod handle;
pub mod host;
pub mod http;
mod records;

pub use backend::Backend;
pub use deadline::Deadline;
pub use error::ErrorExt;

/// Generated guest side of the contract.
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unused_qualifications, clippy::all, clippy::unwrap_used, clippy::panic)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "streamspace:backend/backend@1.0.0",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "streamspace_sdk::bindings",
        additional_derives: [PartialEq],
    });
}

pub use bindings::exports::streamspace::backend::lifecycle::{
    Change, EventPage, Ownership, SessionEntry, SessionEvent, SessionPage, Wish,
};
pub use bindings::exports::streamspace::backend::observe::{
    AccessPoint, HttpTarget, LogEntry, LogPage, LogQuery, Login, SocketTarget, Target, TcpTarget,
    WebsocketTarget,
};
pub use bindings::exports::streamspace::backend::plugin::{Capabilities, Capacity, Health, Info, Report};
pub use bindings::streamspace::backend::types::{
    Call, Condition, ConditionStatus, EnvVar, Error, ErrorKind, Home, Outcome, Phase, Port, Progress,
    Resources, SessionRef, SessionRequest, SessionSpec, SessionState, Transport, Usage, Vnc, Volume, WebApp,
};

/// Result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exports a [`Backend`] as the component's world and puts the manifest into the file. The path is relative to the
/// source file that calls the macro.
#[macro_export]
macro_rules! export_backend {
    ($backend:ty, manifest = $manifest:literal) => {
        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, missing_docs)]
        mod __streamspace_export {
            use super::*;

            #[used]
            #[unsafe(link_section = "streamspace:manifest")]
            static MANIFEST: [u8; include_bytes!($manifest).len()] = *include_bytes!($manifest);

            type Exported = $crate::Adapter<$backend>;
            $crate::bindings::export_bindings!(Exported with_types_in $crate::bindings);
        }
    };
}

#[doc(hidden)]
pub use backend::Adapter;
