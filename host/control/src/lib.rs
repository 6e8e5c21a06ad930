//! The API server: domain types, store, placement, reconciler and REST and
//! gRPC for clients.
//!
//! It knows controllers by their gRPC contract and nothing of what is behind them. A request becomes a committed
//! row before anything else happens; a reconciler drives every session to its wish, and can be killed at any
//! moment without losing or doubling anything.
//!
//! ```no_run
//! # async fn example(transport: streamspace_control::ControllerTransport) -> Result<(), Box<dyn std::error::Error>> {
//! use streamspace_control::{Control, ControlConfig, Registration};
//!
//! let control = Control::open(ControlConfig::new("/var/lib/streamspace")).await?;
//! let id = control
//!     .register_controller(Registration {
//!         controller_type: "docker".into(),
//!         name: "docker-local".into(),
//!         endpoint: String::new(),
//!         labels: Default::default(),
//!     })
//!     .await?;
//! control.attach_controller(&id, transport).await?;
//! let router = control.router();
//! # Ok(())
//! # }
//! ```

mod admin_token;
mod changes;
mod config;
mod control;
mod data_dir;
mod domain;
mod error;
mod events;
mod fleet;
mod gateway;
mod grpc;
mod metrics;
mod observe;
mod placement;
mod plugins;
mod policies;
mod presence;
mod reconcile;
mod remote;
mod rest;
mod slots;
mod store;

pub use config::{ControlConfig, DatabaseUrl};
pub use control::{Control, migrate};
pub use domain::{
    ControllerId, Factor, GoDuration, InvalidDuration, InvalidId, Overcommit, Quota, Registration, SessionId,
};
pub use error::ControlError;
pub use fleet::ControllerTransport;
pub use placement::PlacementStrategy;
pub use plugins::{
    AskedEndpoint, AskedLimits, PluginController, PluginDirectory, PluginState, PluginView, Replacement,
};
pub use store::{Migrated, StoreError};
