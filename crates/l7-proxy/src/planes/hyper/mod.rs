//! The `hyper` data plane: hyper's HTTP/2 server and client on h2, one
//! current-thread tokio runtime a thread. It is the reference that other data
//! planes are held against: simple before fast.
//!
//! | module | job |
//! |---|---|
//! | [`downstream`] | clients' connections: accept, serve, drain |
//! | [`guard`] | what h2 doesn't bound: floods, silence, clients that take nothing |
//! | [`call`] | one call: admit, pick, attempt, try elsewhere, answer |
//! | [`again`] | attempts after a failure that may have been worked on, and hedges |
//! | [`log`] | lines of the access log |
//! | [`request_body`] | a request's bytes on their way up, kept for another attempt |
//! | [`response_body`] | a response's bytes on their way down, and their end |
//! | [`pool`] | the connections to one backend |
//! | [`connection`] | one of them: its places, and how it ends |
//! | [`unseen`] | how many resets a backend bears at once |
//! | [`held`] | calls that were taken back and can't be reset yet |
//! | [`wire`] | a connection's bytes, in plain text or under TLS |
//! | [`tap`] | what hyper doesn't tell: SETTINGS, GOAWAY and resets |
//! | [`frame_walk`] | how it finds the frames |
//! | [`frames`] | what the walks over frames share |
//! | [`fuzzing`] | what must hold of the frames it reads along |
//!
//! What it leaves to hyper: a client that resets a call whose request has
//! ended is passed on as RST_STREAM(CANCEL), whatever its code was, since
//! hyper drops the call without saying why; and a request whose headers are
//! beyond four times the limit is answered by h2 itself, with 431.

mod again;
mod call;
mod connection;
mod downstream;
mod frame_walk;
mod frames;
pub(super) mod fuzzing;
mod guard;
mod held;
mod log;
mod pool;
mod request_body;
mod response_body;
mod tap;
mod unseen;
mod wire;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use serve::Shutdown;

use super::Shared;

/// Serves `listener` on a runtime of this thread's own.
///
/// The runtime owns every task that hyper spawns for connections and streams:
/// when it is dropped at the end, none is left.
pub(super) fn run_thread(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: Shutdown,
    seed: u64,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(downstream::serve(listener, shared, shutdown, seed))
}
