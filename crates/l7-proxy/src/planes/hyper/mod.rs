//! The `hyper` data plane: hyper's HTTP/2 server and client on h2, one
//! current-thread tokio runtime a thread, every task of which stays on it. It is
//! the reference that the `relay` plane is held against: what a team would
//! write on hyper in a week, simple before fast.
//!
//! | module | job |
//! |---|---|
//! | [`downstream`] | clients' connections: accept, serve, drain |
//! | [`call`] | one call: admit, pick, attempt, try elsewhere, answer |
//! | [`attempt`] | one attempt at a call, and how it broke |
//! | [`headers`] | requests and answers, as hyper has them |
//! | [`retry`] | attempts after a failure that may have been worked on, and hedges |
//! | [`access_log`] | lines of the access log |
//! | [`replay_body`] | a request's bytes, kept for another attempt |
//! | [`response_body`] | a response's bytes on their way down, and their end |
//! | [`pool`] | the connections to one backend, and who waits for them |
//! | [`connection`] | one of them: its places, and how it ends |
//! | [`thread`] | counters and counts of one thread |
//! | [`local`] | what one thread's tasks share: executor, counts, streams |
//!
//! Its bounds are those that hyper and h2 have: open streams, header blocks and
//! lists, windows, send buffers, resets of streams that were not accepted yet,
//! streams reset for a client's mistakes, unread DATA in tiny pieces, and PINGs
//! that stay unanswered. It is not for untrusted clients, and says so at start.
//!
//! # What hyper can't bound
//! Each is skipped by name in the tests (`exceptions` of `tests/proxy/abuse.rs`).
//!
//! * **Resets of streams that were accepted**, and floods of PING, SETTINGS,
//!   PRIORITY, WINDOW_UPDATE and unknown frames: h2 counts neither.
//! * **Clients that take nothing of a response.** h2 keeps a stream that waits for
//!   a window for as long as the client lives and answers PINGs. What it holds is
//!   bounded: a window and a send buffer for each stream.
//! * **Slow frames.** One that never ends meets the keepalive timeout, as the PING
//!   is not answered.
//! * **Resets that a backend has not seen yet.** They go out at once.
//! * **What waits for a client's connection, added up**: DATA is bounded for each
//!   stream, response headers and trailers by the size of one list for each.
//! * **A backend's floods**, but for streams reset for its mistakes.
//! * **A share for each client** when places at the backends get scarce.
//! * **Copies of requests kept for a retry, added up**: they are bounded for each
//!   call, and neither for each connection nor for each thread.
//!
//! # What hyper does its own way
//! * A client that resets a call whose request has ended is passed on as
//!   RST_STREAM(CANCEL), whatever its code was.
//! * A request whose headers are beyond four times the limit is answered by h2
//!   itself, with 431.
//! * A backend's connection has a window for all its streams together, since h2
//!   gives credit back only with the bytes that a client takes. A client's keeps
//!   its own bound, and only that client waits there.
//! * A call waits at the backend that was picked for it, and for no other.
//! * A client that stays silent in a drain gets no GOAWAY, only the end: h2 writes
//!   one only after the client's preface.
//! * Flags for what is named above, and `backend-assumed-streams`, have no effect.

mod access_log;
mod attempt;
mod call;
mod connection;
mod downstream;
mod headers;
mod local;
mod pool;
mod replay_body;
mod response_body;
mod retry;
mod thread;

use std::{error::Error, io, net::TcpListener, sync::Arc};

use serve::Shutdown;
use tokio::task::LocalSet;

use super::Shared;

/// Serves `listener` on a runtime of this thread's own.
///
/// Every task that is spawned for connections and streams belongs to the local
/// set: when it is dropped at the end, none is left.
pub(super) fn run_thread(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: Shutdown,
    seed: u64,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, downstream::serve(listener, shared, shutdown, seed))
}

/// What h2 says of an error of hyper's.
fn h2_source<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
