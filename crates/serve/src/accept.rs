//! The accept loop's hard part: what to do when a connection can't be taken.
//!
//! `accept(2)` that fails for want of descriptors leaves the connection in the
//! queue, so the listener stays readable and a plain loop spins at 100 % CPU
//! without serving anybody. The [`Acceptor`] keeps one spare descriptor:
//! giving it up makes room to accept the connection and close it, so that the
//! client learns at once and established connections keep theirs. Where that
//! doesn't help (the system's table is full, no memory), it waits a bounded
//! moment. Everything that was turned away is counted.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use event_loop::{AcceptFailure, SpareDescriptor};
use rustix::{
    io::Errno,
    net::{SocketFlags, acceptfrom_with},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    metrics::{Counter, Gauge, Metrics},
    shutdown::Shutdown,
};

/// How long an acceptor rests when the system is out of something and shedding
/// was no help. Long against a scheduler tick, short against a client's
/// patience.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A cap on connections open at once, shared by all acceptors (threads) of a
/// server. Clones share the cap.
#[derive(Clone, Debug)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
}

impl ConnectionLimit {
    /// At most `connections` at once.
    pub fn new(connections: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))) }
    }

    /// Takes a place for a connection that was accepted, and counts it; `None`
    /// when there is none left.
    pub fn take(&self, counters: &AcceptCounters) -> Option<ConnectionPlace> {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            counters.shed_over_limit.inc();
            return None;
        };
        counters.accepted.inc();
        counters.open.add(1);
        Some(ConnectionPlace { permit: Some(permit), open: counters.open.clone() })
    }
}

/// How accepted connections are treated.
#[derive(Clone, Debug)]
pub struct AcceptOptions {
    /// The cap; connections beyond it are accepted and closed at once, which
    /// tells the client more than a queue that never moves.
    pub limit: ConnectionLimit,
    /// Whether TCP_NODELAY is set; a server that writes whole messages wants
    /// it on, or Nagle's algorithm holds small ones back.
    pub nodelay: bool,
}

/// What happened to connections that came. Clones share the counts.
#[derive(Clone, Debug)]
pub struct AcceptCounters {
    /// Connections handed to the server.
    pub accepted: Counter,
    /// Connections open now.
    pub open: Gauge,
    /// Connections closed at once because the cap was reached.
    pub shed_over_limit: Counter,
    /// Connections closed at once because no descriptor was left.
    pub shed_no_descriptor: Counter,
    /// Failures of `accept` itself, those of single connections included.
    pub errors: Counter,
}

impl AcceptCounters {
    /// Registers the counts under `prefix` (`echo_connections` gives
    /// `echo_connections_accepted_total` and so on).
    pub fn register(metrics: &Metrics, prefix: &str) -> Self {
        let shed = |reason: &str| {
            metrics.counter(
                &format!("{prefix}_shed_total"),
                "Connections closed at once because they could not be served.",
                &[("reason", reason)],
            )
        };
        Self {
            accepted: metrics.counter(
                &format!("{prefix}_accepted_total"),
                "Connections accepted and served.",
                &[],
            ),
            open: metrics.gauge(&format!("{prefix}_open"), "Connections open now.", &[]),
            shed_over_limit: shed("connection_limit"),
            shed_no_descriptor: shed("no_descriptor"),
            errors: metrics.counter(
                &format!("{prefix}_accept_errors_total"),
                "Failures of accept(2).",
                &[],
            ),
        }
    }

    /// Counts that nobody reads; for servers without metrics, and for tests.
    pub(crate) fn unregistered() -> Self {
        Self::register(&Metrics::new(), "connections")
    }
}

/// A connection, and its place under the cap.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The client's address.
    pub remote: SocketAddr,
    /// Gives the place under the cap back when dropped: keep it as long as the
    /// connection.
    pub place: ConnectionPlace,
}

/// One connection's place under the [`ConnectionLimit`]; dropping it frees the
/// place and counts the connection as closed.
#[derive(Debug)]
pub struct ConnectionPlace {
    /// Until the drop.
    permit: Option<OwnedSemaphorePermit>,
    open: Gauge,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        // In this order: whoever sees the count fall finds the place free.
        drop(self.permit.take());
        self.open.sub(1);
    }
}

/// Accepts connections from one listener.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    options: AcceptOptions,
    counters: AcceptCounters,
    spare: SpareDescriptor,
}

impl Acceptor {
    /// An acceptor over `listener`.
    pub fn new(listener: TcpListener, options: AcceptOptions, counters: AcceptCounters) -> Self {
        Self { listener, options, counters, spare: SpareDescriptor::default() }
    }

