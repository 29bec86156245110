//! Sans-I/O HTTP/2: frames, HPACK, flow control.
#![forbid(unsafe_code)]

mod error;
pub mod frame;
pub mod hpack;

pub use error::{Error, Reason};
