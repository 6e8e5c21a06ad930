//! Between the messages of the gRPC contract and the records of the plugin contract.

mod check;
mod inbound;
mod outbound;

pub(crate) use inbound::{cursor, handle, home_key, session_ref, session_request, some_unless_empty};
pub(crate) use outbound::{
    Mutation, access_point, capabilities, deletion, entry, health, log_entry, metrics, mutation,
    session_events, status, unhealthy,
};
