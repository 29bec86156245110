//! Per-call balancing of gRPC over HTTP/2, in plain text or under TLS: each call picks a backend, however few
//! connections carry them.
//!
//! [`run`] serves listeners until it is shut down. What moves the bytes is a
//! data plane ([`config::DataPlane`]); all of them stand behind the same bounds
//! ([`config`]), policies ([`upstreams`]), circuit limits ([`circuit`]), retries
//! ([`retry`]), TLS ([`tls`]), failure mapping ([`failure`]) and reading of gRPC's headers
//! ([`h2_wire::grpc`]). The proxy never decodes a message. [`Proxy`] gives a hold on the
//! backends as well, which may come and go while it runs.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod circuit;
pub mod cli;
pub mod config;
pub mod failure;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod line;
pub mod metrics;
pub mod retry;
pub mod tls;
pub mod upstreams;

mod fleet;
mod planes;
mod policy;
mod probing;
mod run;
mod via;

pub use cli::{Args, main_with};
pub use config::{BackendConfig, Config, DataPlane};
pub use run::{Proxy, RunError, run};
