//! Taking connections out of the kernel's queue.
//!
//! The hard part is what to do when a connection can't be taken. `accept(2)`
//! that fails for want of descriptors leaves the connection in the queue, so
//! the listener stays readable and a plain loop would spin. One spare
//! descriptor is kept to take such a connection and reset it, and where that is
//! no help, nothing is accepted for a bounded moment.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};

use crate::socket::{reset_on_close, set_options};
use crate::{ACCEPTOR, Poller};

/// How long nothing is accepted when the system is out of something. Long
/// against a turn of the loop, short against a client's patience.
const PAUSE_NS: u64 = 50_000_000;

const ACCEPTED: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening socket that a [`Poller`] watches.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    keepalive: Option<Duration>,
    spare: SpareDescriptor,
    /// Accepted sockets have the listener's options. Those that were in the
    /// queue before the options were set don't, until the queue has been empty
    /// once.
    inherits: bool,
    /// When accepting goes on, while it is paused.
    resumes_ns: Option<u64>,
}

/// What came of one attempt to accept.
#[derive(Debug)]
pub enum Accepted {
    /// A client's connection.
    Connection(OwnedFd, SocketAddr),
    /// The queue is empty.
    Nobody,
    /// One connection died in the queue; the next may be accepted.
    Aborted,
    /// No descriptor was left: one connection was reset instead.
    Shed,
    /// The system is out of something: to be called for [`Acceptor::pause`].
    Exhausted,
    /// The listener itself is broken.
    Broken(Errno),
}

impl Acceptor {
    /// An acceptor that is yet to be watched. The connections that it gives
    /// write small pieces at once, and are probed after `keepalive` of silence.
    ///
    /// # Errors
    /// When the listener is none.
    pub fn new(listener: TcpListener, keepalive: Option<Duration>) -> Result<Self, Errno> {
        set_options(&listener, keepalive)?;
        let spare = SpareDescriptor::default();
        Ok(Self { listener, keepalive, spare, inherits: false, resumes_ns: None })
    }

    /// Lets the poller report it as [`ACCEPTOR`], for as long as the queue is
    /// not empty.
    ///
    /// # Errors
    /// As [`Poller::add_level`].
    pub fn watch(&self, poller: &Poller) -> Result<(), Errno> {
        poller.add_level(&self.listener, ACCEPTOR)
    }

    /// Takes one connection out of the queue.
    pub fn accept(&mut self) -> Accepted {
        match acceptfrom_with(&self.listener, ACCEPTED) {
            Ok((socket, address)) => match address.map(SocketAddr::try_from) {
                Some(Ok(address)) => {
                    if !self.inherits {
                        // It fails on a dead socket only, which its first
                        // event reports.
                        let _ = set_options(&socket, self.keepalive);
                    }
                    Accepted::Connection(socket, address)
                }
                // Its remote vanished between the handshake and now.
                _ => Accepted::Aborted,
            },
            Err(Errno::AGAIN) => {
                self.inherits = true;
                Accepted::Nobody
            }
            Err(errno) => match AcceptFailure::of(errno) {
                AcceptFailure::Connection => Accepted::Aborted,
                AcceptFailure::Exhausted => self.shed(),
                AcceptFailure::Listener => Accepted::Broken(errno),
            },
        }
    }

    fn shed(&mut self) -> Accepted {
        match self.spare.release_while(|| accept_with(&self.listener, ACCEPTED).map(reset_on_close))
        {
            Some(Ok(())) => Accepted::Shed,
            Some(Err(Errno::AGAIN)) => Accepted::Nobody,
            Some(Err(_)) | None => Accepted::Exhausted,
        }
    }

    /// Accepts nothing for a moment.
    ///
    /// # Errors
    /// As `Poller::set_reported`.
    pub fn pause(&mut self, poller: &Poller, now_ns: u64) -> Result<(), Errno> {
        self.resumes_ns = Some(now_ns + PAUSE_NS);
        poller.set_reported(&self.listener, ACCEPTOR, false)
    }

    /// Accepts again, once the moment is over.
    ///
    /// # Errors
    /// As [`Acceptor::pause`].
    #[inline]
    pub fn resume_if_due(&mut self, poller: &Poller, now_ns: u64) -> Result<(), Errno> {
        if self.resumes_ns.is_none_or(|resumes_ns| resumes_ns > now_ns) {
            return Ok(());
        }
        self.resumes_ns = None;
        poller.set_reported(&self.listener, ACCEPTOR, true)
    }

    /// When it accepts again, if it is paused.
    #[inline]
    pub fn resumes_ns(&self) -> Option<u64> {
        self.resumes_ns
    }
}

/// A descriptor that is held only to be given up when they run out.
#[derive(Debug)]
pub struct SpareDescriptor {
    file: Option<File>,
}

