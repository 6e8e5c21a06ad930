//! The gRPC contracts of StreamSpace: generated messages, clients and servers, and the texts whose form is part of
//! the contract.

pub mod quantity;
pub mod span;

/// All messages and services of controllers with what they import, as a `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// `streamspace.controller.v1`: what the API server asks of a controller. Documented in `controller.proto`.
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod controller {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("streamspace.controller.v1");
    }
}

/// `streamspace.api.v1`: what clients ask of the API server. Documented in `streamspace/api/v1/*.proto`.
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod api {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("streamspace.api.v1");

        /// All messages and services of this version with what they import, as a `google.protobuf.FileDescriptorSet`.
        pub const FILE_DESCRIPTOR_SET: &[u8] =
            include_bytes!(concat!(env!("OUT_DIR"), "/api_descriptors.bin"));
    }
}
