//! The generated code of the echo service, and nothing else.
//!
//! `proto/echo.proto` is the source and documents every field. The build
//! compiles it with `protox`, so no `protoc` is needed.

/// Messages, client and server of `layerlab.echo.v1.Echo`.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated; the documentation is in proto/echo.proto"
    )]
    tonic::include_proto!("layerlab.echo.v1");
}

/// The encoded `FileDescriptorSet` of the service, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/echo_descriptor.bin"));