impl Default for SpareDescriptor {
    fn default() -> Self {
        Self { file: Self::open() }
    }
}

impl SpareDescriptor {
    /// Gives the descriptor up for as long as `use_it` runs. `None` when it had
    /// none to give up, which it then tries to get back.
    pub fn release_while<T>(&mut self, use_it: impl FnOnce() -> T) -> Option<T> {
        let result = self.file.take().map(|file| {
            drop(file);
            use_it()
        });
        self.file = Self::open();
        result
    }

    fn open() -> Option<File> {
        File::open("/dev/null").ok()
    }
}

/// Whose trouble a failed `accept` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptFailure {
    /// That of one connection, which is gone; the next may be accepted.
    Connection,
    /// The process or the system is out of descriptors or memory.
    Exhausted,
    /// The listener's own.
    Listener,
}

impl AcceptFailure {
    /// Linux reports errors of a connection that is still in the queue as errors
    /// of `accept` (accept(2), "Error handling"), so only a few of them are
    /// about the listener.
    pub const fn of(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC => {
                Self::Exhausted
            }
            Errno::BADF | Errno::FAULT | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP => {
                Self::Listener
            }
            _ => Self::Connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt;
    use std::io::Read;
    use std::net::TcpStream;

    fn acceptor(keepalive: Option<Duration>) -> (Acceptor, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        (Acceptor::new(listener, keepalive).expect("a listener"), address)
    }

    #[test]
    fn connections_have_their_options_whenever_they_came() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        drop(TcpStream::connect(address).expect("a listener"));
        let keepalive = Some(Duration::from_secs(60));
        let mut acceptor = Acceptor::new(listener, keepalive).expect("a listener");
        for _ in 0..2 {
            let Accepted::Connection(socket, _) = acceptor.accept() else { panic!("nobody") };
            assert_eq!(sockopt::tcp_nodelay(&socket), Ok(true));
            assert_eq!(sockopt::socket_keepalive(&socket), Ok(true));
            assert_eq!(sockopt::tcp_keepidle(&socket), Ok(Duration::from_secs(60)));
            assert!(matches!(acceptor.accept(), Accepted::Nobody));
            assert!(acceptor.inherits);
            drop(TcpStream::connect(address).expect("a listener"));
        }
    }

    #[test]
    fn a_connection_is_taken_with_its_address() {
        let (mut acceptor, address) = acceptor(None);
        assert!(matches!(acceptor.accept(), Accepted::Nobody));
        let client = TcpStream::connect(address).expect("a listener");
        let Accepted::Connection(_, remote) = acceptor.accept() else { panic!("nobody") };
        assert_eq!(remote, client.local_addr().expect("an address"));
    }

    #[test]
    fn the_spare_descriptor_resets_one_connection_and_is_taken_back() {
        let (mut acceptor, address) = acceptor(None);
        let mut client = TcpStream::connect(address).expect("a listener");
        assert!(matches!(acceptor.shed(), Accepted::Shed));
        let error = client.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(acceptor.shed(), Accepted::Nobody), "the spare serves again");
        acceptor.spare.file = None;
        assert!(matches!(acceptor.shed(), Accepted::Exhausted));
        assert!(acceptor.spare.file.is_some(), "and comes back when there is one");
    }

    #[test]
    fn a_pause_is_bounded_and_nobody_is_lost_in_it() {
        let (mut acceptor, address) = acceptor(None);
        let poller = Poller::new().expect("epoll");
        acceptor.watch(&poller).expect("room");
        let _client = TcpStream::connect(address).expect("a listener");
        let is_reported = || {
            let mut events = Vec::with_capacity(1);
            poller.wait(&mut events, Some(Duration::ZERO)).expect("epoll");
            !events.is_empty()
        };
        assert!(is_reported());
        acceptor.pause(&poller, 0).expect("a listener");
        assert!(!is_reported());
        acceptor.resume_if_due(&poller, PAUSE_NS - 1).expect("a listener");
        assert_eq!(acceptor.resumes_ns(), Some(PAUSE_NS));
        acceptor.resume_if_due(&poller, PAUSE_NS).expect("a listener");
        assert!(is_reported() && acceptor.resumes_ns().is_none());
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(AcceptFailure::of(Errno::MFILE), AcceptFailure::Exhausted);
        assert_eq!(AcceptFailure::of(Errno::NOMEM), AcceptFailure::Exhausted);
        assert_eq!(AcceptFailure::of(Errno::CONNABORTED), AcceptFailure::Connection);
        assert_eq!(AcceptFailure::of(Errno::HOSTUNREACH), AcceptFailure::Connection);
        assert_eq!(AcceptFailure::of(Errno::BADF), AcceptFailure::Listener);
    }
}
