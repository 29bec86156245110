//! The data planes: the code that moves bytes between clients and backends.
//! What they share (bounds, policies, the failure table, gRPC's headers) is
//! outside; a plane holds sockets and protocol state and nothing else.

mod backoff;
mod hyper;
mod relay;

/// What [`crate::fuzzing`] opens of the planes.
pub(crate) mod fuzzing {
    pub(crate) use super::relay::fuzzing::request_headers;
}

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use event_loop::{Seat, Threads};
use serve::{AcceptCounters, ConnectionLimit, Shutdown};

use crate::access_log::AccessLog;
use crate::config::{Config, DataPlane};
use crate::tls::Tls;
use crate::upstreams::Upstreams;
use crate::via::Via;

/// How long a client that has nothing in progress may take to answer a drain.
const NOTICE: Duration = Duration::from_secs(1);

/// What the threads of a proxy share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) connection_limit: ConnectionLimit,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) via: Via,
    pub(crate) accept_counters: AcceptCounters,
}

/// A connection that was accepted, on its way to the thread that serves it.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) socket: OwnedFd,
    pub(crate) remote: SocketAddr,
    pub(crate) seat: Seat<Incoming>,
}

/// What one thread is given.
pub(crate) struct Thread {
    pub(crate) listener: TcpListener,
    /// Its index among all.
    pub(crate) me: usize,
    pub(crate) all: Arc<Threads<Incoming>>,
    /// Differs between threads, so that they don't draw the same chances.
    pub(crate) seed: u64,
}

/// One thread's work: serves its listener until the shutdown is over.
pub(crate) fn run_thread(
    thread: Thread,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) -> io::Result<()> {
    match shared.config.data_plane {
        DataPlane::Hyper => hyper::run_thread(thread.listener, shared, shutdown, thread.seed),
        DataPlane::Relay => relay::run_thread(thread, shared, shutdown),
    }
}
