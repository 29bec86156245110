//! The `relay` data plane: our own, on `h2-wire`. One thread per core with one
//! event loop, no task per connection or call. Frames are parsed where they
//! were read and go behind a new head straight into the output of the
//! connection they belong to.
//!
//! | module | job |
//! |---|---|
//! | [`worker`] | the loop: events in, frames across, one write per connection and turn |
//! | [`accept`], [`shutdown`] | connections in, and the shutdown |
//! | [`client`] | what comes from clients, answers, and how their connections end |
//! | [`attempt`] | a call's attempts: pick, place, send, try elsewhere |
//! | [`waiting`] | finding a place on a connection, and waiting for one |
//! | [`shares`] | how many places one client may hold |
//! | [`again`] | attempts after a failure that may have been worked on, and hedges |
//! | [`backend`] | what comes from backends, and how their connections begin and end |
//! | [`sweep`] | what time alone brings about |
//! | [`call`], [`pool`] | a call, and a backend's connections, as data |
//! | [`log`] | lines of the access log |
//! | [`headers`] | what is read and changed in headers, and the lists of answers |
//! | [`endpoint`], [`secure`] | a connection with its socket, and with TLS |
//! | [`options`] | the configuration as bounds |
//! | [`fuzzing`] | what must hold of headers |

mod accept;
mod again;
mod attempt;
mod backend;
mod call;
mod client;
mod endpoint;
pub(super) mod fuzzing;
mod headers;
mod log;
mod options;
mod pool;
mod secure;
mod shares;
mod shutdown;
mod sweep;
mod waiting;
mod worker;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use event_loop::Acceptor;
use serve::Shutdown;

use super::Shared;

/// Serves `listener` on this thread until the shutdown is over.
pub(super) fn run_thread(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: Shutdown,
    seed: u64,
) -> io::Result<()> {
    let shutdown = shutdown::ShutdownWatch::new(shutdown)?;
    let acceptor = Acceptor::new(listener, None)?;
    worker::Worker::new(shared, acceptor, shutdown, seed)?.run()
}
