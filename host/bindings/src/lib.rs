//! Host side of the plugin contract, generated from `wit/`.
//!
//! Alone in its crate because it dominates rebuild times. The runtime implements the generated `Host` traits and
//! adds only the imports it provides to its linker; nothing here decides anything.
#![allow(missing_docs, unsafe_code, clippy::all, clippy::unwrap_used, unused_qualifications)]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "streamspace:backend/backend@1.0.0",
    imports: {
        "streamspace:backend/docker": async,
        "streamspace:backend/http": async,
        "streamspace:backend/secret": async,
    },
    exports: { default: async },
    additional_derives: [PartialEq],
    require_store_data_send: true,
});

pub use streamspace::backend as imports;
pub use streamspace::backend::types;
