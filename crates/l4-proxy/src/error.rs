//! Why the proxy could not start or go on.

use std::io;

use balance::BalanceError;

/// An error of the proxy itself. What a client or a backend does wrong is
/// counted, and is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backends can't be balanced over.
    #[error("the backends can't be balanced over")]
    Backends(#[from] BalanceError),
    /// The listener can't be set up.
    #[error("the listener can't be set up")]
    Listener(#[source] io::Error),
    /// The threads can't be set up.
    #[error("the proxy's threads can't be started; check `ulimit -n` and `ulimit -u`")]
    Start(#[source] io::Error),
    /// A thread's event loop broke.
    #[error("a thread of the proxy broke")]
    Thread(#[source] io::Error),
}
