//! What every server of the lab shares, so that backends and proxies differ
//! only in what they do with a connection.
//!
//! | module | what it gives |
//! |---|---|
//! | [`listen`] | a listening socket, with errors that say what to do |
//! | [`accept`] | the accept loop: connection cap, running out of descriptors, counters |
//! | [`shutdown`] | drain, then cut off; signals; the control pipe of a role |
//! | [`backoff`] | the pause before the next attempt to connect |
//! | [`metrics`] | counters, gauges and histograms in Prometheus' text format |
//! | [`metrics_endpoint`] | `GET /metrics` |
//! | [`http1`] | the small bounded HTTP/1.1 server under the metrics and admin endpoints |
//! | [`admin`] | the admin API: a proxy's backends, seen and changed while it runs |
//! | [`watch`] | a file with the list of backends, applied when it changes |
//! | [`health`] | active health checks of backends |
//! | [`grpc_health`] | one call of the gRPC health service, for checking backends |
//! | [`tls`] | certificates from files, and connections under TLS that speak HTTP/2 |
//! | [`cli`] | the flags every server has |
//! | [`duration`] | durations as they are written on command lines: `250us`, `1.5s` |
//! | [`files`] | files that are read while a server runs, whatever they turn out to be |
//! | [`exit`] | exit codes, and the one line an error is printed as |
//! | [`limits`] | the process's limit on open files |
//! | [`json_lines`] | a line of JSON about each thing that ended, written by a thread of its own |
//! | [`logging`] | what happens, for an operator, on standard error |
//!
//! A server is `run(listener, config, shutdown)`: the caller binds, so that a
//! test can bind port 0, and the caller owns the shutdown, so that a test can
//! pull it. Of the workspace the crate imports `event-loop` only, for what to do
//! when a connection can't be accepted.

pub mod accept;
pub mod admin;
pub mod backend_flag;
pub mod backoff;
pub mod cli;
pub use units::duration;
pub mod exit;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod grpc_health;
pub mod health;
pub mod http1;
pub mod json_lines;
pub mod limits;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod metrics_endpoint;
pub mod shutdown;
pub mod timer;
pub mod tls;
pub mod watch;
pub mod zones;

pub use accept::{
    AcceptCounters, AcceptOptions, Accepted, Acceptor, ConnectionLimit, ConnectionPlace,
};
pub use listen::{BindOptions, bind};
pub use metrics::{Counter, Gauge, Histogram, Metrics};
pub use metrics_endpoint::serve_metrics;
pub use shutdown::{
    ProcessShutdown, Shutdown, ShutdownTrigger, process_shutdown, process_shutdown_with,
};
