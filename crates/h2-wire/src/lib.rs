//! Sans-I/O HTTP/2: frames, HPACK, flow control, streams and connections.
//!
//! [`connection::Connection`] is a whole endpoint without its socket; everything below it can be
//! used on its own.
//!
//! | module | what it has |
//! |---|---|
//! | [`connection`] | one connection: bytes to events, and messages to bytes |
//! | [`message`] | what makes a request, a response or trailers well-formed |
//! | [`settings`], [`flow`] | the peer's settings, and windows |
//! | [`frame`], [`hpack`] | the formats on the wire |
//! | [`grpc`] | what gRPC adds: timeouts, messages, escapes |
#![forbid(unsafe_code)]

pub mod connection;
mod error;
mod flood;
pub mod flow;
pub mod frame;
pub mod grpc;
pub mod hpack;
pub mod message;
mod output;
pub mod settings;
mod state;
mod stream;

pub use error::{Error, Reason};
