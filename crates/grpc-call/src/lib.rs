//! The interface of a gRPC service, and calls on it encoded ahead of time.
//!
//! An [`Interface`] comes from proto files, a descriptor set, or the service itself.
//! [`Calls::make`] turns descriptions of calls into bytes before the first of them is
//! due: requests are written as JSON, may be templates, and may be many in a file. What
//! sends them knows nothing of protobuf; what comes back is held to [`Rules`].
//!
//! An error says which setting is at fault, where in a file, and the nearest name.
//! Apart from [`reflect`] and the files that are named, nothing here does I/O; chance
//! and environment variables are passed in.
#![forbid(unsafe_code)]

mod calls;
mod error;
mod example;
mod expect;
mod interface;
mod message;
mod metadata;
mod reflect;
mod template;
#[cfg(test)]
mod test_interface;

pub use calls::{Body, CallSpec, Calls, Head, Prepared, Recorded, Rules};
pub use error::{Error, Reason};
pub use interface::{Interface, Kind, Method};
pub use message::PREFIX_LEN;
pub use metadata::grpc_timeout;
pub use reflect::reflect;
pub use template::{Chance, Sources, Variables};