    /// The next connection that is within the cap. Cancel safe: a connection
    /// is either returned or still queued in the kernel.
    ///
    /// # Errors
    /// Only when the listener itself is broken. Running out of descriptors or
    /// memory, and connections that died in the queue, are handled here.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => {
                    if let Some(accepted) = self.admit(stream, remote) {
                        return Ok(accepted);
                    }
                }
                Err(error) => {
                    self.counters.errors.inc();
                    self.recover(error).await?;
                }
            }
        }
    }

    /// The next connection that is within the cap, until the drain begins. From
    /// then on it gives those that the kernel has already queued, since closing
    /// the listener would reset them and their clients believe themselves
    /// connected; then `None`, as also when the shutdown is terminated. Cancel
    /// safe, as [`Acceptor::accept`].
    ///
    /// # Errors
    /// As [`Acceptor::accept`].
    pub async fn next(&mut self, shutdown: &mut Shutdown) -> io::Result<Option<Accepted>> {
        if !shutdown.is_draining() {
            tokio::select! {
                () = shutdown.draining() => {}
                accepted = self.accept() => return accepted.map(Some),
            }
        }
        loop {
            // However many come, other tasks get their turn and the end is seen.
            tokio::task::yield_now().await;
            if shutdown.is_terminated() {
                return Ok(None);
            }
            match self.accept_queued() {
                Ok((stream, remote)) => {
                    if let Some(accepted) = self.admit(stream, remote) {
                        return Ok(Some(accepted));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => {
                    self.counters.errors.inc();
                    self.recover(error).await?;
                }
            }
        }
    }

    /// Asks the kernel: what the runtime knows of the listener may be behind.
    fn accept_queued(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (descriptor, remote) = acceptfrom_with(&self.listener, flags)?;
        // Without an address its remote has vanished since the handshake.
        let remote = remote.and_then(|remote| SocketAddr::try_from(remote).ok());
        let remote = remote.ok_or(Errno::CONNABORTED)?;
        Ok((TcpStream::from_std(descriptor.into())?, remote))
    }

    /// The listener's address.
    ///
    /// # Errors
    /// When the kernel can't say, which means that the listener is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr) -> Option<Accepted> {
        let place = self.options.limit.take(&self.counters)?;
        if self.options.nodelay {
            // It fails only on a connection that is already dead, and its
            // first read will say so.
            let _ = stream.set_nodelay(true);
        }
        Some(Accepted { stream, remote, place })
    }

    async fn recover(&mut self, error: io::Error) -> io::Result<()> {
        match Errno::from_io_error(&error).map_or(AcceptFailure::Listener, AcceptFailure::of) {
            AcceptFailure::Connection => Ok(()),
            AcceptFailure::Exhausted => {
                if !self.shed_with_spare() {
                    tokio::time::sleep(BACK_OFF).await;
                }
                Ok(())
            }
            AcceptFailure::Listener => Err(error),
        }
    }

    /// Gives the spare descriptor up to take one connection out of the queue
    /// and close it. False when that was no help.
    fn shed_with_spare(&mut self) -> bool {
        let shed = self.spare.release_while(|| rustix::net::accept(&self.listener).is_ok());
        if shed == Some(true) {
            self.counters.shed_no_descriptor.inc();
        }
        shed == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::listen::{BindOptions, bind};

    fn acceptor(cap: usize) -> (Acceptor, SocketAddr, AcceptCounters) {
        let listener = bind("127.0.0.1:0".parse().unwrap(), BindOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let counters = AcceptCounters::unregistered();
        let options = AcceptOptions { limit: ConnectionLimit::new(cap), nodelay: true };
        let listener = TcpListener::from_std(listener).unwrap();
        (Acceptor::new(listener, options, counters.clone()), address, counters)
    }

    #[tokio::test]
    async fn connections_beyond_the_cap_are_closed_and_counted() {
        let (mut acceptor, address, counters) = acceptor(1);
        let _first = TcpStream::connect(address).await.unwrap();
        let held = acceptor.accept().await.unwrap();
        assert!(held.stream.nodelay().unwrap());
        let mut second = TcpStream::connect(address).await.unwrap();
        let waiting = tokio::spawn(async move { acceptor.accept().await.map(|_| acceptor) });
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0, "closed without a byte");
        assert_eq!(counters.shed_over_limit.get(), 1);
        assert_eq!(counters.open.get(), 1);
        drop(held);
        let _third = TcpStream::connect(address).await.unwrap();
        waiting.await.unwrap().unwrap();
        assert_eq!(counters.accepted.get(), 2);
    }

    #[tokio::test]
    async fn the_spare_descriptor_sheds_one_connection() {
        let (mut acceptor, address, counters) = acceptor(8);
        let mut client = TcpStream::connect(address).await.unwrap();
        assert!(acceptor.shed_with_spare());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(counters.shed_no_descriptor.get(), 1);
        assert!(!acceptor.shed_with_spare(), "an empty queue has nothing to shed");
    }

    #[tokio::test]
    async fn a_drain_gives_all_that_are_queued_and_then_ends() {
        let (mut acceptor, address, counters) = acceptor(QUEUED);
        let clients = connect_many(address);
        let (trigger, mut shutdown) = Shutdown::channel();
        trigger.drain();
        let mut served = Vec::new();
        while let Some(accepted) = acceptor.next(&mut shutdown).await.unwrap() {
            served.push(accepted);
        }
        assert_eq!((served.len(), counters.accepted.get()), (QUEUED, QUEUED as u64));
        drop(clients);
    }

    #[tokio::test]
    async fn a_terminated_shutdown_gives_no_more() {
        let (mut acceptor, address, counters) = acceptor(QUEUED);
        let _clients = connect_many(address);
        let (trigger, mut shutdown) = Shutdown::channel();
        trigger.terminate();
        assert!(acceptor.next(&mut shutdown).await.unwrap().is_none());
        assert_eq!(counters.accepted.get(), 0);
    }

    /// More than tokio lets a task accept in one go.
    const QUEUED: usize = 300;

    /// The kernel accepts them all; nobody has to.
    fn connect_many(address: SocketAddr) -> Vec<std::net::TcpStream> {
        crate::limits::raise_open_files().unwrap();
        (0..QUEUED).map(|_| std::net::TcpStream::connect(address).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn where_shedding_is_no_help_it_rests_a_bounded_moment() {
        let (mut acceptor, _, _) = acceptor(1);
        let before = tokio::time::Instant::now();
        acceptor.recover(Errno::MFILE.into()).await.unwrap();
        assert_eq!(before.elapsed(), BACK_OFF);
    }
}
