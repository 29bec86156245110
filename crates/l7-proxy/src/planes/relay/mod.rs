//! The `relay` data plane: our own, on `h2-wire`. One thread per core with one
//! event loop, no task per connection or call. Frames are parsed where they
//! were read and go behind a new head straight into the output of the
//! connection they belong to.
//!
//! It waits with epoll. io_uring, with multishot receive into provided buffers and one system
//! call a turn, took between 0.93 and 1.11 times its CPU time per call on 8 connections with 16
//! calls at once (ratios of 9 to 11 repeats, several variants): at some 24 calls a turn what
//! enters the kernel is 4 % of what is left, and sockets and scheduling two thirds.
//!
//! The kernel copies payload in and out. In a micro-benchmark (8 connections over loopback, 7
//! repeats) splice(2) through a pipe took 1.06 to 1.12 times the CPU time of that with frames of
//! 16 KiB, the default of SETTINGS_MAX_FRAME_SIZE, as each head is read and written by itself; 0.98
//! to 1.08 with 64 KiB, a third with 1 MiB, but 1.5 where those leave in 16 KiB. Copies in user space
//! (requests kept for another attempt, frames that came in part) are 9 % of a call of 16 KiB; without
//! them, and with larger reads, it took 0.93 of its time, within 0.05.
//!
//! | module | job |
//! |---|---|
//! | [`worker`] | the loop: sockets that are read, one write per connection and turn, clients that come |
//! | [`router`] | what events mean and what is done then, between those below, which do not know it |
//! | [`calls`], [`call`] | calls as a state machine without sockets: retries, hedges, deadlines, failures |
//! | [`clients`], [`client`], [`shares`] | clients' connections, and how many places one client may hold |
//! | [`upstreams`], [`link`], [`targets`] | the connections to backends, and the calls that wait for one |
//! | [`io`], [`endpoint`], [`secure`] | sockets: who is to be read and written, a connection with its socket, and with TLS |
//! | [`sweep`], [`shutdown`] | when all connections are looked at, and the end |
//! | [`headers`], [`log`] | what is read and changed in headers, and lines of the access log |
//! | [`options`], [`keys`] | the configuration as bounds, and how calls and connections know each other |
//! | [`fuzzing`] | what must hold of headers |

mod call;
mod calls;
mod client;
mod clients;
mod endpoint;
pub(super) mod fuzzing;
mod headers;
mod io;
mod keys;
mod link;
mod log;
mod options;
mod router;
mod secure;
mod shares;
mod shutdown;
mod sweep;
mod targets;
mod upstreams;
mod worker;

use std::sync::Arc;

use serve::Shutdown;

use super::{Shared, Thread};

/// Serves a thread's listener until the shutdown is over.
pub(super) fn run_thread(
    thread: Thread,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let shutdown = shutdown::ShutdownWatch::new(shutdown)?;
    worker::Worker::new(shared, thread, shutdown)?.run()
}
