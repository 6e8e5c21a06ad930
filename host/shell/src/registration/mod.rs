//! How a shell that is a process of its own becomes known to an API server, and stays so.
//!
//! It serves first, and then registers; only with the answer does it know which controller it is, and whose calls it may
//! take. From then on it gives signs of life, and hears with each of them whose calls to take and which epoch has come.
//! Nothing of it is kept: a process that is started anew registers anew.

mod api;
mod join_token;
mod member;
mod messages;
mod place;

pub use api::{ApiError, ApiServer};
pub use join_token::{JoinToken, JoinTokenError};
pub use member::{Member, MemberError};
pub use messages::{
    Capabilities, Capacity, Heartbeat, HeartbeatAnswer, InstanceStatus, Registered, Registration,
    ResourceUsage, Role, WantedState,
};
pub use place::Place;
