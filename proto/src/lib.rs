//! The gRPC contracts of StreamSpace: generated messages, clients and servers, and the texts whose form is part of
//! the contract.

pub mod quantity;
pub mod span;

/// All messages and services with what they import, as a `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// `streamspace.controller.v1`: what the API server asks of a controller. Documented in `controller.proto`.
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod controller {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("streamspace.controller.v1");
    }
}
