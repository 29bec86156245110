//! The generated code of the echo service, and nothing else.
//!
//! `proto/echo.proto` is the source and documents every field. A test (`generated.rs` of
//! `loadgen`) compiles it with `protox` and compares; no `protoc` is needed.

/// Messages, client and server of `layerlab.echo.v1.Echo`.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated; the documentation is in proto/echo.proto"
    )]
    include!("../generated/layerlab.echo.v1.rs");
}

/// The encoded `FileDescriptorSet` of the service, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("../generated/echo.descriptors");
